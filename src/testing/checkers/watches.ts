/**
 * Whether watchers were told what was written, all of it, once, in order, and each revision whole.
 *
 * Takes time in proportion to the commits for each range that is watched, and for each snapshot.
 */
import { type Change, Commits, type Told, type Watched } from './commits.js';
import type { HistoryRecord, RecordOf, Violation } from './history.js';
import { Highest, inOrder, type Placed, type Shown } from './places.js';
import type { ChangedKey, ListedKey } from './records/watches.js';

/**
 * Rules: `event-lost` (also by a watch without `watchEnds` at the end of the history: it has to end when they had the time),
 * `event-repeated`, `event-reordered`, `event-foreign` (never written, not yet, or before its start), `revision-split`,
 * `progress-ahead` (a report beyond what was told, or a revision that the store has not reached), `header-behind`,
 * `resume-wrong` (a `nextRevision` that would skip or repeat), `snapshot-wrong`, `relisted-without-cause` (nothing was
 * compacted that it needs, and the store never went back).
 */
export function checkWatches(history: readonly HistoryRecord[]): Violation[] {
  const commits = new Commits(history);
  const compacted = new Highest<bigint, undefined>();
  const watches = new Map<number, WatchOf>();
  const violations: Violation[] = [];
  for (const [index, record] of history.entries()) {
    if (record.is === 'compacted') compacted.add(index, record.revision, undefined);
    else if (record.is === 'watchBegins') {
      watches.set(record.watch, new WatchOf(commits, compacted, { index, record }));
    } else if (record.is === 'watchBatch') {
      violations.push(...(watches.get(record.watch)?.batch({ index, record }) ?? unknown(record)));
    } else if (record.is === 'watchEnds') {
      watches.delete(record.watch);
    }
  }
  return [...violations, ...[...watches.values()].flatMap((watch) => watch.ends(history.length))];
}

function unknown(record: RecordOf<'watchBatch'>): Violation[] {
  const message = `watch ${record.watch} of ${record.process} was told something, and did not begin`;
  return [{ at: [record], message, rule: 'event-foreign' }];
}

type Batch = Placed<'watchBatch'>;

class WatchOf {
  readonly #commits: Commits;
  readonly #compacted: Highest<bigint, undefined>;
  readonly #begins: Placed<'watchBegins'>;
  readonly #watched: Watched;
  #epoch: number;
  /** What happened before it is not for it, nor was part of a snapshot. */
  #start = 0n;
  /** Where it goes on; undefined: not known yet. */
  #next: bigint | undefined;
  /** The place of what it is to be told next, in its epoch. */
  #at = 0;
  /** What it was not told when its turn was: places in its epoch. */
  #lost = new Set<number>();
  /** How much of its own history later ones have, too. */
  readonly #same = new Map<number, number>();
  #last: Batch | undefined;

  constructor(commits: Commits, compacted: Highest<bigint, undefined>, begins: Placed<'watchBegins'>) {
    const { filter, from, range } = begins.record;
    this.#commits = commits;
    this.#compacted = compacted;
    this.#begins = begins;
    this.#watched = filter === undefined ? { range } : { filter, range };
    this.#epoch = commits.epochAt(begins.index);
    if (from === undefined) return;
    this.#start = from;
    this.#goTo(this.#epoch, from);
  }

