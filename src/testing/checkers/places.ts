// Places in a history, and what was there before them.
import type { HistoryRecord, RecordOf } from './history.js';

/** A record and its place in the history. */
export interface Placed<K extends HistoryRecord['is']> {
  readonly index: number;
  readonly record: RecordOf<K>;
}

/** Any record and its place. */
export interface Shown {
  readonly index: number;
  readonly record: HistoryRecord;
}

/** Of some kinds of records the first of each. */
export type Firsts<K extends HistoryRecord['is']> = { [Is in K]?: Placed<Is> };

/** Keeps a record if it is the first of its kind. */
export function keepFirst<K extends HistoryRecord['is']>(
  firsts: Firsts<K>,
  index: number,
  record: RecordOf<K>,
): void {
  (firsts as Partial<Record<string, Shown>>)[record.is] ??= { index, record };
}

/** The records that there are, in the order of the history. */
export function inOrder(...shown: readonly (Shown | undefined)[]): HistoryRecord[] {
  const there = shown.filter((one) => one !== undefined);
  return there.sort((one, other) => one.index - other.index).map(({ record }) => record);
}

/** Adds to the values of a key. */
export function push<K, V>(map: Map<K, V[]>, key: K, value: V): void {
  const values = map.get(key);
  if (values === undefined) map.set(key, [value]);
  else values.push(value);
}

/** The first of `length` places for which it holds, which then holds for all after it; `length` if for none. */
export function firstAt(length: number, holds: (at: number) => boolean): number {
  let [low, high] = [0, length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (holds(middle)) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** The highest of what was added up to a place; it is added in the order of places. */
export class Highest<V extends bigint | number, T> {
  readonly #steps: { readonly index: number; readonly value: V; readonly of: T }[] = [];

  add(index: number, value: V, of: T): void {
    const top = this.#steps.at(-1);
    if (top === undefined || value > top.value) this.#steps.push({ index, of, value });
  }

  /** Of those at lower places than `index`. */
  before(index: number): { readonly value: V; readonly of: T } | undefined {
    return this.#steps[firstAt(this.#steps.length, (at) => (this.#steps[at]?.index ?? 0) >= index) - 1];
  }
}

/** How much was added up to a place; in any order, but all before it is asked. */
export class Sums {
  readonly #added: { readonly index: number; readonly n: number }[] = [];
  #sums: number[] | undefined;

  add(index: number, n: number): void {
    this.#added.push({ index, n });
  }

  /** Of those at lower places than `index`. */
  before(index: number): number {
    if (this.#sums === undefined) {
      let sum = 0;
      this.#added.sort((one, other) => one.index - other.index);
      this.#sums = this.#added.map(({ n }) => (sum += n));
    }
    return this.#sums[firstAt(this.#added.length, (at) => (this.#added[at]?.index ?? 0) >= index) - 1] ?? 0;
  }
}
