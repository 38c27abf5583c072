/** Claiming several jobs in one transaction: the steps, and what came of them. */
import { hasCode } from '../errors/conclave-error.js';
import { type Compare, compare } from '../etcd/compare.js';
import type { KeyValue } from '../etcd/key-value.js';
import type { OpResult } from '../etcd/kv.js';
import { type Op, op } from '../etcd/op.js';
import type { Session } from '../session/session.js';
import { sleep } from '../util/abort.js';
import { backoffMs } from '../util/backoff.js';
import type { Claim } from './claim.js';
import type { Layout } from './layout.js';
import type { Candidate } from './picker.js';

/** Who claims. */
export interface Claimer {
  readonly layout: Layout;
  readonly member: string;
  /** Holds while our worker's key is there: whoever cleans up after us looks only once. */
  readonly working: Compare;
}

/** A job that is ours now. */
export interface Claimed {
  readonly claim: Claim;
  /** Why it cannot be worked on: its data is missing or not JSON. */
  readonly spoilt?: unknown;
}

/** One step that claims each of the jobs that is still as it was seen; none while the queue is paused, or without our key. */
export function claimAll({ layout, member, working }: Claimer, picks: readonly Candidate[]): Op {
  return op.txn({
    if: [compare.missing(layout.paused), working],
    then: picks.map(({ key, modRevision, place, claimed }) =>
      op.txn({
        if: [compare.modRevision(key, '=', modRevision)],
        then: [op.delete(key), op.put(layout.active(member, place), claimed), op.get(layout.body(place.id))],
      }),
    ),
  });
}

/** Reads the answer to `claimAll`. Undefined: nothing was tried. */
export function readClaims(
  claimer: Claimer,
  picks: readonly Candidate[],
  answer: { readonly response: OpResult | undefined; readonly revision: bigint },
): Claimed[] | undefined {
  const { response, revision } = answer;
  if (response?.type !== 'txn' || !response.succeeded) return undefined;
  return picks.flatMap((pick, at) => {
    const each = response.responses[at];
    if (each?.type !== 'txn' || !each.succeeded) return [];
    return [claimed(claimer, pick, revision, valueOf(each.responses[2]))];
  });
}

/** Finds out what came of claims whose answer is lost: those that went through have left their keys. */
export async function findClaims(
  session: Session,
  claimer: Claimer,
  picks: readonly Candidate[],
): Promise<Claimed[]> {
  if (picks.length === 0) return [];
  const { layout, member } = claimer;
  const steps = picks.flatMap(({ place }) => [
    op.get(layout.active(member, place), { keysOnly: true }),
    op.get(layout.body(place.id)),
  ]);
  for (let attempt = 0; ; attempt++) {
    try {
      const { responses } = await session.client.kv.txn({ then: steps });
      return picks.flatMap((pick, at) => {
        const active = valueOf(responses[2 * at]);
        if (active === undefined) return [];
        return [claimed(claimer, pick, active.createRevision, valueOf(responses[2 * at + 1]))];
      });
    } catch (error) {
      // Jobs that are ours without our knowing it would be stuck: only the end of the session ends this.
      session.throwIfEnded();
      if (!hasCode(error)) throw error;
    }
    await sleep(session.client.clock, backoffMs(attempt, { baseMs: 20 }), session.signal);
  }
}

function claimed(
  { layout, member }: Claimer,
  pick: Candidate,
  token: bigint,
  body: KeyValue | undefined,
): Claimed {
  const { place, record } = pick;
  const claim = { data: undefined, key: layout.active(member, place), place, record, token };
  if (body === undefined) return { claim, spoilt: new Error('the key with its data is missing') };
  try {
    return { claim: { ...claim, data: body.json() } };
  } catch (error) {
    return { claim, spoilt: error };
  }
}

function valueOf(response: OpResult | undefined): KeyValue | undefined {
  return response?.type === 'get' ? response.kvs[0] : undefined;
}
