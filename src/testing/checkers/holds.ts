// What a history tells of each attempt to hold something, put together: what the checkers of holds judge.
import type { HistoryRecord, HoldRecord, RecordOf } from './history.js';

/** One attempt; each record with its place in the history. */
export interface Attempt {
  readonly attempt: number;
  readonly name: string;
  readonly process: string;
  acquire?: Placed<'acquire'>;
  queued?: Placed<'queued'>;
  held?: Placed<'held'>;
  gaveUp?: Placed<'gaveUp'>;
  lossSignal?: Placed<'lossSignal'>;
  release?: Placed<'release'>;
  gone?: Placed<'gone'>;
  /** Its process crashed after it had begun. */
  crashed?: Placed<'crashed'>;
  readonly writes: Placed<'guardedWrite'>[];
}

/** A record and its place in the history. */
export interface Placed<K extends HistoryRecord['is']> {
  readonly index: number;
  readonly record: RecordOf<K>;
}

/** An attempt that was held. */
export type Held = Attempt & { held: Placed<'held'> };

/** All attempts, in the order of their first records. */
export function attemptsOf(history: readonly HistoryRecord[]): Attempt[] {
  const attempts = new Map<number, Attempt>();
  for (const [index, record] of history.entries()) {
    if (record.is === 'crashed') {
      for (const one of attempts.values())
        if (one.process === record.process) one.crashed ??= { index, record };
    } else if (isOfAttempt(record)) {
      note(attemptFor(attempts, record), index, record);
    }
  }
  return [...attempts.values()];
}

/** Those that were held, by name, in the order in which that was told. */
export function holdsByName(history: readonly HistoryRecord[]): Map<string, Held[]> {
  const held = attemptsOf(history).filter((one): one is Held => one.held !== undefined);
  held.sort((one, other) => one.held.index - other.held.index);
  const byName = new Map<string, Held[]>();
  for (const one of held) byName.set(one.name, [...(byName.get(one.name) ?? []), one]);
  return byName;
}

/** Where a hold ended for its holder: it was told, gave it back, or crashed; Infinity if none of these. */
export function endOf({ lossSignal, release, crashed }: Attempt): number {
  return Math.min(...[lossSignal, release, crashed].map((end) => end?.index ?? Infinity));
}

/** For each process, from where to where it was frozen; Infinity: for good. A crash ends it. */
export function freezesOf(history: readonly HistoryRecord[]): Map<string, (readonly [number, number])[]> {
  const begun = new Map<string, number>();
  const freezes = new Map<string, (readonly [number, number])[]>();
  const end = (process: string, to: number): void => {
    const from = begun.get(process);
    if (from === undefined) return;
    begun.delete(process);
    freezes.set(process, [...(freezes.get(process) ?? []), [from, to]]);
  };
  for (const [index, { is, process }] of history.entries()) {
    if (is === 'frozen' && !begun.has(process)) begun.set(process, index);
    if (is === 'thawed' || is === 'crashed') end(process, index);
  }
  for (const process of begun.keys()) end(process, Infinity);
  return freezes;
}

type OfAttempt = Extract<HoldRecord, { attempt: number }>;

function isOfAttempt(record: HistoryRecord): record is OfAttempt {
  // A claim of a job has an attempt, too: that of the job.
  return 'attempt' in record && record.is !== 'claimed';
}

function attemptFor(attempts: Map<number, Attempt>, { attempt, name, process }: OfAttempt): Attempt {
  const known = attempts.get(attempt) ?? { attempt, name, process, writes: [] };
  attempts.set(attempt, known);
  return known;
}

/** The first of each kind counts; of places in line the last, since a ticket may be made anew. */
function note(attempt: Attempt, index: number, record: OfAttempt): void {
  switch (record.is) {
    case 'acquire':
      attempt.acquire ??= { index, record };
      break;
    case 'queued':
      attempt.queued = { index, record };
      break;
    case 'held':
      attempt.held ??= { index, record };
      break;
    case 'gaveUp':
      attempt.gaveUp ??= { index, record };
      break;
    case 'lossSignal':
      attempt.lossSignal ??= { index, record };
      break;
    case 'release':
      attempt.release ??= { index, record };
      break;
    case 'gone':
      attempt.gone ??= { index, record };
      break;
    case 'guardedWrite':
      attempt.writes.push({ index, record });
  }
}
