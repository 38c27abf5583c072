/**
 * What happened, as plain records, for the checkers beside this file to judge.
 *
 * A history is an array of records in the order in which they happened, whichever process they are of. That order is what
 * checkers go by; `atMs` (milliseconds of one clock for all processes) only tells how far apart two of them are. Revisions
 * and tokens are etcd's. Each checker takes the records that it knows and passes over the others.
 */

/** What each record says: which process it is of, and when it was, in milliseconds of one clock. */
export interface Moment {
  readonly process: string;
  readonly atMs: number;
}

/** What a call does to its register, a key. A value of `undefined`: the key is absent. */
export type RegisterOperation =
  | { readonly is: 'read' }
  | { readonly is: 'write'; readonly value: string }
  | { readonly is: 'compareAndSet'; readonly expected: string | undefined; readonly value: string }
  | { readonly is: 'delete' };

/**
 * What came of a call. `ok`: it was done; `value` is what a read saw, `applied` whether a compareAndSet wrote or a delete
 * found something, `revision` the one that a write made or that made what a read saw (0n: absent). `void`: certainly not
 * done. `unknown`: it may be done at any later time, or never.
 */
export type CallOutcome =
  | {
      readonly is: 'ok';
      readonly value?: string | undefined;
      readonly applied?: boolean;
      readonly revision?: bigint;
    }
  | { readonly is: 'void' }
  | { readonly is: 'unknown' };

/** Calls on registers. A call without a return is one whose outcome is unknown. */
export type RegisterRecord = Moment &
  (
    | {
        readonly is: 'call';
        /** Unique in the history; the return has the same. */
        readonly call: number;
        readonly key: string;
        readonly operation: RegisterOperation;
      }
    | { readonly is: 'return'; readonly call: number; readonly outcome: CallOutcome }
  );

/**
 * Locks, elections and whatever else one holds: attempts to hold `name`, each with a number that is unique in the history.
 * `guardedWrite` stands where it was asked for; its revision is that of its commit (undefined: refused, or not known).
 * `gone`: etcd has no ticket of the attempt any more; the lease ran out, or the key was deleted (revision: of that).
 */
export type HoldRecord = Moment & { readonly name: string } & (
    | { readonly is: 'acquire'; readonly attempt: number }
    | { readonly is: 'queued'; readonly attempt: number; readonly createRevision: bigint }
    | { readonly is: 'held'; readonly attempt: number; readonly token: bigint }
    | { readonly is: 'gaveUp'; readonly attempt: number }
    | { readonly is: 'lossSignal'; readonly attempt: number }
    | { readonly is: 'release'; readonly attempt: number }
    | { readonly is: 'guardedWrite'; readonly attempt: number; readonly revision: bigint | undefined }
    | {
        readonly is: 'gone';
        readonly attempt: number;
        readonly revision?: bigint;
        /** Somebody revoked the lease, or removed the key: its holder could not be told before. */
        readonly byHand?: boolean;
      }
    /** Whose tickets etcd has at that time. */
    | { readonly is: 'tickets'; readonly attempts: readonly number[] }
  );

/** What befalls a process, and faults of all kinds, from the first of them to the last. */
export type FaultRecord = Moment &
  (
    | { readonly is: 'frozen' }
    | { readonly is: 'thawed' }
    | { readonly is: 'crashed' }
    | { readonly is: 'faultBegins' }
    | { readonly is: 'faultEnds' }
  );

/**
 * Who led, as etcd has it, and who was seen to lead. `led` stands for each change of the leader's key, `revision` is that
 * change's; `leader` is undefined where nobody led. `relisted`: the observer was cut off and read anew what is there now.
 */
export type ObserverRecord = Moment & { readonly name: string } & (
    | { readonly is: 'led'; readonly leader: string | undefined; readonly revision: bigint }
    | { readonly is: 'observed'; readonly leader: string | undefined; readonly revision: bigint }
    | { readonly is: 'relisted' }
    | { readonly is: 'observingEnds' }
  );

/**
 * Jobs. `pushed`: its revision gives its place (undefined: nobody knows whether it was pushed). `claimed`, and what becomes
 * of the claim, have a number that is unique in the history; `attempt` counts from 1. `committed`: its outcome is in etcd.
 * `claimEnds`: failed, given back, or told to be lost. `buried`: moved to the dead jobs, or removed by somebody.
 * `jobs`: those that the queue has at that time, in whatever state.
 */
export type JobRecord = Moment &
  (
    | {
        readonly is: 'pushed';
        readonly job: string;
        readonly revision: bigint | undefined;
        readonly group?: string;
        /** @default no limit */
        readonly maxAttempts?: number;
      }
    | {
        readonly is: 'claimed';
        readonly job: string;
        readonly claim: number;
        readonly attempt: number;
        readonly revision: bigint;
      }
    | { readonly is: 'committed'; readonly job: string; readonly claim: number; readonly revision: bigint }
    | { readonly is: 'claimEnds'; readonly job: string; readonly claim: number }
    | { readonly is: 'buried'; readonly job: string }
    | { readonly is: 'jobs'; readonly jobs: readonly string[] }
  );

/** One record of a history. */
export type HistoryRecord = RegisterRecord | HoldRecord | FaultRecord | ObserverRecord | JobRecord;

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
