/** Compaction by itself, so that the history of a server that runs for long does not fill its memory. */
import { type Clock, soon, type Timer } from '../../util/clock.js';
import { checkCount, checkMs, checkOptions } from '../../util/validate.js';
import type { Store } from './store.js';

/** How much history is kept: that of so many milliseconds, or so many revisions. */
export interface AutoCompaction {
  /** At least that long, and a tenth longer at most. */
  readonly retentionMs?: number | undefined;
  /** At least so many, and a tenth more at most. */
  readonly retentionRevisions?: number | undefined;
}

/** What an embedded server keeps unless it is told otherwise: an hour and a half of ten locks a second. */
export const DEFAULT_RETENTION: AutoCompaction = { retentionRevisions: 100_000 };

/** So often in the time that is kept the revision is noted, as etcd's periodic mode does. */
const NOTES = 10;

/** Throws TypeError or RangeError for what is not one of the two. */
export function checkAutoCompaction(given: AutoCompaction): AutoCompaction {
  checkOptions(given, ['retentionMs', 'retentionRevisions'], 'autoCompaction');
  const { retentionMs, retentionRevisions } = given;
  if ((retentionMs === undefined) === (retentionRevisions === undefined))
    throw new TypeError('autoCompaction takes either retentionMs or retentionRevisions');
  if (retentionMs !== undefined) checkMs(retentionMs, 'autoCompaction.retentionMs', 1);
  if (retentionRevisions !== undefined)
    checkCount(retentionRevisions, 'autoCompaction.retentionRevisions', 1);
  return given;
}

/** Compacts `store` as it grows, or from time to time. Returns how to stop. A server that does nothing has no timer for revisions. */
export function compactByItself(store: Store, clock: Clock, keep: AutoCompaction): () => void {
  const { retentionMs, retentionRevisions } = keep;
  if (retentionRevisions !== undefined) return compactAsItGrows(store, clock, retentionRevisions);
  return retentionMs === undefined ? () => undefined : compactInTime(store, clock, retentionMs);
}

function compactAsItGrows(store: Store, clock: Clock, retention: number): () => void {
  const most = BigInt(retention + Math.ceil(retention / 10));
  let state: 'looking' | 'due' | 'stopped' = 'looking';
  store.onCommit((revision) => {
    const first = store.compactedRevision < 0n ? 0n : store.compactedRevision;
    if (state !== 'looking' || revision - first <= most) return;
    state = 'due';
    // Once those who watch have been told of the commit.
    soon(clock, () => {
      if (state === 'stopped') return;
      state = 'looking';
      compactTo(store, store.revision - BigInt(retention));
    });
  });
  return () => void (state = 'stopped');
}

function compactInTime(store: Store, clock: Clock, retentionMs: number): () => void {
  const notes: bigint[] = [];
  let timer: Timer;
  const look = (): void => {
    notes.push(store.revision);
    if (notes.length > NOTES) compactTo(store, notes.shift() ?? 0n);
    timer = clock.setTimer(retentionMs / NOTES, look);
  };
  timer = clock.setTimer(retentionMs / NOTES, look);
  return () => timer.cancel();
}

/** Somebody may have compacted further by hand. */
function compactTo(store: Store, revision: bigint): void {
  if (revision > 0n && revision > store.compactedRevision) store.compact(revision);
}
