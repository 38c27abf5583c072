import type { Client, KeyValue } from 'conclave';

/** What a client has read: how many requests, and every key of the answers. */
export interface Reads {
  requests: number;
  readonly kvs: KeyValue[];
}

/** Notes what the client reads from now on. */
export function countReads(client: Client): Reads {
  const reads: Reads = { kvs: [], requests: 0 };
  const { kv } = client;
  const [range, txn] = [kv.range.bind(kv), kv.txn.bind(kv)];
  kv.range = async (...args) => {
    const result = await range(...args);
    reads.requests += 1;
    reads.kvs.push(...result.kvs);
    return result;
  };
  kv.txn = (async (...args: Parameters<typeof txn>) => {
    const result = await txn(...args);
    reads.requests += 1;
    for (const each of result.responses) if (each.type === 'get') reads.kvs.push(...each.kvs);
    return result;
  }) as typeof kv.txn;
  return reads;
}
