/** Tells whoever listens (util/channels.ts) that something is asked for, and what became of it. */
import type { AnySession } from '../session/sessions.js';
import { trace } from '../util/channels.js';
import type { Hold } from './hold.js';

/** What is asked for. */
export interface Asked {
  readonly kind: 'election' | 'multiMutex' | 'mutex' | 'read' | 'semaphore' | 'write';
  readonly name: string;
}

/** Does `ask`, which resolves with a hold, or with undefined when it cannot be had at once. */
export function tellAcquire<H extends Hold | undefined>(
  { client: { clock } }: AnySession,
  asked: Asked,
  ask: () => Promise<H>,
): Promise<H> {
  const what = asked.kind === 'election' ? 'campaign' : 'acquire';
  const from = clock.now();
  const more = (hold?: H): Record<string, unknown> => ({
    fencingToken: hold?.fencingToken,
    position: hold?.position,
    waitedMs: clock.now() - from,
  });
  return trace(what, () => ({ ...asked }), ask, more);
}
