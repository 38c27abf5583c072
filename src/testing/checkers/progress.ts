/** Whether everything works again some time after the last fault, and every call returns. */
import { checkMs, checkOptions } from '../../util/validate.js';
import type { HistoryRecord, Violation } from './history.js';
import { freezesOf } from './holds.js';

/** Options of `checkProgress`. */
export interface ProgressOptions {
  /** How long everything may take to work again after the last fault, in milliseconds. */
  readonly withinMs: number;
  /** Who has to succeed. @default every process that began an operation, and neither crashed nor `stopped` by then */
  readonly processes?: readonly string[];
}

/**
 * Rules: `no-progress` (nothing that a process began has succeeded in that time, although it lives), `call-hangs` (a `began`,
 * `acquire` or `enters` without its end, longer than that before the end of the history). The last fault is the last record of
 * one; without any the time begins with the history. What the history ends too early for is not judged. A register's `call` may be
 * without a return: that is an unknown outcome.
 */
export function checkProgress(history: readonly HistoryRecord[], options: ProgressOptions): Violation[] {
  checkOptions(options, ['withinMs', 'processes'], 'checkProgress');
  checkMs(options.withinMs, 'withinMs');
  const faultAt = Math.max(0, history.findLastIndex(isFault));
  const [start, end] = [history[faultAt], history.at(-1)];
  if (start === undefined || end === undefined) return [];
  const terms: Terms = { end, faultAt, start, withinMs: options.withinMs };
  return [...idle(history, terms, options.processes), ...hanging(history, terms)];
}

interface Terms {
  readonly withinMs: number;
  /** The last fault, or the first record. */
  readonly start: HistoryRecord;
  readonly faultAt: number;
  readonly end: HistoryRecord;
}

function isFault({ is }: HistoryRecord): boolean {
  return is === 'crashed' || is === 'frozen' || is === 'thawed' || is === 'faultBegins' || is === 'faultEnds';
}

function idle(
  history: readonly HistoryRecord[],
  { end, faultAt, start, withinMs }: Terms,
  named: readonly string[] | undefined,
): Violation[] {
  const limit = start.atMs + withinMs;
  if (end.atMs < limit) return [];
  const last = new Map<string, HistoryRecord>();
  const working = new Set<string>();
  const succeeded = new Set<string>();
  for (const [index, record] of history.entries()) {
    const { process } = record;
    if (index > faultAt && record.atMs > limit) break;
    last.set(process, record);
    if (isCall(record)) working.add(process);
    if (record.is === 'crashed' || record.is === 'stopped') working.delete(process);
    if (index > faultAt && isSuccess(record)) succeeded.add(process);
  }
  for (const [process, freezes] of freezesOf(history))
    if (freezes.at(-1)?.[1] === Infinity) working.delete(process);
  return (named ?? [...working])
    .filter((process) => !succeeded.has(process))
    .map((process) => ({
      at: [...new Set([start, last.get(process) ?? start])].sort((one, other) => one.atMs - other.atMs),
      message: `${process}: nothing has succeeded in ${withinMs} ms since the last fault, at ${start.atMs} ms`,
      rule: 'no-progress',
    }));
}

/** Calls that have not returned, of processes that live. */
function hanging(history: readonly HistoryRecord[], { end, start, withinMs }: Terms): Violation[] {
  const open = new Map<string, Map<string, HistoryRecord>>();
  for (const record of history) {
    const calls = open.get(record.process) ?? new Map<string, HistoryRecord>();
    open.set(record.process, calls);
    if (record.is === 'crashed') calls.clear();
    const name = nameOf(record);
    if (name === undefined) continue;
    if (record.is === 'began' || record.is === 'acquire' || record.is === 'enters') calls.set(name, record);
    else calls.delete(name);
  }
  for (const [process, freezes] of freezesOf(history))
    if (freezes.at(-1)?.[1] === Infinity) open.delete(process);
  return [...open.values()].flatMap((calls) =>
    [...calls].flatMap(([name, call]): Violation[] => {
      const waitedMs = end.atMs - Math.max(call.atMs, start.atMs);
      if (waitedMs <= withinMs) return [];
      const message = `${call.process}: ${name} has not returned in ${waitedMs} ms since it began, or since the last fault`;
      return [{ at: [call], message, rule: 'call-hangs' }];
    }),
  );
}

/** What a call and its end have in common. */
function nameOf(record: HistoryRecord): string | undefined {
  switch (record.is) {
    case 'began':
    case 'ended':
      return `operation ${record.operation}`;
    case 'acquire':
    case 'held':
    case 'gaveUp':
      return `attempt ${record.attempt}`;
    case 'enters':
    case 'entered':
    case 'enterEnds':
      return `party ${record.party}`;
    default:
      return undefined;
  }
}

function isCall({ is }: HistoryRecord): boolean {
  return ['acquire', 'began', 'call', 'counting', 'enters', 'latchReads', 'waits'].includes(is);
}

function isSuccess(record: HistoryRecord): boolean {
  switch (record.is) {
    case 'ended':
      return record.ok;
    case 'return':
    case 'counted':
      return (record.is === 'return' ? record.outcome.is : record.outcome) === 'ok';
    case 'waited':
      return record.outcome === 'passed';
    default:
      return [
        'committed',
        'entered',
        'held',
        'latchRead',
        'left',
        'observed',
        'owned',
        'watchBatch',
      ].includes(record.is);
  }
}
