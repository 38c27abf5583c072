/** Claiming several jobs in one transaction: the steps, what came of them, and how to find that out when the answer is lost. */
import { hasCode } from '../../errors/conclave-error.js';
import { type Compare, compare } from '../../etcd/kv/compare.js';
import type { KeyValue } from '../../etcd/kv/key-value.js';
import type { OpResult } from '../../etcd/kv/kv.js';
import { type Op, op } from '../../etcd/kv/op.js';
import type { Session } from '../../session/session.js';
import { sleep } from '../../util/abort.js';
import { backoffMs } from '../../util/backoff.js';
import { dataOf, readBodies } from '../store/bodies.js';
import type { QueueKeys } from '../store/keys.js';
import type { Claim } from './outcome.js';
import type { Candidate } from './prefetcher.js';

/** Who claims. */
export interface Claimer {
  readonly keys: QueueKeys;
  readonly workerId: string;
  /** Holds while nobody has paused the queue. */
  readonly unpaused: () => Compare;
  /** Holds while our worker's key is there: whoever cleans up after us looks only once. */
  readonly working: Compare;
}

/** A job that is ours now. */
export type Claimed =
  | { readonly is: 'ready'; readonly claim: Claim }
  /** It cannot be worked on: its data is missing, another job's, or not JSON. */
  | { readonly is: 'spoilt'; readonly claim: Claim; readonly why: unknown }
  /** Its data does not come within the time limit of a call. */
  | { readonly is: 'unreadable'; readonly claim: Claim; readonly why: unknown };

/** How often the data of a claimed job is asked for, if it does not come in time. */
const READ_TRIES = 3;

/** One step that claims each of the jobs that is still as it was seen; none while the queue is paused, or without our key. */
export function claimAll({ keys, unpaused, workerId, working }: Claimer, picks: readonly Candidate[]): Op {
  return op.txn({
    if: [unpaused(), working],
    then: picks.map(({ key, modRevision, place, claimed }) =>
      op.txn({
        if: [compare.modRevision(key, '=', modRevision)],
        then: [op.delete(key), op.put(keys.active(workerId, place), claimed), op.get(keys.body(place.id))],
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

/**
 * Finds out what came of claims whose answer is lost: those that went through have left their keys. Yields each as soon as
 * its data has come. Ends early only with the session, since jobs that are ours without our knowing it would be stuck.
 */
export async function* findClaims(
  session: Session,
  claimer: Claimer,
  picks: readonly Candidate[],
): AsyncGenerator<Claimed, void> {
  const { keys, workerId } = claimer;
  const { client } = session;
  const looks = picks.map(({ place }) => op.get(keys.active(workerId, place), { keysOnly: true }));
  const { responses } = await untilTold(session, () => client.kv.txn({ then: looks }));
  const found = picks.flatMap((pick, at) => {
    const token = valueOf(responses[at])?.createRevision;
    return token === undefined ? [] : [{ bytes: pick.record.bytes, id: pick.place.id, pick, token }];
  });
  let late = 0;
  while (found.length > 0) {
    const [first] = found;
    try {
      const bodies = await untilTold(session, () => readBodies(client, keys, found), 'late');
      for (const { pick, token } of found.splice(0, bodies.length))
        yield claimed(claimer, pick, token, bodies.shift());
      late = 0;
    } catch (error) {
      session.throwIfEnded();
      if (first === undefined || ++late < READ_TRIES) continue;
      found.shift();
      late = 0;
      yield { claim: claimOf(claimer, first.pick, first.token), is: 'unreadable', why: error };
    }
  }
}

/** Asks until etcd answers, whatever it has against us meanwhile, or until the answer is `late` if that is to be told. */
async function untilTold<R>(session: Session, ask: () => Promise<R>, orUntil?: 'late'): Promise<R> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await ask();
    } catch (error) {
      session.throwIfEnded();
      if (!hasCode(error) || (orUntil === 'late' && hasCode(error, 'DEADLINE_EXCEEDED'))) throw error;
    }
    await sleep(session.client.clock, backoffMs(attempt, { baseMs: 20 }), session.signal);
  }
}

function claimOf({ keys, workerId }: Claimer, { place, record }: Candidate, token: bigint): Claim {
  return { data: undefined, key: keys.active(workerId, place), place, record, token };
}

function claimed(claimer: Claimer, pick: Candidate, token: bigint, body: KeyValue | undefined): Claimed {
  const claim = claimOf(claimer, pick, token);
  const { data, spoilt } = dataOf(body, pick.record);
  if (spoilt !== undefined) return { claim, is: 'spoilt', why: new Error(spoilt) };
  return { claim: { ...claim, data }, is: 'ready' };
}

function valueOf(response: OpResult | undefined): KeyValue | undefined {
  return response?.type === 'get' ? response.kvs[0] : undefined;
}
