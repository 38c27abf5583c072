/**
 * Makes the target what the source was at one revision: writes what differs, and deletes what the source has not, in the
 * order of the keys. Each transaction says how far it has come, so that whoever goes on begins there.
 */
import { bothSides, type Reading, type Side } from './both-sides.js';
import type { Begun, MirrorTarget } from './mirror-target.js';
import { Steps } from './steps.js';

/** What a copy is made of. */
export interface Copying extends Omit<Reading, 'after'> {
  readonly source: Omit<Side, 'revision'>;
  readonly target: MirrorTarget;
  readonly maxTxnOps: number;
  /** Throws when the source's history is not any more what it was. */
  readonly checkHistory: () => void;
}

/**
 * Copies what is left of the copy that `from` is in. Resolves with what is stored at its end; undefined: another mirror is
 * at it. Rejects as `readPages` does.
 */
export async function copy(copying: Copying, from: Begun): Promise<Begun | undefined> {
  const { maxTxnOps, signal, source, target } = copying;
  const { copied: after, revision } = from.progress;
  const sides = bothSides(
    { ...source, revision },
    { kv: target.kv, prefix: target.prefix, revision: 'now' },
    { ...copying, after },
  );
  let at = from;
  let steps = new Steps(maxTxnOps);
  let copied = after;
  for await (const { source: wanted, suffix, target: there } of sides) {
    const key = target.keyOf(suffix);
    if (target.isOwn(key)) continue;
    // One that is bound to a lease would go with it.
    const isSame = wanted && there && there.leaseId === undefined && there.value.equals(wanted.value);
    if (isSame !== true && !steps.add(key, wanted?.value)) {
      copying.checkHistory();
      const stored = await target.write(at, { ...at.progress, copied }, steps.all, signal);
      if (stored === undefined) return undefined;
      at = stored;
      steps = new Steps(maxTxnOps);
      steps.add(key, wanted?.value);
    }
    copied = suffix;
  }
  copying.checkHistory();
  return target.write(at, { ...at.progress, copied: undefined, phase: 'following' }, steps.all, signal);
}
