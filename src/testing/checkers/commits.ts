// What was committed, as those who watch a range should be told: a list for each range, and for each history of the store.
import type { HistoryRecord, RecordOf } from './history.js';
import { firstAt } from './places.js';
import type { ChangedKey, WatchedRange } from './records/watches.js';

/** A change, and where it was committed. */
export interface Change extends ChangedKey {
  readonly revision: bigint;
  readonly index: number;
  readonly record: RecordOf<'commit'>;
}

/** What a watch is on. */
export interface Watched {
  readonly range: WatchedRange;
  readonly filter?: 'noput' | 'nodelete';
}

/** The changes of one history that a watch is to be told of, in order. */
export class Told {
  readonly changes: readonly Change[];
  readonly #places: ReadonlyMap<string, number>;

  constructor(changes: readonly Change[]) {
    this.changes = changes;
    this.#places = new Map(changes.map((change, at) => [nameOf(change), at]));
  }

  /** Where a change is; undefined: it never was, or not before that place of the history. */
  placeOf(change: ChangedKey & { readonly revision: bigint }, index: number): number | undefined {
    const at = this.#places.get(nameOf(change));
    return at !== undefined && (this.changes[at]?.index ?? Infinity) < index ? at : undefined;
  }

  /** How many changes, from the first on, are the same in another history. */
  sameAs({ changes }: Told): number {
    const differs = this.changes.findIndex((change, at) => {
      const other = changes[at];
      return other === undefined || nameOf(other) !== nameOf(change);
    });
    return differs < 0 ? this.changes.length : differs;
  }

  /** The first place at or after a revision. */
  from(revision: bigint): number {
    return firstAt(this.changes.length, (at) => (this.changes[at]?.revision ?? 0n) >= revision);
  }
}

function nameOf({ key, kind, revision }: ChangedKey & { readonly revision: bigint }): string {
  return `${revision} ${kind} ${key}`;
}

/** The revision of a store to which nothing was written. */
const EMPTY = 1n;

/** One history of the store: it has another one after each time that it went back. */
class Epoch {
  readonly commits: { readonly index: number; readonly record: RecordOf<'commit'> }[] = [];
  /** Up to this revision it is the one before. */
  readonly forkedAt: bigint;
  readonly #told = new Map<string, Told>();

  constructor(forkedAt: bigint) {
    this.forkedAt = forkedAt;
  }

  told({ filter, range }: Watched): Told {
    const name = JSON.stringify([range, filter]);
    const known = this.#told.get(name);
    if (known !== undefined) return known;
    const changes = this.commits.flatMap(({ index, record }) =>
      record.changes
        .filter(({ key, kind }) => isIn(range, key) && !filter?.endsWith(kind))
        .map((change) => ({ ...change, index, record, revision: record.revision })),
    );
    const told = new Told(changes);
    this.#told.set(name, told);
    return told;
  }

  /** The revision of its store before a place of the history. */
  revisionAt(index: number): bigint {
    const at = firstAt(this.commits.length, (each) => (this.commits[each]?.index ?? 0) >= index);
    const last = this.commits[at - 1]?.record.revision ?? EMPTY;
    return last > this.forkedAt ? last : this.forkedAt;
  }
}

/** All histories of the store, the present one last. */
export class Commits {
  readonly #epochs: Epoch[] = [new Epoch(0n)];
  readonly #begun: number[] = [-1];

  constructor(history: readonly HistoryRecord[]) {
    for (const [index, record] of history.entries()) {
      if (record.is === 'commit') this.#present.commits.push({ index, record });
      if (record.is !== 'reverted') continue;
      const next = new Epoch(record.revision);
      next.commits.push(...this.#present.commits.filter((each) => each.record.revision <= record.revision));
      this.#epochs.push(next);
      this.#begun.push(index);
    }
  }

  get #present(): Epoch {
    const present = this.#epochs.at(-1);
    if (present === undefined) throw new TypeError('a store without a history');
    return present;
  }

  /** Which history is the present one at a place. */
  epochAt(index: number): number {
    return firstAt(this.#begun.length, (at) => (this.#begun[at] ?? 0) >= index) - 1;
  }

  told(epoch: number, watched: Watched): Told {
    return (this.#epochs[epoch] ?? this.#present).told(watched);
  }

  revisionAt(epoch: number, index: number): bigint {
    return (this.#epochs[epoch] ?? this.#present).revisionAt(index);
  }

  /** The keys of a range at a revision, as far as they were committed before a place. */
  stateAt(
    epoch: number,
    range: WatchedRange,
    at: { readonly revision: bigint; readonly index: number },
  ): Map<string, bigint> {
    const state = new Map<string, bigint>();
    for (const { index, key, kind, revision } of this.told(epoch, { range }).changes) {
      if (revision > at.revision || index >= at.index) break;
      if (kind === 'put') state.set(key, revision);
      else state.delete(key);
    }
    return state;
  }
}

function isIn(range: WatchedRange, key: string): boolean {
  if (typeof range === 'string') return key === range;
  if ('prefix' in range) return key.startsWith(range.prefix);
  return key >= range.start && key < range.end;
}
