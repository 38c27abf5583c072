// Jobs of a queue.
import type { Moment } from './moment.js';

/**
 * Jobs. A job's name is unique in the history: one that is pushed under the id of another that is over has a name of its own.
 * `pushed`: its revision gives its place (undefined: nobody knows whether it was pushed). `claimed`, and what becomes
 * of the claim, have a number that is unique in the history; `attempt` counts from 1. `committed`: its outcome is in etcd.
 * `claimEnds`: failed, given back, or told to be lost. `buried`: moved to the dead jobs, or removed by somebody.
 * `jobs`: those that the queue has at that time, in whatever state. Revisions are of the writes that did it.
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
        /** Greater goes first. @default 0 */
        readonly priority?: number;
        /** Its number among those of its priority, for the rule `overtaken`; of one that is never delayed. */
        readonly place?: number;
      }
    | {
        readonly is: 'claimed';
        readonly job: string;
        readonly claim: number;
        readonly attempt: number;
        readonly revision: bigint;
      }
    | {
        readonly is: 'committed';
        readonly job: string;
        readonly claim: number;
        readonly revision: bigint;
        /** For how long the queue keeps it from now on, in milliseconds. @default 0 */
        readonly keepMs?: number;
      }
    | {
        readonly is: 'claimEnds';
        readonly job: string;
        readonly claim: number;
        /** `handedBack`: the attempt does not count. @default nobody knows */
        readonly how?: 'failed' | 'handedBack' | 'lost';
      }
    | { readonly is: 'buried'; readonly job: string; readonly revision?: bigint }
    /** A dead job waits again, with all its attempts before it. */
    | { readonly is: 'retried'; readonly job: string; readonly revision: bigint }
    /** It is to wait until it is due: at `dueMs` of the history's clock, or where it is written down that it is. */
    | { readonly is: 'delayed'; readonly job: string; readonly revision: bigint; readonly dueMs?: number }
    | { readonly is: 'due'; readonly job: string; readonly revision: bigint }
    /** Nobody may claim from that revision on, or may again. */
    | { readonly is: 'paused' | 'resumed'; readonly revision: bigint }
    | { readonly is: 'jobs'; readonly jobs: readonly string[] }
  );
