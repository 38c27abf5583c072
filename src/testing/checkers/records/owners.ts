// Partitions and who owns them, and ticks of schedules.
import type { Moment } from './moment.js';

/**
 * Who owns a partition of `name`. A tenure is known by its partition and its fencing token. `owned` stands where its owner is told,
 * `disowned` where it is told that it is over, or gives it back. `ownedWrite`: a write under that token was committed.
 * `ticked`: a process ran that tick of the schedule `name`; a tick is named by its time, or whatever is the same for all.
 */
export type OwnerRecord = Moment & { readonly name: string } & (
    | { readonly is: 'owned'; readonly partition: string; readonly token: bigint }
    | { readonly is: 'disowned'; readonly partition: string; readonly token: bigint }
    | {
        readonly is: 'ownedWrite';
        readonly partition: string;
        readonly token: bigint;
        readonly revision: bigint;
      }
    | { readonly is: 'ticked'; readonly tick: string }
  );
