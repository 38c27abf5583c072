/** Appending jobs that are in another state: delayed ones that are due, dead ones that are to be tried again. */
import { hasCode } from '../../errors/conclave-error.js';
import type { Client } from '../../etcd/client.js';
import { type Compare, compare } from '../../etcd/kv/compare.js';
import type { KeyValue } from '../../etcd/kv/key-value.js';
import { op, type TxnSpec } from '../../etcd/kv/op.js';
import type { Entry } from '../store/batches.js';
import type { Outcome } from '../store/fenced-writer.js';
import type { QueueKeys } from '../store/keys.js';
import type { Sequences } from './sequences.js';

/** How entries are moved. */
export interface Moving {
  readonly client: Client;
  readonly layout: QueueKeys;
  readonly sequences: Sequences;
  /** Does the transaction, once. */
  readonly run: (spec: TxnSpec) => Promise<Outcome>;
  /** What must hold beside for an entry to move. */
  readonly also?: (entry: Entry) => Compare;
  /** The entry's value once the job waits. */
  readonly value: (kv: KeyValue) => string | Uint8Array;
}

/**
 * Appends jobs to their priorities, except those that somebody else has moved. Resolves with how many were appended.
 * There are no more of them than fit into one transaction.
 */
export async function append(entries: readonly Entry[], moving: Moving): Promise<number> {
  const { also, client, layout, run, sequences, value } = moving;
  const jobs = entries.map((entry) => ({
    at: (number: number) => ({
      if: [sameEntry(entry), ...(also === undefined ? [] : [also(entry)])],
      then: [
        op.delete(entry.kv.keyBytes),
        op.put(layout.waiting({ ...entry.place, number }), value(entry.kv)),
      ],
    }),
    priority: entry.place.priority,
    waits: true,
  }));
  return countDone(client, entries, await sequences.append(jobs, run));
}

/** Holds while an entry is as it was read. */
export function sameEntry({ kv }: Entry): Compare {
  return compare.modRevision(kv.keyBytes, '=', kv.modRevision);
}

/** For how many entries a transaction did something: an answer for each says so; or the past, when they are lost. */
export async function countDone(
  client: Client,
  entries: readonly Entry[],
  outcome: Outcome,
): Promise<number> {
  if (outcome.is === 'refused') return 0;
  if (outcome.is === 'applied')
    return outcome.responses.filter((answer) => answer.type === 'txn' && answer.succeeded).length;
  try {
    return await countUnmoved(client, entries, outcome.revision - 1n);
  } catch (error) {
    // The past is gone. They were there a moment before, so it was most likely all of them.
    if (hasCode(error, 'COMPACTED')) return entries.length;
    throw error;
  }
}

/** How many of them were, at a revision, as they were read. */
async function countUnmoved(client: Client, entries: readonly Entry[], revision: bigint): Promise<number> {
  const looks = entries.map(({ kv }) => op.get(kv.keyBytes, { keysOnly: true, revision }));
  const { responses } = await client.kv.txn({ then: looks });
  return entries.filter(({ kv }, at) => {
    const answer = responses[at];
    return answer?.type === 'get' && answer.kvs[0]?.modRevision === kv.modRevision;
  }).length;
}
