// Processes, what they do, what befalls them, and what is left of them.
import type { Moment } from './moment.js';

/** What befalls a process, and faults of all kinds, from the first of them to the last. */
export type FaultRecord = Moment &
  (
    | { readonly is: 'frozen' }
    | { readonly is: 'thawed' }
    | { readonly is: 'crashed' }
    | { readonly is: 'faultBegins' }
    | { readonly is: 'faultEnds' }
  );

/** Any operation of a process, with a number that is unique in the history; and the end of its program (`stopped`). */
export type OperationRecord = Moment &
  (
    | { readonly is: 'began'; readonly operation: number; readonly what: string }
    /** It returned. `ok`: with what it was to bring; else it was refused, or failed. */
    | { readonly is: 'ended'; readonly operation: number; readonly ok: boolean }
    | { readonly is: 'stopped' }
  );

/** What may be left at the end. */
export type Leftover = 'processes' | 'keys' | 'leases' | 'timers' | 'listeners' | 'handles';

/** What was found when somebody looked. The last look of each kind by each process counts. */
export type RemainsRecord = Moment & {
  readonly is: 'remains';
  readonly kind: Leftover;
  readonly names: readonly string[];
};
