import { hasCode } from '../errors/conclave-error.js';
import type { Client } from '../etcd/client.js';
import { type Compare, compare } from '../etcd/compare.js';
import type { KeyValue } from '../etcd/key-value.js';
import type { OpResult } from '../etcd/kv.js';
import { type Op, op, type TxnSpec } from '../etcd/op.js';
import type { Entry } from './batches.js';
import type { Outcome } from './lane.js';
import type { Layout } from './layout.js';

/** A job that is to line up. */
export interface Append {
  readonly priority: number;
  /** The transaction within the transaction that lines it up with this number. */
  readonly at: (number: number) => TxnSpec;
}

/** A transaction that lines jobs up, as far as this room is concerned. */
export interface AppendPlan {
  readonly if: readonly Compare[];
  readonly then: readonly Op[];
  readonly else: readonly Op[];
  /** How many responses come before those of the jobs. */
  readonly lead: number;
  readonly next: ReadonlyMap<number, number>;
}

interface Tail {
  readonly modRevision: bigint;
  readonly next: number;
}

/**
 * Gives out the numbers of the waiting lines. The transaction that uses numbers is the one that counts them up, guarded by
 * the tail's revision: so numbers are in the order of the commits, and nobody's number appears behind a worker's back.
 */
export class Tails {
  readonly #layout: Layout;
  readonly #known = new Map<number, Tail>();

  constructor(layout: Layout) {
    this.#layout = layout;
  }

  /** Lines the jobs up, in this order, by what is known of the tails. */
  plan(jobs: readonly Append[]): AppendPlan {
    const next = new Map<number, number>();
    const steps: Op[] = [];
    for (const { priority, at } of jobs) {
      const number = next.get(priority) ?? this.#tail(priority).next;
      next.set(priority, number + 1);
      steps.push(op.txn(at(number)));
    }
    const tails = [...next].map(([priority, count]) => ({
      count,
      key: this.#layout.tail(priority),
      priority,
    }));
    return {
      else: tails.map(({ key }) => op.get(key)),
      if: tails.map(({ key, priority }) => compare.modRevision(key, '=', this.#tail(priority).modRevision)),
      lead: tails.length,
      next,
      then: [...tails.map(({ count, key }) => op.put(key, String(count))), ...steps],
    };
  }

  /** The plan was applied at this revision. */
  applied(plan: AppendPlan, revision: bigint): void {
    for (const [priority, next] of plan.next) this.#known.set(priority, { modRevision: revision, next });
  }

  /** Somebody else counted up before: these are the answers of `else`. */
  refused(plan: AppendPlan, responses: readonly OpResult[]): void {
    let at = 0;
    for (const priority of plan.next.keys()) {
      const response = responses[at++];
      const kv = response?.type === 'get' ? response.kvs[0] : undefined;
      this.#known.set(priority, { modRevision: kv?.modRevision ?? 0n, next: Number(kv?.string() ?? 0) });
    }
  }

  #tail(priority: number): Tail {
    return this.#known.get(priority) ?? { modRevision: 0n, next: 0 };
  }
}

/** What moves to the end of the waiting line. */
export interface Moving {
  readonly client: Client;
  readonly layout: Layout;
  readonly tails: Tails;
  /** Runs the transaction, whose conditions keep it from being applied twice. */
  readonly run: (spec: TxnSpec) => Promise<Outcome>;
  /** What must hold beside for an entry to move. */
  readonly also?: (entry: Entry) => Compare;
  /** The entry's value once the job waits. */
  readonly value: (kv: KeyValue) => string | Uint8Array;
}

/** Lines up jobs that were in another state, unless somebody else has moved them. Resolves with how many have moved. */
export async function lineUp(batch: readonly Entry[], moving: Moving): Promise<number> {
  const { client, layout, tails } = moving;
  let entries = batch;
  while (entries.length > 0) {
    const plan = tails.plan(
      entries.map((entry) => ({
        at: (number) => ({
          if: [sameEntry(entry), ...(moving.also === undefined ? [] : [moving.also(entry)])],
          then: [
            op.delete(entry.kv.keyBytes),
            op.put(layout.waiting({ ...entry.place, number }), moving.value(entry.kv)),
          ],
        }),
        priority: entry.place.priority,
      })),
    );
    const outcome = await moving.run({ else: plan.else, if: plan.if, then: plan.then });
    if (outcome.is !== 'refused') {
      tails.applied(plan, outcome.revision);
      return countDone(client, entries, outcome, plan.lead);
    }
    tails.refused(plan, outcome.responses);
    // Somebody counted up, perhaps to line up some of these very jobs: go on with those that are still there.
    entries = await remaining(client, entries);
  }
  return 0;
}

/** Holds while an entry is as it was read. */
export function sameEntry({ kv }: Entry): Compare {
  return compare.modRevision(kv.keyBytes, '=', kv.modRevision);
}

/** For how many entries a transaction did something: an answer for each, after `lead` others, says so; or the past, when the answers are lost. */
export async function countDone(
  client: Client,
  entries: readonly Entry[],
  outcome: Exclude<Outcome, { readonly is: 'refused' }>,
  lead: number,
): Promise<number> {
  if (outcome.is === 'applied') {
    const answers = outcome.responses.slice(lead);
    return answers.filter((answer) => answer.type === 'txn' && answer.succeeded).length;
  }
  try {
    return (await remaining(client, entries, outcome.revision - 1n)).length;
  } catch (error) {
    // The past is gone. They were there a moment before, so it was most likely all of them.
    if (hasCode(error, 'COMPACTED')) return entries.length;
    throw error;
  }
}

/** Those that are, or were at a revision, as they were read. */
async function remaining(client: Client, entries: readonly Entry[], revision?: bigint): Promise<Entry[]> {
  const looks = entries.map(({ kv }) => op.get(kv.keyBytes, { keysOnly: true, revision }));
  const { responses } = await client.kv.txn({ then: looks });
  return entries.filter(({ kv }, at) => {
    const answer = responses[at];
    return answer?.type === 'get' && answer.kvs[0]?.modRevision === kv.modRevision;
  });
}
