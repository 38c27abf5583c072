/** Whether barriers, double barriers and latches let nobody through who should wait, and nobody wait for what is over. */
import { closedBarriers } from './closed-barriers.js';
import { doubleBarriers } from './double-barriers.js';
import type { HistoryRecord, Violation } from './history.js';
import { latches } from './latches.js';

/**
 * Rules of barriers: `passed-while-closed`, `closed-by-two`, `broken-while-whole` (told `BROKEN`), `closed-at-lower` (a
 * barrier closed at a revision that is not above that of one before). Of double barriers: `entered-early` (before `count` parties were
 * there), `round-too-large`, `rounds-overlap` (before all of an earlier round had left), `round-of-old` (a number that a
 * later round had passed, or a key that is not of the round), `left-early`. Of latches: `latch-early` (more was counted
 * than asked for, or it was open before), `latch-lost-count`, `counted-twice`, `opened-twice`.
 */
export function checkBarriers(history: readonly HistoryRecord[]): Violation[] {
  return [...closedBarriers(history), ...doubleBarriers(history), ...latches(history)];
}
