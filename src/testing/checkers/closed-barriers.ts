// Barriers that one party closes: from where to where each certainly was closed, and who passed then.
import type { BarrierRecord, HistoryRecord, Violation } from './history.js';
import { firstAt, Highest, inOrder, type Placed } from './places.js';

/** Judges all barriers of a history. */
export function closedBarriers(history: readonly HistoryRecord[]): Violation[] {
  const barriers = new Map<string, BarrierOf>();
  for (const [index, record] of history.entries()) {
    switch (record.is) {
      case 'closing':
      case 'closed':
      case 'mayOpen':
      case 'mayBreak':
      case 'resets':
      case 'resetEnds':
      case 'waits':
      case 'waited': {
        const barrier = barriers.get(record.name) ?? new BarrierOf();
        barriers.set(record.name, barrier);
        barrier.note(index, record);
      }
    }
  }
  return [...barriers.values()].flatMap((barrier) => barrier.violations());
}

interface HoldOf {
  closing?: Placed<'closing'>;
  closed?: Placed<'closed'>;
  mayOpen?: Placed<'mayOpen'>;
  mayBreak?: Placed<'mayBreak'>;
}

/** A hold that was told, and until where. */
interface Closed {
  readonly closed: Placed<'closed'>;
  /** Where its call began. */
  readonly began: number;
  /** Where it may be open; Infinity: nowhere. */
  readonly until: number;
  /** Where it may be broken. */
  readonly broken: Placed<'mayBreak'> | undefined;
}

type BarrierKind = BarrierRecord['is'];

class BarrierOf {
  readonly #holds = new Map<number, HoldOf>();
  readonly #openings: number[] = [];
  /** From where to where each reset may do its work, by its number. */
  readonly #resets = new Map<number, [number, number]>();
  readonly #waits = new Map<number, Placed<'waits'>>();
  readonly #waited: Placed<'waited'>[] = [];

  note(index: number, record: Placed<BarrierKind>['record']): void {
    if (record.is === 'waits') this.#waits.set(record.wait, { index, record });
    else if (record.is === 'waited') this.#waited.push({ index, record });
    else if (record.is === 'resets') this.#resets.set(record.reset, [index, Infinity]);
    else if (record.is === 'resetEnds') {
      const reset = this.#resets.get(record.reset);
      if (reset !== undefined) reset[1] = index;
    } else if (record.is === 'mayOpen') {
      this.#openings.push(index);
      this.#hold(record.hold).mayOpen ??= { index, record };
    } else if (record.is === 'closing') this.#hold(record.hold).closing = { index, record };
    else if (record.is === 'closed') this.#hold(record.hold).closed = { index, record };
    else this.#hold(record.hold).mayBreak ??= { index, record };
  }

  #hold(hold: number): HoldOf {
    const found = this.#holds.get(hold) ?? {};
    this.#holds.set(hold, found);
    return found;
  }

  violations(): Violation[] {
    const closed = this.#closed();
    return [...revisions(closed), ...byTwo(closed), ...this.#passed(closed)];
  }

  /** In the order in which they were told. */
  #closed(): Closed[] {
    const resets = [...this.#resets.values()];
    const from = resets.map(([begun]) => begun);
    const pending = new Highest<number, undefined>();
    for (const [begun, end] of resets) pending.add(begun, end, undefined);
    const told = [...this.#holds.values()].flatMap(({ closed, closing, mayBreak, mayOpen }): Closed[] => {
      if (closed === undefined) return [];
      const began = closing?.index ?? closed.index;
      const ends = [mayOpen?.index ?? Infinity, after(from, began)];
      // One that was asked for before may be done after.
      if ((pending.before(began)?.value ?? -1) > began) ends.push(began);
      // A broken one may be taken over by another, who may open it.
      if (mayBreak !== undefined) ends.push(after(this.#openings, mayBreak.index));
      return [{ began, broken: mayBreak, closed, until: Math.min(...ends) }];
    });
    return told.sort((one, other) => one.closed.index - other.closed.index);
  }

  #passed(told: readonly Closed[]): Violation[] {
    const closed = new Highest<number, Closed>();
    for (const one of told) closed.add(one.closed.index, one.until, one);
    const broken = new Highest<number, Closed>();
    const breaking = told.filter((one) => one.broken !== undefined);
    breaking.sort((one, other) => (one.broken?.index ?? 0) - (other.broken?.index ?? 0));
    const places = told.map((one) => one.closed.index);
    for (const one of breaking) {
      const from = one.broken?.index ?? 0;
      // Until somebody else is told to have closed it.
      broken.add(from, after(places, Math.max(from, one.closed.index)), one);
    }
    return this.#waited.flatMap((waited): Violation[] => {
      const { name, outcome, process, wait } = waited.record;
      const began = this.#waits.get(wait);
      const from = began?.index ?? waited.index;
      const told = `${name}: wait ${wait} of ${process}`;
      if (outcome === 'passed') {
        const over = closed.before(from);
        if (over === undefined || over.value <= waited.index) return [];
        const by = over.of.closed;
        const message = `${told} passed, and hold ${by.record.hold} of ${by.record.process} has kept it closed all the while since ${by.record.revision}`;
        return [{ at: inOrder(by, began, waited), message, rule: 'passed-while-closed' }];
      }
      if (outcome === 'gaveUp' || (broken.before(waited.index)?.value ?? -1) > from) return [];
      const message = `${told} was told that it is broken, which it was at no time since it waited`;
      return [{ at: inOrder(began, waited), message, rule: 'broken-while-whole' }];
    });
  }
}

/** The first of some places after one. */
function after(places: readonly number[], index: number): number {
  return places[firstAt(places.length, (at) => (places[at] ?? 0) > index)] ?? Infinity;
}

/** No revision twice, and none below that of a hold that was told before the call of this one. */
function revisions(told: readonly Closed[]): Violation[] {
  const highest = new Highest<bigint, Closed>();
  const seen = new Map<bigint, Closed>();
  return told.flatMap((one): Violation[] => {
    const { hold, name, revision } = one.closed.record;
    const before = highest.before(one.began);
    const earlier =
      seen.get(revision) ?? (before !== undefined && before.value > revision ? before.of : undefined);
    seen.set(revision, one);
    highest.add(one.closed.index, revision, one);
    if (earlier === undefined) return [];
    const by = earlier.closed.record;
    const message = `${name}: hold ${hold} closed it at ${revision}, which is not above ${by.revision} of hold ${by.hold} before`;
    return [{ at: inOrder(earlier.closed, one.closed), message, rule: 'closed-at-lower' }];
  });
}

/** Two that certainly keep it closed, and neither may be broken. */
function byTwo(told: readonly Closed[]): Violation[] {
  const farthest = new Highest<number, Closed>();
  return told.flatMap((one): Violation[] => {
    const { closed } = one;
    const until = Math.min(one.until, one.broken?.index ?? Infinity);
    if (until <= closed.index) return [];
    const other = farthest.before(closed.index);
    farthest.add(closed.index, until, one);
    if (other === undefined || other.value <= closed.index) return [];
    const by = other.of.closed.record;
    const message = `${closed.record.name}: hold ${closed.record.hold} of ${closed.record.process} closed it while hold ${by.hold} of ${by.process} keeps it closed`;
    return [{ at: inOrder(other.of.closed, closed), message, rule: 'closed-by-two' }];
  });
}
