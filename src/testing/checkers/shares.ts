// How much of a name a hold takes, and how much there is: what tells holds that may be together from those that may not.
import type { HistoryRecord, RecordOf } from './history.js';
import type { Attempt } from './holds.js';
import { firstAt, push } from './places.js';

/** Names of which a record says that they are held together. */
export function sharedNames(history: readonly HistoryRecord[]): Set<string> {
  const names = new Set<string>();
  for (const record of history) {
    const saysSo =
      record.is === 'limit' ||
      ((record.is === 'acquire' || record.is === 'held') &&
        (record.mode !== undefined || record.weight !== undefined));
    if (saysSo) names.add(record.name);
  }
  return names;
}

/** How much an attempt takes. Infinity: all of it, as a writer, and any client that knows nothing of shares. */
export function weightOf({ acquire, held }: Attempt): number {
  const weight = held?.record.weight ?? acquire?.record.weight;
  if (weight !== undefined) return weight;
  return (held?.record.mode ?? acquire?.record.mode) === 'read' ? 1 : Infinity;
}

/** Whether both cannot hold at once, however the limit is at most. */
export function excludes(one: number, other: number, most: number): boolean {
  return one === Infinity || other === Infinity || one + other > most;
}

/** The limits of all names, over time. */
export function limitsOf(history: readonly HistoryRecord[]): Map<string, Limits> {
  const changes = new Map<string, Change[]>();
  for (const [index, record] of history.entries())
    if (record.is === 'limit') push(changes, record.name, { index, record });
  return new Map([...changes].map(([name, its]) => [name, new Limits(its)]));
}

interface Change {
  readonly index: number;
  readonly record: RecordOf<'limit'>;
}

/** The limit of a name over time; none agreed counts as 0, and what was before the first record as without a limit. */
export class Limits {
  /** The greatest that there ever was. */
  readonly most: number;
  readonly #changes: readonly Change[];
  /** By power of two: the greatest of so many changes, from each of them on. */
  readonly #greatest: number[][];

  constructor(changes: readonly Change[]) {
    this.#changes = changes;
    let row = changes.map(({ record }) => record.limit ?? 0);
    this.most = row.reduce((one, other) => Math.max(one, other), 0);
    this.#greatest = [row];
    for (let width = 1; width * 2 <= changes.length; width *= 2) {
      const last = row;
      row = last.slice(width).map((limit, at) => Math.max(limit, last[at] ?? 0));
      this.#greatest.push(row);
    }
  }

  /** The greatest at any time between two places of the history. */
  within(from: number, to: number): number {
    const first = this.#before(from);
    const end = this.#before(to);
    if (first === 0) return Infinity;
    const power = Math.floor(Math.log2(end - first + 1));
    const row = this.#greatest[power] ?? [];
    return Math.max(row[first - 1] ?? 0, row[end - 2 ** power] ?? 0);
  }

  /** How many changes there were before a place. */
  #before(index: number): number {
    return firstAt(this.#changes.length, (at) => (this.#changes[at]?.index ?? 0) >= index);
  }
}
