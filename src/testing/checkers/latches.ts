// Latches: whether what was counted is what was asked for, each once, and none opens before.
import type { HistoryRecord, RecordOf, Violation } from './history.js';
import { inOrder, type Placed, push, type Shown, Sums } from './places.js';

/** Judges all latches of a history. */
export function latches(history: readonly HistoryRecord[]): Violation[] {
  const records = new Map<string, Placed<LatchKind>[]>();
  for (const [index, record] of history.entries())
    if (isOfLatch(record)) push(records, record.name, { index, record });
  return [...records].flatMap(([name, its]) => new LatchOf(name, its).violations());
}

const KINDS = ['counting', 'counted', 'tally', 'latchOpen', 'latchReads', 'latchRead'] as const;
type LatchKind = (typeof KINDS)[number];

function isOfLatch(record: HistoryRecord): record is RecordOf<LatchKind> {
  return (KINDS as readonly string[]).includes(record.is);
}

/** A call of `countDown`. */
interface Call {
  readonly counting: Placed<'counting'>;
  counted?: Placed<'counted'>;
}

class LatchOf {
  readonly #name: string;
  readonly #records: readonly Placed<LatchKind>[];
  readonly #calls = new Map<number, Call>();
  readonly #tallies: Placed<'tally'>[] = [];
  readonly #reads = new Map<number, Placed<'latchReads'>>();
  readonly #count: number;
  /** What may have been asked for, and what certainly was, by calls. */
  readonly #asked = new Sums();
  readonly #done = new Sums();
  readonly #tallied = new Sums();

  constructor(name: string, records: readonly Placed<LatchKind>[]) {
    this.#name = name;
    this.#records = records;
    for (const { index, record } of records) {
      if (record.is === 'counting') this.#calls.set(record.call, { counting: { index, record } });
      else if (record.is === 'latchReads') this.#reads.set(record.call, { index, record });
      else if (record.is === 'tally') this.#tallies.push({ index, record });
      else if (record.is === 'counted') {
        const call = this.#calls.get(record.call);
        if (call !== undefined) call.counted ??= { index, record };
      }
    }
    const [call] = this.#calls.values();
    const [read] = this.#reads.values();
    this.#count = call?.counting.record.count ?? read?.record.count ?? Infinity;
    for (const { counted, counting } of this.#calls.values()) {
      if (counted?.record.outcome === 'void') continue;
      this.#asked.add(counting.index, counting.record.n);
      if (counted?.record.outcome === 'ok') this.#done.add(counted.index, counting.record.n);
    }
    for (const { index, record } of this.#tallies) this.#tallied.add(index, record.n);
  }

  violations(): Violation[] {
    return [...this.#eachTally(), ...this.#records.flatMap((placed) => this.#judge(placed))];
  }

  /** What may be counted before a place, and what certainly is: the same, if etcd told. */
  #counted(from: number, to: number): { readonly least: number; readonly most: number } {
    const [least, most] =
      this.#tallies.length > 0 ? [this.#tallied, this.#tallied] : [this.#done, this.#asked];
    return { least: least.before(from), most: most.before(to) };
  }

  #judge({ index, record }: Placed<LatchKind>): Violation[] {
    if (record.is === 'latchRead') return this.#read({ index, record });
    if (record.is === 'latchOpen') return this.#open({ index, record });
    if (record.is !== 'counted' || record.outcome !== 'ok' || this.#tallies.length === 0) return [];
    // It has a tally, unless it found the latch open.
    const [done, tallied] = [this.#done.before(index + 1), this.#tallied.before(index)];
    if (tallied >= Math.min(this.#count, done)) return [];
    return this.#wrong(
      'latch-lost-count',
      `${done} of ${this.#count} are said to be counted, and etcd has ${tallied}`,
      { index, record },
    );
  }

  #read(placed: Placed<'latchRead'>): Violation[] {
    const { call, remaining } = placed.record;
    const asked = this.#reads.get(call);
    const { least, most } = this.#counted(asked?.index ?? placed.index, placed.index);
    const [low, high] = [most, least].map((sum) => Math.max(0, this.#count - sum));
    const told = `read ${call} was told that ${remaining} of ${this.#count} remain, `;
    if (low !== undefined && remaining < low)
      return this.#wrong('latch-early', `${told}when ${low} at least did`, asked, placed);
    if (high !== undefined && remaining > high)
      return this.#wrong('latch-lost-count', `${told}when ${high} at most did`, asked, placed);
    return [];
  }

  #open(placed: Placed<'latchOpen'>): Violation[] {
    const first = this.#records.find(({ record }) => record.is === 'latchOpen');
    if (first !== undefined && first.index !== placed.index)
      return this.#wrong('opened-twice', 'it was opened a second time', first, placed);
    const { revision } = placed.record;
    const seen = this.#tallies.filter(({ record }) => record.revision <= revision);
    const sum = seen.reduce((all, { record }) => all + record.n, 0);
    const most = this.#tallies.length > 0 ? sum : this.#asked.before(placed.index);
    if (most >= this.#count) return [];
    return this.#wrong(
      'latch-early',
      `it was opened at ${revision} with ${most} of ${this.#count} counted`,
      placed,
    );
  }

  /** Each key once, and no more of them than calls that were made by then. */
  #eachTally(): Violation[] {
    const keys = new Map<string, Placed<'tally'>>();
    return this.#tallies.flatMap((tally): Violation[] => {
      const { index, record } = tally;
      const before = keys.get(record.key);
      keys.set(record.key, tally);
      if (before !== undefined)
        return this.#wrong('counted-twice', `${record.key} was counted twice`, before, tally);
      const [asked, tallied] = [this.#asked.before(index), this.#tallied.before(index + 1)];
      if (this.#calls.size === 0 || tallied <= asked) return [];
      return this.#wrong(
        'counted-twice',
        `${tallied} are counted with ${record.key}, and ${asked} were asked for`,
        tally,
      );
    });
  }

  #wrong(rule: string, what: string, ...at: readonly (Shown | undefined)[]): Violation[] {
    return [{ at: inOrder(...at), message: `${this.#name}: ${what}`, rule }];
  }
}
