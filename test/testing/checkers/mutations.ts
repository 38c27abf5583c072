// Histories that are spoilt at one place, chosen by a seed.
import type { HistoryRecord, RecordOf } from 'conclave/testing';

/** Numbers from a seed (mulberry32). */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed * 0x9e3779b1;
  }

  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  below(end: number): number {
    return Math.floor(this.next() * end);
  }

  chance(probability: number): boolean {
    return this.next() < probability;
  }

  pick<T>(from: readonly T[]): T {
    if (from.length === 0) throw new RangeError('nothing to pick from');
    return from[this.below(from.length)] as T;
  }
}

/** A record and where it is. */
export interface Found<K extends HistoryRecord['is']> {
  readonly index: number;
  readonly record: RecordOf<K>;
}

/** All records of a kind, with their places. */
export function allOf<K extends HistoryRecord['is']>(history: readonly HistoryRecord[], is: K): Found<K>[] {
  return history.flatMap((record, index) =>
    record.is === is ? [{ index, record: record as RecordOf<K> }] : [],
  );
}

/** The history without one record. */
export function without(history: readonly HistoryRecord[], index: number): HistoryRecord[] {
  return history.toSpliced(index, 1);
}

/** The history with one record said otherwise. */
export function changed<K extends HistoryRecord['is']>(
  history: readonly HistoryRecord[],
  { index, record }: Found<K>,
  to: Partial<RecordOf<K>>,
): HistoryRecord[] {
  return history.toSpliced(index, 1, { ...record, ...to } as HistoryRecord);
}

/** The history with one record moved to another place. */
export function moved(history: readonly HistoryRecord[], from: number, to: number): HistoryRecord[] {
  const record = history[from];
  if (record === undefined) throw new RangeError(`nothing at ${from}`);
  return history.toSpliced(from, 1).toSpliced(to, 0, record);
}

/** The history with records put in before a place. */
export function inserted(
  history: readonly HistoryRecord[],
  index: number,
  ...records: readonly HistoryRecord[]
): HistoryRecord[] {
  return history.toSpliced(index, 0, ...records);
}