  batch(batch: Batch): Violation[] {
    const { events, snapshot } = batch.record;
    if (snapshot !== undefined) return this.#relisted(batch, snapshot);
    this.#follow(batch);
    const violations = events.length > 0 ? this.#events(batch) : this.#progress(batch);
    violations.push(...this.#header(batch), ...this.#resumes(batch));
    this.#last = batch;
    return violations;
  }

  /** At the end it has been told all. */
  ends(index: number): Violation[] {
    const epoch = this.#commits.epochAt(index);
    if (this.#next === undefined) return [];
    if (epoch !== this.#epoch && !this.#goesOn(epoch, this.#next))
      return this.#wrong('event-lost', `goes on at ${this.#next}, and was not told that history went back`);
    if (epoch !== this.#epoch) this.#goTo(epoch, this.#next);
    const missed = this.#told.changes[this.#at];
    return missed === undefined ? [] : this.#missed(missed, 'ended');
  }

  get #told(): Told {
    return this.#commits.told(this.#epoch, this.#watched);
  }

  #goTo(epoch: number, revision: bigint): void {
    this.#epoch = epoch;
    this.#next = revision;
    this.#at = this.#told.from(revision);
    this.#lost = new Set();
    this.#same.clear();
  }

  /** Goes over to a later history of the store if that is what it is told of, and may be. */
  #follow({ index, record }: Batch): void {
    const [first] = record.events;
    this.#next ??= first?.modRevision ?? record.revision + 1n;
    if (this.#last === undefined && this.#begins.record.from === undefined)
      this.#goTo(this.#epoch, this.#next);
    const present = this.#commits.epochAt(index);
    const isOf = (epoch: number): boolean => {
      const told = this.#commits.told(epoch, this.#watched);
      if (this.#commits.revisionAt(epoch, index) < record.revision) return false;
      const at = epoch === this.#epoch ? this.#at : told.from(this.#next ?? 0n);
      const due = told.changes[at];
      if (record.events.length === 0)
        return due === undefined || due.index >= index || due.revision > record.revision;
      return record.events.every((event, each) => told.placeOf(changeOf(event), index) === at + each);
    };
    if (present === this.#epoch || isOf(this.#epoch)) return;
    const next = this.#next;
    const later = Array.from({ length: present - this.#epoch }, (_, at) => this.#epoch + 1 + at);
    const open = later.filter((epoch) => this.#goesOn(epoch, next));
    // If it is none of them, it is judged as of the one that has most of it.
    const known = (epoch: number): number => {
      const told = this.#commits.told(epoch, this.#watched);
      return record.events.filter((event) => told.placeOf(changeOf(event), index) !== undefined).length;
    };
    const best = open.reduce((one, other) => (known(other) > known(one) ? other : one), this.#epoch);
    const epoch = open.find(isOf) ?? best;
    if (epoch !== this.#epoch) this.#goTo(epoch, next);
  }

  /** Whether all that it was told, and that nothing else was, is so in a later history, too. */
  #goesOn(epoch: number, next: bigint): boolean {
    const later = this.#commits.told(epoch, this.#watched);
    const same = this.#same.get(epoch) ?? this.#told.sameAs(later);
    this.#same.set(epoch, same);
    return same >= this.#at && later.from(next) === this.#at;
  }

  #events(batch: Batch): Violation[] {
    const { index, record } = batch;
    const told = this.#told;
    const violations: Violation[] = [];
    const seen = new Set<number>();
    const start = this.#at;
    let newest = start - 1;
    let inTurn = start;
    for (const event of record.events) {
      const shown = `${event.kind} of ${event.key} at ${event.modRevision}`;
      const wrong = (rule: string, what: string): void => {
        violations.push(...this.#wrong(rule, `was told of the ${shown}, ${what}`, batch));
      };
      const place = told.placeOf(changeOf(event), index);
      if (place === undefined) wrong('event-foreign', 'which was not written then');
      else if (event.modRevision < this.#start) wrong('event-foreign', `and began at ${this.#start}`);
      else if (seen.has(place) || (place < start && !this.#lost.has(place)))
        wrong('event-repeated', 'once more');
      else {
        if (place < inTurn)
          wrong('event-reordered', `after that at ${String(told.changes[inTurn - 1]?.revision)}`);
        seen.add(place);
        this.#lost.delete(place);
        inTurn = Math.max(inTurn, place + 1);
        newest = Math.max(newest, place);
      }
    }
    for (let place = start; place <= newest; place++) {
      const missed = told.changes[place];
      if (seen.has(place) || missed === undefined) continue;
      this.#lost.add(place);
      violations.push(...this.#missed(missed, 'went on', batch));
    }
    this.#at = Math.max(start, newest + 1);
    const [last, after] = [told.changes[this.#at - 1], told.changes[this.#at]];
    if (last !== undefined && newest >= start) this.#next = last.revision + 1n;
    if (record.more !== true && newest >= start && last !== undefined && last.revision === after?.revision)
      violations.push(
        ...this.#wrong(
          'revision-split',
          `was not told all of ${last.revision} at once: ${after.key} is missing`,
          batch,
        ),
      );
    return violations;
  }

  /** Nothing is to come up to the revision of the report. */
  #progress(batch: Batch): Violation[] {
    const { index, record } = batch;
    const due = this.#told.changes[this.#at];
    if (due !== undefined && due.index < index && due.revision <= record.revision)
      return this.#wrong(
        'progress-ahead',
        `was told that nothing is to come up to ${record.revision}, before the ${due.kind} of ${due.key} at ${due.revision}`,
        { index: due.index, record: due.record },
        batch,
      );
    if (this.#next === undefined || record.revision >= this.#next) this.#next = record.revision + 1n;
    return [];
  }

  #header(batch: Batch): Violation[] {
    const { index, record } = batch;
    const reached = this.#commits.revisionAt(this.#epoch, index);
    if (record.revision > reached)
      return this.#wrong(
        'progress-ahead',
        `was told of revision ${record.revision}, and the store is at ${reached}`,
        batch,
      );
    const last = record.events.at(-1)?.modRevision ?? 0n;
    if (record.revision >= last) return [];
    return this.#wrong(
      'header-behind',
      `was told of an event at ${last} by a store at ${record.revision}`,
      batch,
    );
  }

  #resumes(batch: Batch): Violation[] {
    const { more, nextRevision } = batch.record;
    if (nextRevision === undefined || more === true) return [];
    const due = this.#told.changes[this.#at];
    const last = this.#told.changes[this.#at - 1];
    if (nextRevision > batch.record.revision + 1n)
      return this.#wrong(
        'resume-wrong',
        `would go on at ${nextRevision}, and the store is at ${batch.record.revision}`,
        batch,
      );
    if (due !== undefined && due.index < batch.index && nextRevision > due.revision)
      return this.#wrong(
        'resume-wrong',
        `would go on at ${nextRevision}, after that at ${due.revision}`,
        batch,
      );
    if (batch.record.events.length > 0 && last !== undefined && nextRevision <= last.revision)
      return this.#wrong(
        'resume-wrong',
        `would go on at ${nextRevision}, and has been told of ${last.revision}`,
        batch,
      );
    this.#next = nextRevision;
    return [];
  }

  #relisted(batch: Batch, snapshot: readonly ListedKey[]): Violation[] {
    const { index, record } = batch;
    const violations: Violation[] = [];
    const present = this.#commits.epochAt(index);
    const next = this.#next;
    const isCompacted = next === undefined || (this.#compacted.before(index)?.value ?? -1n) >= next;
    if (!isCompacted && present === this.#commits.epochAt(this.#begins.index))
      violations.push(
        ...this.#wrong(
          'relisted-without-cause',
          `was to go on at ${next}, which is not compacted, and got a snapshot`,
          batch,
        ),
      );
    let epoch = present;
    while (epoch > this.#epoch && !this.#isSo(epoch, batch, snapshot)) epoch--;
    if (!this.#isSo(epoch, batch, snapshot))
      violations.push(
        ...this.#wrong(
          'snapshot-wrong',
          `got ${snapshot.length} keys as of ${record.revision}, which were not so then`,
          batch,
        ),
      );
    if (epoch === this.#epoch && next !== undefined && record.revision + 1n < next)
      violations.push(
        ...this.#wrong(
          'snapshot-wrong',
          `got a snapshot of ${record.revision}, and was to go on at ${next}`,
          batch,
        ),
      );
    this.#start = 0n;
    this.#goTo(epoch, record.revision + 1n);
    violations.push(...this.#header(batch), ...this.#resumes(batch));
    this.#last = batch;
    return violations;
  }

  /** Whether a snapshot is what the range was at its revision. */
  #isSo(epoch: number, { index, record }: Batch, snapshot: readonly ListedKey[]): boolean {
    if (record.revision > this.#commits.revisionAt(epoch, index)) return false;
    const was = this.#commits.stateAt(epoch, this.#watched.range, { index, revision: record.revision });
    const listed = new Map(snapshot.map(({ key, modRevision }) => [key, modRevision]));
    return (
      listed.size === snapshot.length &&
      listed.size === was.size &&
      snapshot.every(({ key, modRevision }) => was.get(key) === modRevision)
    );
  }

  #missed({ index, key, kind, record, revision }: Change, what: string, batch?: Batch): Violation[] {
    return this.#wrong(
      'event-lost',
      `${what} without the ${kind} of ${key} at ${revision}`,
      { index, record },
      batch,
    );
  }

  #wrong(rule: string, what: string, ...at: readonly (Shown | undefined)[]): Violation[] {
    const { process, watch } = this.#begins.record;
    const shown = inOrder(this.#begins, this.#last, ...at);
    return [{ at: [...new Set(shown)], message: `watch ${watch} of ${process} ${what}`, rule }];
  }
}

function changeOf(event: ChangedKey & ListedKey) {
  return { key: event.key, kind: event.kind, revision: event.modRevision };
}
