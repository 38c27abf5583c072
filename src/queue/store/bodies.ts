/** Reading jobs' data: so much at a time that a slow link carries it within the time limit of a call. */
import { hasCode } from '../../errors/conclave-error.js';
import type { Client } from '../../etcd/client.js';
import type { KeyValue } from '../../etcd/kv/key-value.js';
import { op } from '../../etcd/kv/op.js';
import type { QueueKeys } from './keys.js';
import type { StoredRecord } from './record.js';

/** How much data one answer may hold, unless that of a single job is larger: what 1 MB/s carries in a second. */
export const MOST_BODY_BYTES = 1024 * 1024;
/** etcd's limit of operations in a transaction is 128. */
const MOST_BODIES = 100;

/** A job whose data is wanted. */
export interface Wanted {
  readonly id: string;
  /** Bytes of its data; undefined when its entry does not say, as an earlier version wrote it. */
  readonly bytes: number | undefined;
}

/** How many of these jobs, the first ones, have data that one answer may hold; one at least. */
export function countWithin(wanted: readonly Wanted[], most = MOST_BODIES): number {
  let bytes = 0;
  let count = 0;
  for (const each of wanted.slice(0, most)) {
    bytes += each.bytes ?? MOST_BODY_BYTES;
    if (count > 0 && bytes > MOST_BODY_BYTES) break;
    count += 1;
  }
  return count;
}

/**
 * Reads the data of the first of these jobs, as many as one answer may hold; fewer when a larger answer does not come in
 * time. Undefined stands for data that is not there. Rejects as a read does, with `DEADLINE_EXCEEDED` when not even the
 * data of a single job comes.
 */
export async function readBodies(
  client: Client,
  keys: QueueKeys,
  wanted: readonly Wanted[],
  revision?: bigint,
): Promise<(KeyValue | undefined)[]> {
  for (let count = countWithin(wanted); ; count = Math.ceil(count / 2)) {
    const looks = wanted.slice(0, count).map(({ id }) => op.get(keys.body(id), { revision }));
    try {
      const { responses } = await client.kv.txn({ then: looks });
      return responses.map(({ kvs }) => kvs[0]);
    } catch (error) {
      if (count === 1 || !hasCode(error, 'DEADLINE_EXCEEDED')) throw error;
    }
  }
}

/** A job's data as JSON brought it here; or why it is spoilt. */
export function dataOf(
  body: KeyValue | undefined,
  { bornAt }: StoredRecord,
): { readonly data: unknown; readonly spoilt?: string } {
  const spoilt = (why: string): { data: undefined; spoilt: string } => ({ data: undefined, spoilt: why });
  if (body === undefined) return spoilt('the key with its data is missing');
  if (body.createRevision > bornAt)
    return spoilt('its data was removed; what is there belongs to a later job of the same id');
  try {
    return { data: body.json() };
  } catch (error) {
    return spoilt(`its data is not JSON: ${String(error)}`);
  }
}
