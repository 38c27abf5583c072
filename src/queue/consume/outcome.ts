/** A claim, and what can become of the job that was claimed: done, requeued, delayed, dead. */
import { type Compare, compare } from '../../etcd/kv/compare.js';
import { type Op, op, type TxnSpec } from '../../etcd/kv/op.js';
import type { QueueKeys, Place } from '../store/keys.js';
import { encodeRecord, type JobRecord, retryDelayMs, type StoredRecord, withError } from '../store/record.js';

/** A job that is ours. */
export interface Claim {
  readonly place: Place;
  /** Of the entry that says so. Nobody but us writes it while our worker's key is there. */
  readonly key: string;
  /** The entry's create revision. */
  readonly token: bigint;
  /** Counts this attempt already. */
  readonly record: StoredRecord;
  /** The job's data. */
  readonly data: unknown;
}

/** What becomes of a job that is settled. */
export type JobOutcome =
  | { readonly to: 'done' }
  /** Done, and kept until then with its data, so that its id is not used again. */
  | { readonly to: 'kept'; readonly record: JobRecord; readonly untilMs: number }
  /** Requeued: back at its old place. */
  | { readonly to: 'waiting'; readonly record: JobRecord }
  | { readonly to: 'delayed'; readonly record: JobRecord; readonly dueMs: number }
  | { readonly to: 'dead'; readonly record: JobRecord };

/** How a failed attempt ends. */
export interface FailureOptions {
  /** Wait this long before the next attempt; 0: at once, at its old place. @default the job's backoff */
  readonly delayMs?: number | undefined;
  /** No more attempts: the job is dead now. @default false */
  readonly final?: boolean | undefined;
}

/** The outcomes of a claimed job. */
export const outcomes = {
  /** The steps that do it, in a transaction that must only be done while the claim is there. */
  steps(keys: QueueKeys, claim: Claim, outcome: JobOutcome): Op[] {
    const { place } = claim;
    const gone = op.delete(claim.key);
    switch (outcome.to) {
      case 'done':
        return [gone, ownData(keys, claim, (body) => op.delete(body))];
      case 'kept':
        return [
          gone,
          op.put(keys.done(outcome.untilMs, place), encodeRecord(outcome.record)),
          // Its version says that it is done, see commit.ts.
          ownData(keys, claim, (body) => op.put(body, '', { ignoreValue: true })),
        ];
      case 'waiting':
        return [gone, op.put(keys.waiting(place), encodeRecord(outcome.record))];
      case 'delayed':
        return [gone, op.put(keys.delayed(outcome.dueMs, place), encodeRecord(outcome.record))];
      case 'dead':
        return [gone, op.put(keys.dead(place), encodeRecord(outcome.record))];
    }
  },

  /** As `steps`, with the condition. */
  spec(keys: QueueKeys, claim: Claim, outcome: JobOutcome): TxnSpec {
    return { if: [claimThere(claim)], then: outcomes.steps(keys, claim, outcome) };
  },

  /** The job is done: it goes, or is kept for a while. */
  done({ record }: Claim, wallMs: number): JobOutcome {
    const { keepDoneMs } = record;
    if (keepDoneMs === undefined) return { to: 'done' };
    return { record, to: 'kept', untilMs: Math.ceil(wallMs + keepDoneMs) };
  },

  /** Unharmed back to its place: the attempt does not count. */
  released({ record }: Claim): JobOutcome {
    return { record: { ...record, attempts: record.attempts - 1 }, to: 'waiting' };
  },

  /** The attempt failed: another one after a while, or none. */
  failed(claim: Claim, error: unknown, wallMs: number, options: FailureOptions = {}): JobOutcome {
    const record = withError(claim.record, error, wallMs);
    if (options.final === true || record.attempts >= record.maxAttempts) return { record, to: 'dead' };
    const delayMs = options.delayMs ?? retryDelayMs(record);
    return delayMs === 0
      ? { record, to: 'waiting' }
      : { dueMs: Math.ceil(wallMs + delayMs), record, to: 'delayed' };
  },

  /** Its data is missing, another job's, or not JSON: somebody meddled with it. */
  spoilt(claim: Claim, why: unknown, wallMs: number): JobOutcome {
    return { record: withError(claim.record, why, wallMs), to: 'dead' };
  },
};

function claimThere(claim: Claim): Compare {
  return compare.createRevision(claim.key, '=', claim.token);
}

/** Does something with the job's data, if it is there, and not with that of a later job of the same id, pushed after somebody had removed ours by hand. */
function ownData(keys: QueueKeys, { place, record }: Claim, step: (body: string) => Op): Op {
  const body = keys.body(place.id);
  const isOurs = [compare.exists(body), compare.createRevision(body, '<', record.bornAt + 1n)];
  return op.txn({ if: isOurs, then: [step(body)] });
}
