// Barriers, double barriers and latches.
import type { Moment } from './moment.js';

/**
 * A barrier that one party closes. `hold` and `wait` are numbers, each unique in the history. `closing` is the call of
 * `hold()`, `closed` its success: from there on the barrier is certainly closed, until `mayOpen`. Whoever can look into
 * etcd writes `closed` and `mayOpen` where they are committed, and the judgement is exact. Others write `closed` when they
 * are told, `mayOpen` where the release is asked for, or where a lease may end whose end opens it, and `resets` and
 * `resetEnds` around a reset, with a number of its own; without its end it may do its work at any later time.
 */
export type BarrierRecord = Moment & { readonly name: string } & (
    | { readonly is: 'closing'; readonly hold: number }
    /** The revision is that at which it was closed, its `fencingToken`. */
    | { readonly is: 'closed'; readonly hold: number; readonly revision: bigint }
    /** It was given back, or went with its lease, or (by who looks into etcd) with a reset. */
    | { readonly is: 'mayOpen'; readonly hold: number }
    | { readonly is: 'resets'; readonly reset: number }
    | { readonly is: 'resetEnds'; readonly reset: number }
    /** Its holder may have died: it stays closed, those who wait may be told `BROKEN`, and others may take it over. */
    | { readonly is: 'mayBreak'; readonly hold: number }
    | { readonly is: 'waits'; readonly wait: number }
    /** How a wait ended: it saw the barrier open, was told `BROKEN`, or was given up for whatever else. */
    | { readonly is: 'waited'; readonly wait: number; readonly outcome: 'passed' | 'broken' | 'gaveUp' }
  );

/**
 * A double barrier of `count` parties. Each try to enter has a number, `party`, unique in the history. `enters` and
 * `leaves` are calls; `entered`, `enterEnds` (it was given up) and `left` what came of them. `arrived` and `partyGone` tell
 * what etcd has of the party's key; a party that may have gone with its lease without having left needs its `partyGone`.
 * Who writes no `arrived` leaves `enterEnds` out where etcd could not be reached: the party may be there still.
 */
export type DoubleBarrierRecord = Moment & { readonly name: string } & (
    | { readonly is: 'enters'; readonly party: number; readonly count: number }
    | { readonly is: 'arrived'; readonly party: number; readonly createRevision: bigint }
    /** The round is the number that `enter()` resolved with. */
    | { readonly is: 'entered'; readonly party: number; readonly round: bigint }
    | { readonly is: 'enterEnds'; readonly party: number }
    | { readonly is: 'leaves'; readonly party: number }
    | { readonly is: 'left'; readonly party: number }
    | { readonly is: 'partyGone'; readonly party: number }
  );

/**
 * A latch of `count`. A latch that is made anew after it was deleted is another one: give it a name of its own in the
 * history. `call` is a number that is unique in the history.
 *
 * `counting` is the call of `countDown(n)`, `counted` what came of it (`void`: certainly not counted; without this record it
 * may be counted at any later time). `tally` is what etcd has: a key of that name, written with that many, once for each call. With tallies
 * the judgement is exact; without them a call counts from some moment between its two records on.
 * `latchOpen`: the key that says so was written. `latchRead`: a call of `count()`, or a `wait()`, which reads 0.
 */
export type LatchRecord = Moment & { readonly name: string } & (
    | { readonly is: 'counting'; readonly call: number; readonly count: number; readonly n: number }
    | { readonly is: 'counted'; readonly call: number; readonly outcome: 'ok' | 'void' | 'unknown' }
    | { readonly is: 'tally'; readonly key: string; readonly n: number; readonly revision: bigint }
    | { readonly is: 'latchOpen'; readonly revision: bigint }
    | { readonly is: 'latchReads'; readonly call: number; readonly count: number }
    /** It resolved with that remainder, or with nothing (a wait, or a read that failed is not written down). */
    | { readonly is: 'latchRead'; readonly call: number; readonly remaining: number }
  );
