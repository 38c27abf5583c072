// Jobs of a queue.
import type { Moment } from './moment.js';

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
