// Processes, and what befalls them.
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
