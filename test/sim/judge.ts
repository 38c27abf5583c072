/** What the checkers say of a run. */
import {
  checkBarriers,
  checkJobs,
  checkLinearizability,
  checkMutualExclusion,
  checkObservers,
  checkQueueing,
  checkSharedHolds,
  checkWatches,
  type HistoryRecord,
  type Violation,
} from 'conclave/testing';

import { isOfAttempt } from '#conclave/testing/checkers/holds.js';
import type { Stage } from './stage.js';
import { TTL_SECONDS } from './workload.js';

export function judge({ eras, history, struck }: Stage): Violation[] {
  const first = eras[1] === undefined ? history : untilLost(history.slice(0, eras[1]));
  return [
    ...checkLinearizability(first),
    ...checkJobs(first),
    ...checkBarriers(first),
    ...checkWatches(untilRestored(history)),
    ...checkObservers(first).filter(
      // Whoever was behind when history was compacted reads anew, and has missed what was in between.
      ({ rule }) => rule !== 'observer-skipped' || !struck.has('compact'),
    ),
    ...eras.flatMap((from, at) => holds(ofEra(history, from, eras[at + 1]))),
  ];
}

function holds(history: readonly HistoryRecord[]): Violation[] {
  return [
    ...checkMutualExclusion(history),
    ...checkSharedHolds(history),
    ...checkQueueing(history, { ttlMs: (TTL_SECONDS + 1) * 1000 }),
  ];
}

/** Whoever observed has then not seen the end. */
function untilLost(history: readonly HistoryRecord[]): HistoryRecord[] {
  const observers = new Map(
    history.filter(({ is }) => is === 'observed').map((record) => [record.process, record]),
  );
  const ends = [...observers.values()].map((record) => ({ ...record, is: 'observingEnds' }) as HistoryRecord);
  return [...history, ...ends];
}

/**
 * A client whose streams come back when the store is as far as it was cannot know that it was restored meanwhile; and one that
 * learns it late reads anew, whether it has to or not.
 */
function untilRestored(history: readonly HistoryRecord[]): HistoryRecord[] {
  const at = history.findIndex(({ is }) => is === 'reverted');
  if (at < 0) return [...history];
  const before = history.slice(0, at);
  const ends = before
    .filter((record) => record.is === 'watchBegins')
    .map(({ atMs, process, watch }) => ({ atMs, is: 'watchEnds', process, watch }) as const);
  return [...before, ...ends];
}

/**
 * What was held and suffered from then on, without what was asked for before, or by processes that were there before: one that was
 * away while etcd was restored, and has gone as far again, cannot know that what it remembers was never so (seed 1902 of locks and
 * elections, then).
 */
function ofEra(history: readonly HistoryRecord[], from: number, to = history.length): HistoryRecord[] {
  const older = new Set(history.slice(0, from).map(({ process }) => process));
  older.delete('etcd');
  const isOld = (record: HistoryRecord, at: number): boolean => at < from || older.has(record.process);
  const old = new Set(
    history
      .filter(isOld)
      .filter(isOfAttempt)
      .map(({ attempt }) => attempt),
  );
  const isFault = ({ is }: HistoryRecord): boolean => ['frozen', 'thawed', 'crashed'].includes(is);
  return history.slice(0, to).filter((record, at) => {
    if (isFault(record)) return true;
    if (at < from) return false;
    return record.is === 'limit' || (isOfAttempt(record) && !old.has(record.attempt));
  });
}
