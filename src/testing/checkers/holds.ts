// What a history tells of each attempt to hold something, put together: what the checkers of holds judge.
import type { HistoryRecord, HoldRecord } from './history.js';
import { type Firsts, keepFirst, type Placed, push } from './places.js';

/** Of what the first record of an attempt counts. */
type FirstKind = 'acquire' | 'held' | 'gaveUp' | 'lossSignal' | 'release' | 'gone';

/** One attempt; each record with its place in the history. */
export interface Attempt extends Firsts<FirstKind> {
  readonly attempt: number;
  readonly name: string;
  readonly process: string;
  /** The last one, since a ticket may be made anew. */
  queued?: Placed<'queued'>;
  /** It was upgraded or downgraded: the attempt that goes on with its ticket is held. */
  passedOn?: Placed<'held'>;
  /** Its process crashed after it had begun. */
  crashed?: Placed<'crashed'>;
  readonly writes: Placed<'guardedWrite'>[];
}

/** An attempt that was held. */
export type Held = Attempt & { held: Placed<'held'> };

/** All attempts, in the order of their first records. */
export function attemptsOf(history: readonly HistoryRecord[]): Attempt[] {
  const attempts = new Map<number, Attempt>();
  /** Those that were begun since the last crash, by process. */
  const running = new Map<string, Attempt[]>();
  for (const [index, record] of history.entries()) {
    if (record.is === 'crashed') {
      for (const one of running.get(record.process) ?? []) one.crashed = { index, record };
      running.delete(record.process);
    } else if (isOfAttempt(record)) {
      const known = attempts.get(record.attempt);
      const { attempt, name, process } = record;
      const one: Attempt = known ?? { attempt, name, process, writes: [] };
      note(one, index, record);
      if (known !== undefined) continue;
      attempts.set(attempt, one);
      push(running, process, one);
    }
  }
  for (const { acquire, held } of attempts.values()) {
    const from = acquire?.record.from;
    const before = from === undefined ? undefined : attempts.get(from);
    if (before !== undefined && held !== undefined) before.passedOn = held;
  }
  return [...attempts.values()];
}

/** Those that were held, by name, in the order in which that was told. */
export function holdsByName(attempts: readonly Attempt[]): Map<string, Held[]> {
  const held = attempts.filter((one): one is Held => one.held !== undefined);
  held.sort((one, other) => one.held.index - other.held.index);
  const byName = new Map<string, Held[]>();
  for (const one of held) push(byName, one.name, one);
  return byName;
}

/** Where a hold ended for its holder: it was told, gave it back, passed it on, or crashed; Infinity if none of these. */
export function endOf({ lossSignal, passedOn, release, crashed }: Attempt): number {
  return Math.min(...[lossSignal, passedOn, release, crashed].map((end) => end?.index ?? Infinity));
}

/** For each process, from where to where it was frozen; Infinity: for good. A crash ends it. */
export function freezesOf(history: readonly HistoryRecord[]): Map<string, (readonly [number, number])[]> {
  const begun = new Map<string, number>();
  const freezes = new Map<string, (readonly [number, number])[]>();
  const end = (process: string, to: number): void => {
    const from = begun.get(process);
    if (from === undefined) return;
    begun.delete(process);
    push(freezes, process, [from, to]);
  };
  for (const [index, { is, process }] of history.entries()) {
    if (is === 'frozen' && !begun.has(process)) begun.set(process, index);
    if (is === 'thawed' || is === 'crashed') end(process, index);
  }
  for (const process of begun.keys()) end(process, Infinity);
  return freezes;
}

type OfAttempt = Extract<HoldRecord, { attempt: number }>;

/** Whether a record is of an attempt to hold something. */
export function isOfAttempt(record: HistoryRecord): record is OfAttempt {
  // A claim of a job has an attempt, too: that of the job.
  return 'attempt' in record && record.is !== 'claimed';
}

function note(attempt: Attempt, index: number, record: OfAttempt): void {
  if (record.is === 'guardedWrite') attempt.writes.push({ index, record });
  else if (record.is === 'queued') attempt.queued = { index, record };
  else keepFirst<FirstKind>(attempt, index, record);
}
