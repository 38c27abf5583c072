/** Removing jobs that are over: dead ones, and those that are done and have been kept long enough. */
import type { Client } from '../../etcd/client.js';
import { type Compare, compare } from '../../etcd/kv/compare.js';
import { type Op, op, type TxnSpec } from '../../etcd/kv/op.js';
import { sameEntry } from './append.js';
import { batches, type Entry, pages } from '../store/batches.js';
import type { QueueKeys } from '../store/keys.js';
import { decodeRecord } from '../store/record.js';

/** Holds while the data that is there, if any, is this job's, and not that of a later one of the same id. */
export function isOwnData(layout: QueueKeys, { kv, place }: Entry): Compare {
  return compare.createRevision(layout.body(place.id), '<', decodeRecord(kv).bornAt + 1n);
}

/** Removes an entry with its data, if nobody has changed it since it was read. */
export function removal(layout: QueueKeys, entry: Entry): Op {
  const data = op.txn({ if: [isOwnData(layout, entry)], then: [op.delete(layout.body(entry.place.id))] });
  return op.txn({ if: [sameEntry(entry)], then: [op.delete(entry.kv.keyBytes), data] });
}

/** Whose jobs are forgotten, and how. */
export interface Forgetting {
  readonly client: Client;
  readonly layout: QueueKeys;
  /** Does the transaction, once. */
  readonly run: (spec: TxnSpec) => Promise<unknown>;
  /** Only these. @default all */
  readonly ids?: ReadonlySet<string> | undefined;
}

/** Removes the jobs that are done and were to be kept until `nowMs` at most. Resolves with the ids of those it found. */
export async function forgetDone(
  { client, ids, layout, run }: Forgetting,
  nowMs: number,
): Promise<Set<string>> {
  const found = new Set<string>();
  for await (const kvs of pages(client, layout.doneBefore(nowMs))) {
    for (const batch of batches(layout, 'done', kvs)) {
      const meant = batch.filter(({ place }) => ids?.has(place.id) ?? true);
      for (const { place } of meant) found.add(place.id);
      if (meant.length > 0) await run({ then: meant.map((entry) => removal(layout, entry)) });
    }
  }
  return found;
}
