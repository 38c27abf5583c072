/** Does to the target what the source's events say: each revision in one transaction, or in as many as it needs. */
import type { WatchEvent } from '../watch/watch-event.js';
import type { Begun, MirrorTarget } from './mirror-target.js';
import type { Progress } from './progress.js';
import { Steps } from './steps.js';

/** What revisions are written with. */
export interface Following {
  readonly target: MirrorTarget;
  /** Of the source. */
  readonly prefix: Uint8Array;
  readonly maxTxnOps: number;
  readonly signal: AbortSignal;
}

/** The events of a watch's batch, by their revision. */
export function byRevision(events: readonly WatchEvent[]): Map<bigint, WatchEvent[]> {
  const found = new Map<bigint, WatchEvent[]>();
  for (const event of events) {
    const { modRevision } = event.kv;
    const those = found.get(modRevision);
    if (those === undefined) found.set(modRevision, [event]);
    else those.push(event);
  }
  return found;
}

/**
 * Brings the target to a revision of the source, with all its events. Resolves with what is stored then; undefined: somebody
 * else has written what is stored now.
 */
export async function writeRevision(
  following: Following,
  from: Begun,
  revision: bigint,
  events: readonly WatchEvent[],
): Promise<Begun | undefined> {
  let at = from;
  while (at.progress.revision < revision) {
    const { part } = at.progress;
    // Of another revision there cannot be a part, unless history is another one.
    if (part !== undefined && part.revision !== revision) return undefined;
    const done = part?.events ?? 0;
    const { next, steps } = nextSteps(following, events, done);
    const progress: Progress =
      next < events.length
        ? { ...at.progress, part: { events: next, revision } }
        : { ...at.progress, part: undefined, revision };
    const stored = await following.target.write(at, progress, steps.all, following.signal);
    if (stored === undefined) return undefined;
    at = stored;
  }
  return at;
}

/** Nothing was changed up to a revision of the source: says so in the target. Resolves as `writeRevision` does. */
export async function writeNothing(
  { signal, target }: Following,
  from: Begun,
  revision: bigint,
): Promise<Begun | undefined> {
  if (from.progress.part !== undefined || from.progress.revision >= revision) return from;
  return target.write(from, { ...from.progress, revision }, [], signal);
}

/** The steps of one transaction, from the event at `done` on, and the event with which the next begins. */
function nextSteps(
  { maxTxnOps, prefix, target }: Following,
  events: readonly WatchEvent[],
  done: number,
): { readonly steps: Steps; readonly next: number } {
  const steps = new Steps(maxTxnOps);
  for (const [at, { kv, type }] of events.entries()) {
    if (at < done) continue;
    const key = target.keyOf(kv.keyBytes.subarray(prefix.length));
    if (target.isOwn(key)) continue;
    if (!steps.add(key, type === 'put' ? kv.value : undefined)) return { next: at, steps };
  }
  return { next: events.length, steps };
}
