/** Compares the two sides of a mirror, each at one revision. */
import { hasCode } from '../../errors/conclave-error.js';
import { sleep } from '../../util/abort.js';
import { toText } from '../../util/bytes.js';
import type { Clock } from '../../util/clock.js';
import { inJson } from '../../util/shown.js';
import { bothSides, type Pair, type Side } from './both-sides.js';
import type { MirrorDifference, MirrorReport } from './mirror-options.js';
import type { MirrorTarget } from './mirror-target.js';

/** What is compared. */
export interface Verifying {
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly source: Omit<Side, 'revision'>;
  readonly target: MirrorTarget;
  /** Resolves with the revision at which the source is. */
  readonly sourceRevision: () => Promise<bigint>;
  /** So many differences are listed. */
  readonly limit: number;
}

/** How long until it is looked again whether a copy is at its end. */
const LOOK_MS = 100;

/**
 * Compares them as soon as the target is what the source was at some revision. Rejects with `COMPACTED` if the source has
 * forgotten that revision, and the target is not what it is now.
 */
export async function verify(verifying: Verifying): Promise<MirrorReport> {
  const { clock, signal, target } = verifying;
  for (;;) {
    const { at, progress } = await target.read(signal);
    if (progress?.phase === 'following' && progress.part === undefined) {
      const report = await compareAt(verifying, progress.revision, at);
      if (report !== undefined) return report;
    }
    await sleep(clock, LOOK_MS, signal);
  }
}

/** Undefined: what was to be compared is not there any more. */
async function compareAt(
  verifying: Verifying,
  revision: bigint,
  targetRevision: bigint,
): Promise<MirrorReport | undefined> {
  try {
    return await compareSides(verifying, revision, targetRevision);
  } catch (error) {
    // Of either side. Where history went back, the revision is yet to come.
    if (hasCode(error, 'FUTURE_REVISION')) return undefined;
    if (!hasCode(error, 'COMPACTED')) throw error;
    return compareWithNow(verifying, revision, error);
  }
}

/**
 * Where nothing has changed in the source for long, the mirror's revision is forgotten, and what is there now is the same.
 * Undefined: the mirror has moved on meanwhile, or copies anew.
 */
async function compareWithNow(
  verifying: Verifying,
  revision: bigint,
  why: Error,
): Promise<MirrorReport | undefined> {
  const { signal, target } = verifying;
  const now = await verifying.sourceRevision();
  const { at, progress } = await target.read(signal);
  if (progress?.phase !== 'following' || progress.revision !== revision) return undefined;
  try {
    const report = await compareSides(verifying, now, at);
    if (report.isSame) return report;
  } catch (error) {
    if (hasCode(error, 'FUTURE_REVISION', 'COMPACTED')) return undefined;
    throw error;
  }
  throw why;
}

async function compareSides(
  { clock, limit, signal, source, target }: Verifying,
  revision: bigint,
  targetRevision: bigint,
): Promise<MirrorReport> {
  const sides = bothSides(
    { ...source, revision },
    { kv: target.kv, prefix: target.prefix, revision: targetRevision },
    { clock, signal },
  );
  const differences: MirrorDifference[] = [];
  let keys = 0;
  let different = 0;
  for await (const pair of sides) {
    if (target.isOwn(target.keyOf(pair.suffix))) continue;
    if (pair.source !== undefined) keys += 1;
    const is = judge(pair);
    if (is === undefined) continue;
    different += 1;
    if (differences.length >= limit) continue;
    const keyBytes = Buffer.concat([source.prefix, pair.suffix]);
    differences.push({ is, key: toText(keyBytes), keyBytes });
  }
  return inJson({ different, differences, isSame: different === 0, keys, revision, targetRevision });
}

function judge({ source, target }: Pair): MirrorDifference['is'] | undefined {
  if (source === undefined) return 'extra';
  if (target === undefined) return 'missing';
  return source.value.equals(target.value) ? undefined : 'different';
}
