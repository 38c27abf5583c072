/**
 * The comparison: waiters that each open a watch from their read's revision, as Go's `concurrency.Mutex` does. Its
 * algorithm step by step, on grpc-js with nothing in between:
 *   lock    Txn: create `name/<lease>`, read the first of the line; first: done. Else, until nobody is ahead:
 *           read the last key created before ours, watch it from that read's revision until it is deleted.
 *           Then read our own key.
 *   unlock  delete our key.
 */
import { RawEtcd } from '../lib/raw-etcd.js';
import { services } from '#conclave/proto/services.js';
import type { Contender, MakeRing } from './ring.js';

interface Base {
  readonly etcd: RawEtcd;
  readonly prefix: Buffer;
  readonly prefixEnd: Buffer;
  readonly stopped: Promise<never>;
}

export const asGo: MakeRing = async (endpoint, name, size) => {
  const etcd = new RawEtcd(endpoint);
  let stop = (): void => undefined;
  const stopped = new Promise<never>((_, reject) => {
    stop = () => reject(new Error('stopped'));
  });
  stopped.catch(() => undefined);
  const base = { etcd, prefix: Buffer.from(`${name}/`), prefixEnd: Buffer.from(`${name}0`), stopped };
  const leases = await Promise.all(
    Array.from({ length: size }, async () => (await etcd.call(services.Lease.LeaseGrant, { TTL: 60n })).ID),
  );
  return {
    async close() {
      await Promise.all(leases.map((ID) => etcd.call(services.Lease.LeaseRevoke, { ID })));
      etcd.close();
    },
    contenders: leases.map((lease) => contender(base, lease)),
    stop,
  };
};

function contender(base: Base, lease: bigint): Contender {
  const { etcd, prefix, stopped } = base;
  const key = Buffer.from(`${prefix.toString()}${lease.toString(16)}`);
  return {
    async lock() {
      const { mine, first, revision } = await enter(base, key, lease);
      if (first === mine) return revision;
      await Promise.race([waitForTurn(base, mine), stopped]);
      const own = await etcd.call(services.KV.Range, { key });
      if (own.kvs.length === 0) throw new Error('our key is gone');
      return own.header?.revision ?? 0n;
    },
    async unlock() {
      await etcd.call(services.KV.DeleteRange, { key });
    },
  };
}

async function enter(
  { etcd, prefix, prefixEnd }: Base,
  key: Buffer,
  lease: bigint,
): Promise<{ mine: bigint; first: bigint | undefined; revision: bigint }> {
  const first = {
    requestRange: { key: prefix, limit: 1n, rangeEnd: prefixEnd, sortOrder: 'ASCEND', sortTarget: 'CREATE' },
  } as const;
  const reply = await etcd.call(services.KV.Txn, {
    compare: [{ createRevision: 0n, key, result: 'EQUAL', target: 'CREATE' }],
    failure: [{ requestRange: { key } }, first],
    success: [{ requestPut: { key, lease } }, first],
  });
  const revision = reply.header?.revision ?? 0n;
  const found = reply.responses[0]?.responseRange?.kvs[0]?.createRevision ?? 0n;
  return {
    first: reply.responses[1]?.responseRange?.kvs[0]?.createRevision,
    mine: reply.succeeded ? revision : found,
    revision,
  };
}

async function waitForTurn({ etcd, prefix, prefixEnd }: Base, mine: bigint): Promise<void> {
  for (;;) {
    const ahead = await etcd.call(services.KV.Range, {
      key: prefix,
      limit: 1n,
      maxCreateRevision: mine - 1n,
      rangeEnd: prefixEnd,
      sortOrder: 'DESCEND',
      sortTarget: 'CREATE',
    });
    const [last] = ahead.kvs;
    if (last === undefined) return;
    await deleted(etcd, last.key, ahead.header?.revision ?? 0n);
  }
}

async function deleted(etcd: RawEtcd, key: Buffer, fromRevision: bigint): Promise<void> {
  let done = (): void => undefined;
  const gone = new Promise<void>((resolve) => {
    done = resolve;
  });
  const cancel = await etcd.watch(key, fromRevision, (events) => {
    if (events.some((event) => event.type === 'DELETE')) done();
  });
  await gone;
  cancel();
}
