// Calls on registers, and what came of them.
import type { Moment } from './moment.js';

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
