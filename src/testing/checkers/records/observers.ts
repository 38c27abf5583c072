// Leaders, and who was seen to lead.
import type { Moment } from './moment.js';

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
