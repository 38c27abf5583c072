import { type Compare, compare } from '../etcd/compare.js';
import { type Op, op, type TxnSpec } from '../etcd/op.js';
import type { Layout, Place } from './layout.js';
import { encodeRecord, type JobRecord, retryDelayMs, withError } from './record.js';

/** A job that is ours. */
export interface Claim {
  readonly place: Place;
  /** Of the entry that says so. Nobody but us writes it while our worker's key is there. */
  readonly key: string;
  /** The entry's create revision. */
  readonly token: bigint;
  /** Counts this attempt already. */
  readonly record: JobRecord;
  /** The job's data. */
  readonly data: unknown;
}

/** What becomes of a job that is handed in. */
export type Ending =
  | { readonly to: 'done' }
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

/** The ways a claimed job can be handed in. */
export const endings = {
  /** The steps that do it, in a transaction that must only be done while the claim is there. */
  steps(layout: Layout, claim: Claim, ending: Ending): Op[] {
    const { place } = claim;
    const gone = op.delete(claim.key);
    switch (ending.to) {
      case 'done':
        return [gone, op.delete(layout.body(place.id))];
      case 'waiting':
        return [gone, op.put(layout.waiting(place), encodeRecord(ending.record))];
      case 'delayed':
        return [gone, op.put(layout.delayed(ending.dueMs, place), encodeRecord(ending.record))];
      case 'dead':
        return [gone, op.put(layout.dead(place), encodeRecord(ending.record))];
    }
  },

  /** As `steps`, with the condition. */
  spec(layout: Layout, claim: Claim, ending: Ending): TxnSpec {
    return { if: [claimThere(claim)], then: endings.steps(layout, claim, ending) };
  },

  /** Unharmed back to its place: the attempt does not count. */
  back({ record }: Claim): Ending {
    return { record: { ...record, attempts: record.attempts - 1 }, to: 'waiting' };
  },

  /** The attempt failed: another one after a while, or none. */
  failed(claim: Claim, error: unknown, wallMs: number, options: FailureOptions = {}): Ending {
    const record = withError(claim.record, error, wallMs);
    if (options.final === true || record.attempts >= record.maxAttempts) return { record, to: 'dead' };
    const delayMs = options.delayMs ?? retryDelayMs(record);
    return delayMs === 0
      ? { record, to: 'waiting' }
      : { dueMs: Math.ceil(wallMs + delayMs), record, to: 'delayed' };
  },

  /** Its data is missing or not JSON: somebody meddled with it. */
  spoilt(claim: Claim, why: unknown, wallMs: number): Ending {
    return { record: withError(claim.record, why, wallMs), to: 'dead' };
  },
};

function claimThere(claim: Claim): Compare {
  return compare.createRevision(claim.key, '=', claim.token);
}
