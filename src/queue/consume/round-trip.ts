/** One transaction of a consumer: what it settles, claims and reads, and what came of each, also when its answer is lost. */
import { hasCode } from '../../errors/conclave-error.js';
import type { OpResult } from '../../etcd/kv/kv.js';
import { type Op, op } from '../../etcd/kv/op.js';
import { untilAnswered } from '../../etcd/transport/until-answered.js';
import type { Session } from '../../session/session.js';
import type { Deferred } from '../../util/deferred.js';
import { encodeReturned, type Returned } from '../store/returned.js';
import type { Place, QueueKeys } from '../store/keys.js';
import { claimAll, type Claimed, type Claimer, readClaims } from './claim-txn.js';
import { type Claim, type JobOutcome, outcomes } from './outcome.js';
import type { Candidate } from './prefetcher.js';

/** A claimed job that is to be settled. */
export interface Settlement {
  readonly claim: Claim;
  readonly outcome: JobOutcome;
  readonly done: Deferred<void>;
}

/** What one transaction is to do. */
export interface Work {
  readonly settlements: readonly Settlement[];
  /** The jobs that go back to their places. */
  readonly returned: readonly Returned[];
  readonly picks: readonly Candidate[];
  readonly reads: readonly Op[];
}

/** What came of it. */
export interface Answers {
  /** For each settlement, whether the job was still ours. */
  readonly settled: readonly boolean[];
  /** Undefined: no claim was tried, since the queue is paused, or our worker's key is gone. */
  readonly claimed: readonly Claimed[] | undefined;
  readonly reads: readonly OpResult[];
}

export function stepsOf(claimer: Claimer, { picks, reads, returned, settlements }: Work): Op[] {
  const { keys } = claimer;
  return [
    ...settlements.map(({ claim, outcome }) => op.txn(outcomes.spec(keys, claim, outcome))),
    ...(picks.length > 0 ? [claimAll(claimer, picks)] : []),
    ...reads,
    ...announcements(keys, returned, settlements),
  ];
}

export function answersOf(
  claimer: Claimer,
  { settlements, picks, reads }: Work,
  answer: { readonly responses: readonly OpResult[]; readonly revision: bigint },
): Answers {
  const { responses, revision } = answer;
  const settled = settlements.map((_, at) => {
    const response = responses[at];
    return response?.type === 'txn' && response.succeeded;
  });
  const rest = responses.slice(settlements.length);
  const response = picks.length > 0 ? rest.shift() : undefined;
  const claimed = picks.length > 0 ? readClaims(claimer, picks, { response, revision }) : [];
  return { claimed, reads: rest.slice(0, reads.length), settled };
}

/**
 * For each of these settlements, which were applied at `revision` with their answer lost, whether the job was ours just
 * before. Where the past cannot be read any more, the rules say that nobody else has touched a job of ours.
 */
export async function wereOurs(
  session: Session,
  settlements: readonly Settlement[],
  revision: bigint,
): Promise<boolean[]> {
  if (settlements.length === 0) return [];
  const { client, signal } = session;
  const looks = settlements.map(({ claim }) =>
    op.get(claim.key, { keysOnly: true, revision: revision - 1n }),
  );
  try {
    const { responses } = await untilAnswered(client.clock, signal, () =>
      client.kv.txn({ then: looks }, { signal }),
    );
    return settlements.map(({ claim }, at) => {
      const response = responses[at];
      return response?.type === 'get' && response.kvs[0]?.createRevision === claim.token;
    });
  } catch (error) {
    if (hasCode(error, 'COMPACTED')) return settlements.map(() => true);
    throw error;
  }
}

/** Where the jobs are that go back to their places. */
export function requeued(settlements: readonly Settlement[]): Place[] {
  return settlements.filter(({ outcome }) => outcome.to === 'waiting').map(({ claim }) => claim.place);
}

/** Tells the other workers which jobs are back at their places, and when the next delayed one is due. */
function announcements(
  keys: QueueKeys,
  returned: readonly Returned[],
  settlements: readonly Settlement[],
): Op[] {
  const dues = settlements.flatMap(({ outcome }) => (outcome.to === 'delayed' ? [outcome.dueMs] : []));
  return [
    ...(returned.length > 0 ? [op.put(keys.back, encodeReturned(returned))] : []),
    ...(dues.length > 0 ? [op.put(keys.due, String(Math.min(...dues)))] : []),
  ];
}
