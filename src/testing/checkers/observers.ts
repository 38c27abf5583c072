/** Whether observers of an election saw its leaders in order, left none out, and ended with the one who leads. */
import type { HistoryRecord, RecordOf, Violation } from './history.js';
import { firstAt, push } from './places.js';

/**
 * Rules: `observer-went-back`, `observer-skipped`, `observer-saw-nobody` (what never led), `observer-ended-wrong` (of those
 * without `observingEnds`; the history has to end when they had the time to see it). An observer that relisted may skip.
 * That nobody leads may be left out too, but not be made up.
 */
export function checkObservers(history: readonly HistoryRecord[]): Violation[] {
  const led = new Map<string, RecordOf<'led'>[]>();
  const observers = new Map<string, Observer>();
  for (const record of history) if (record.is === 'led') push(led, record.name, record);
  const terms = new Map([...led].map(([name, its]) => [name, new Terms(its)]));
  const violations: Violation[] = [];
  for (const record of history) {
    if (record.is !== 'observed' && record.is !== 'relisted' && record.is !== 'observingEnds') continue;
    const key = JSON.stringify([record.process, record.name]);
    const observer = observers.get(key) ?? new Observer(terms.get(record.name) ?? new Terms([]));
    observers.set(key, observer);
    if (record.is === 'relisted') observer.mayJump = true;
    else if (record.is === 'observingEnds') observers.delete(key);
    else violations.push(...observer.sees(record));
  }
  return [...violations, ...[...observers.values()].flatMap((observer) => observer.ends())];
}

/** The changes of a leader, in order. */
class Terms {
  readonly last: RecordOf<'led'> | undefined;
  readonly #all: ReadonlySet<string>;
  /** Those in which somebody led. */
  readonly #ledBy: readonly RecordOf<'led'>[];

  constructor(led: readonly RecordOf<'led'>[]) {
    const inOrder = led.toSorted((one, other) => Number(one.revision - other.revision));
    this.last = inOrder.at(-1);
    this.#all = new Set(inOrder.map(keyOf));
    this.#ledBy = inOrder.filter(({ leader }) => leader !== undefined);
  }

  has(term: RecordOf<'observed'>): boolean {
    return this.#all.has(keyOf(term));
  }

  /** The first that led after one revision and before another. */
  between(after: bigint, before: bigint): RecordOf<'led'> | undefined {
    const next = this.#ledBy[firstAt(this.#ledBy.length, (at) => (this.#ledBy[at]?.revision ?? 0n) > after)];
    return next !== undefined && next.revision < before ? next : undefined;
  }
}

class Observer {
  mayJump = true;
  readonly #terms: Terms;
  #last: RecordOf<'observed'> | undefined;

  constructor(terms: Terms) {
    this.#terms = terms;
  }

  sees(record: RecordOf<'observed'>): Violation[] {
    const last = this.#last;
    const violation = (rule: string, what: string, ...more: HistoryRecord[]): Violation[] => [
      {
        rule,
        message: `${record.name}: ${record.process} saw ${shown(record)}${what}`,
        at: [...more, record],
      },
    ];
    if (!this.#terms.has(record)) return violation('observer-saw-nobody', ', which never was');
    const { mayJump } = this;
    this.mayJump = false;
    this.#last = record;
    if (last === undefined) return [];
    // What is there when it reads anew may be what it saw last.
    if (record.revision < last.revision || (record.revision === last.revision && !mayJump))
      return violation('observer-went-back', ` after ${shown(last)}`, last);
    const missed = this.#terms.between(last.revision, record.revision);
    if (missed === undefined || mayJump) return [];
    return violation('observer-skipped', ` and not ${shown(missed)}`, last, missed);
  }

  ends(): Violation[] {
    const [last, right] = [this.#last, this.#terms.last];
    if (right === undefined || last?.revision === right.revision) return [];
    const whom = last === undefined ? 'nothing' : `with ${shown(last)}`;
    return [
      {
        rule: 'observer-ended-wrong',
        message: `${right.name}: ${last?.process ?? 'an observer'} ended ${whom}, not with ${shown(right)}`,
        at: last === undefined ? [right] : [right, last],
      },
    ];
  }
}

function shown({ leader, revision }: { leader: string | undefined; revision: bigint }): string {
  return `${leader ?? 'nobody'} (revision ${revision})`;
}

function keyOf({ leader, revision }: RecordOf<'led' | 'observed'>): string {
  return JSON.stringify([leader ?? null, String(revision)]);
}
