/**
 * What happened, as plain records, for the checkers beside this file to judge.
 *
 * A history is an array of records in the order in which they happened, whichever process they are of. That order is what
 * checkers go by; `atMs` (milliseconds of one clock for all processes) only tells how far apart two of them are. Revisions
 * and tokens are etcd's. Each checker takes the records that it knows and passes over the others. The kinds are in
 * records/, one file each.
 */
import type { BarrierRecord, DoubleBarrierRecord, LatchRecord } from './records/barriers.js';
import type { FaultRecord, OperationRecord, RemainsRecord } from './records/faults.js';
import type { HoldRecord } from './records/holds.js';
import type { JobRecord } from './records/jobs.js';
import type { ObserverRecord } from './records/observers.js';
import type { OwnerRecord } from './records/owners.js';
import type { RegisterRecord } from './records/registers.js';
import type { CommitRecord, WatchRecord } from './records/watches.js';

export type { CallOutcome, RegisterOperation, RegisterRecord } from './records/registers.js';
export type { BarrierRecord, DoubleBarrierRecord, LatchRecord } from './records/barriers.js';
export type { FaultRecord, Leftover, OperationRecord, RemainsRecord } from './records/faults.js';
export type { OwnerRecord } from './records/owners.js';
export type { HoldRecord, Share } from './records/holds.js';
export type { JobRecord } from './records/jobs.js';
export type { Moment } from './records/moment.js';
export type { ObserverRecord } from './records/observers.js';
export type { CommitRecord, ChangedKey, ListedKey, WatchedRange, WatchRecord } from './records/watches.js';

/** One record of a history. */
export type HistoryRecord =
  | RegisterRecord
  | HoldRecord
  | BarrierRecord
  | DoubleBarrierRecord
  | LatchRecord
  | FaultRecord
  | OperationRecord
  | RemainsRecord
  | ObserverRecord
  | CommitRecord
  | WatchRecord
  | JobRecord
  | OwnerRecord;

/** The records of one or several kinds. */
export type RecordOf<K extends HistoryRecord['is']> = Extract<HistoryRecord, { readonly is: K }>;

/** Something that cannot be, or must not. */
export interface Violation {
  /** Which rule it breaks; the names are in docs/testing.md. */
  readonly rule: string;
  /** What is wrong, in a sentence. */
  readonly message: string;
  /** The records that show it, in the order of the history. */
  readonly at: readonly HistoryRecord[];
}
