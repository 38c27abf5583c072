/**
 * What an earlier life of a resumed lease has left and nobody can take up again.
 *
 * A key whose last part is the lease (a mutex's, a candidacy's) is found by the next life, which makes it its own. A key of
 * one use has a last part that nobody knows any more, `<lease>-<id>`: as the lease is kept alive it would stand in line
 * for ever. So it is removed when the lease is resumed, and so is a request that stands beside a line for such a key.
 */
import { hasCode } from '../errors/conclave-error.js';
import type { Client } from '../etcd/client.js';
import { compare } from '../etcd/kv/compare.js';
import type { KeyValue } from '../etcd/kv/key-value.js';
import { op } from '../etcd/kv/op.js';
import { leaseHex } from '../etcd/lease/lease.js';
import type { CallOptions } from '../etcd/transport/call.js';
import { toText } from '../util/bytes.js';

/** So many keys in one transaction: etcd takes 128 operations, those of a nested transaction and of the one around it together. */
const MOST_KEYS = 100;

/**
 * Removes the keys of one use that are bound to the lease. Resolves once they are gone, or when we may not read what the
 * lease has. Rejects as calls do.
 */
export async function removeKeysOfOneUse(
  client: Client,
  leaseId: bigint,
  limits: CallOptions,
): Promise<void> {
  const keys = await keysOf(client, leaseId, limits);
  for (let from = 0; from < keys.length; from += MOST_KEYS) {
    const gets = keys.slice(from, from + MOST_KEYS).map((key) => op.get(key));
    const { responses } = await client.kv.txn({ then: gets }, limits);
    const found = responses.flatMap(({ kvs }) => kvs);
    const removals = found
      .filter((kv) => kv.leaseId === leaseId && isOfOneUse(kv, leaseId))
      .map((kv) => {
        const same = compare.modRevision(kv.keyBytes, '=', kv.modRevision);
        return op.txn({ if: [same], then: [op.delete(kv.keyBytes)] });
      });
    if (removals.length > 0) await client.kv.txn({ then: removals }, { ...limits, idempotent: true });
  }
}

/** Those of the lease's keys that may be of one use, by their names. */
async function keysOf(client: Client, leaseId: bigint, limits: CallOptions): Promise<readonly Buffer[]> {
  try {
    const { keys } = await client.lease.timeToLive(leaseId, { ...limits, keys: true });
    return keys.filter((key) => {
      const text = toText(key);
      return endsInOneUse(text, leaseId) || isBeside(text);
    });
  } catch (error) {
    if (hasCode(error, 'PERMISSION_DENIED')) return [];
    throw error;
  }
}

function isOfOneUse(kv: KeyValue, leaseId: bigint): boolean {
  return endsInOneUse(kv.key, leaseId) || (isBeside(kv.key) && endsInOneUse(ticketOf(kv), leaseId));
}

/** Whether a key is `…/<lease>-<id>`. */
function endsInOneUse(key: string, leaseId: bigint): boolean {
  const last = key.slice(key.lastIndexOf('/') + 1);
  const own = `${leaseHex(leaseId)}-`;
  return last.startsWith(own) && /^[\w-]{12,}$/.test(last.slice(own.length));
}

/** Whether a key stands beside a line: `name.~something`. */
function isBeside(key: string): boolean {
  return key.includes('.~', key.lastIndexOf('/') + 1);
}

/** The key in line for which a key beside it stands. */
function ticketOf(kv: KeyValue): string {
  try {
    const { ticket } = kv.json<{ readonly ticket?: unknown }>();
    return typeof ticket === 'string' ? ticket : '';
  } catch {
    return '';
  }
}
