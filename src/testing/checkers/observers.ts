/** Whether observers of an election saw its leaders in order, left none out, and ended with the one who leads. */
import type { HistoryRecord, RecordOf, Violation } from './history.js';

/**
 * Rules: `observer-went-back`, `observer-skipped`, `observer-saw-nobody` (what never led), `observer-ended-wrong` (of those
 * without `observingEnds`; the history has to end when they had the time to see it). An observer that relisted may skip.
 * That nobody leads may be left out too, but not be made up.
 */
export function checkObservers(history: readonly HistoryRecord[]): Violation[] {
  const terms = new Map<string, RecordOf<'led'>[]>();
  const observers = new Map<string, Observer>();
  for (const record of history)
    if (record.is === 'led') terms.set(record.name, [...(terms.get(record.name) ?? []), record]);
  for (const led of terms.values()) led.sort((one, other) => Number(one.revision - other.revision));
  const violations: Violation[] = [];
  for (const record of history) {
    if (record.is !== 'observed' && record.is !== 'relisted' && record.is !== 'observingEnds') continue;
    const key = JSON.stringify([record.process, record.name]);
    const observer = observers.get(key) ?? new Observer(terms.get(record.name) ?? []);
    observers.set(key, observer);
    if (record.is === 'relisted') observer.mayJump = true;
    else if (record.is === 'observingEnds') observers.delete(key);
    else violations.push(...observer.sees(record));
  }
  return [...violations, ...[...observers.values()].flatMap((observer) => observer.ends())];
}

class Observer {
  mayJump = true;
  readonly #terms: readonly RecordOf<'led'>[];
  #last: RecordOf<'observed'> | undefined;

  constructor(terms: readonly RecordOf<'led'>[]) {
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
    const isTrue = this.#terms.some(
      ({ leader, revision }) => leader === record.leader && revision === record.revision,
    );
    if (!isTrue) return violation('observer-saw-nobody', ', which never was');
    const { mayJump } = this;
    this.mayJump = false;
    this.#last = record;
    if (last === undefined) return [];
    // What is there when it reads anew may be what it saw last.
    if (record.revision < last.revision || (record.revision === last.revision && !mayJump))
      return violation('observer-went-back', ` after ${shown(last)}`, last);
    const missed = this.#terms.find(
      ({ leader, revision }) =>
        leader !== undefined && revision > last.revision && revision < record.revision,
    );
    if (missed === undefined || mayJump) return [];
    return violation('observer-skipped', ` and not ${shown(missed)}`, last, missed);
  }

  ends(): Violation[] {
    const [last, right] = [this.#last, this.#terms.at(-1)];
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
