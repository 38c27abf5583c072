// Locks, elections and whatever else one holds.
import type { Moment } from './moment.js';

/**
 * What is asked for, where not one alone may hold it. Neither of them: the whole of it, as a Mutex and Go's clients do.
 * Say it where the attempt begins (`acquire`), or where it is held.
 */
export interface Share {
  /** Of a read-write lock: `read` may be held beside other readers. */
  readonly mode?: 'read' | 'write';
  /** Of a semaphore: how many permits. */
  readonly weight?: number;
}

/**
 * Locks, elections and whatever else one holds: attempts to hold `name`, each with a number that is unique in the history.
 * `guardedWrite` stands where it was asked for; its revision is that of its commit (undefined: refused, or not known).
 * `gone`: etcd has no ticket of the attempt any more; the lease ran out, or the key was deleted (revision: of that).
 *
 * An upgrade and a downgrade are attempts of their own, which say by `from` whose ticket they go on with. The old attempt
 * ends where the new one is held; a write lock already where its downgrade is asked for: write its `release` there.
 */
export type HoldRecord = Moment & { readonly name: string } & (
    | (Share & {
        readonly is: 'acquire';
        readonly attempt: number;
        /** The attempt that is upgraded or downgraded. */
        readonly from?: number;
      })
    | { readonly is: 'queued'; readonly attempt: number; readonly createRevision: bigint }
    | (Share & { readonly is: 'held'; readonly attempt: number; readonly token: bigint })
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
    /** A semaphore's limit, where etcd has it from now on, by the write of that revision; undefined: none is agreed. */
    | { readonly is: 'limit'; readonly limit: number | undefined; readonly revision: bigint }
    /** Whose tickets etcd has at that time. */
    | { readonly is: 'tickets'; readonly attempts: readonly number[] }
  );
