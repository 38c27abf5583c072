// The checker of barriers, double barriers and latches: what it must accept, and each kind of history that it must refuse.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { checkBarriers, type HistoryRecord } from 'conclave/testing';

import { playBarrier, playDoubleBarrier, playLatch } from './barrier-model.js';
import { allOf, changed, inserted, moved, Random, without } from './mutations.js';
import { type Draft, rules, timed } from './records.js';

function broken(...drafts: readonly Draft[]): string[] {
  const violations = checkBarriers(timed(...drafts));
  for (const { at } of violations) assert.ok(at.length > 0, 'it shows records');
  return rules(violations);
}

const SEEDS = 150;

/** What a rule says to histories of a model: nothing as they are, and its name once they are spoilt. */
function attack(
  play: (random: Random) => HistoryRecord[],
  spoilers: Readonly<
    Record<string, (history: HistoryRecord[], random: Random) => HistoryRecord[] | undefined>
  >,
): void {
  const times = new Map(Object.keys(spoilers).map((what) => [what, 0]));
  for (let seed = 0; seed < SEEDS; seed++) {
    const random = new Random(seed);
    const history = play(random);
    assert.deepEqual(checkBarriers(history), [], `seed ${seed}`);
    for (const [what, spoil] of Object.entries(spoilers)) {
      const spoilt = spoil(history, random);
      if (spoilt === undefined) continue;
      const [rule = ''] = what.split(':');
      assert.ok(rules(checkBarriers(spoilt)).includes(rule), `seed ${seed}: ${what}`);
      times.set(what, (times.get(what) ?? 0) + 1);
    }
  }
  for (const [what, often] of times) assert.ok(often > SEEDS / 5, `${what} was tried ${often} times`);
}

describe('checkBarriers, of barriers', () => {
  const base = { name: 'b', process: 'H' };
  const closing = (hold: number): Draft => ({ ...base, hold, is: 'closing' });
  const closed = (hold: number, revision: bigint): Draft => ({ ...base, hold, is: 'closed', revision });
  const mayOpen = (hold: number): Draft => ({ ...base, hold, is: 'mayOpen' });
  const mayBreak = (hold: number): Draft => ({ ...base, hold, is: 'mayBreak' });
  const resets: Draft = { ...base, is: 'resets', reset: 1 };
  const resetEnds: Draft = { ...base, is: 'resetEnds', reset: 1 };
  const waits: Draft = { ...base, is: 'waits', process: 'W', wait: 1 };
  const waited = (outcome: 'passed' | 'broken' | 'gaveUp'): Draft => ({
    ...base,
    is: 'waited',
    outcome,
    process: 'W',
    wait: 1,
  });

  test('accepts who passes before, after, or when it may be open for a moment', () => {
    assert.deepEqual(broken(waits, waited('passed'), closed(1, 2n)), []);
    assert.deepEqual(broken(waits, closed(1, 2n), waited('passed')), [], 'it may have passed before');
    assert.deepEqual(broken(closed(1, 2n), waits, mayOpen(1), waited('passed')), []);
    assert.deepEqual(broken(closed(1, 2n), waits, mayOpen(1), closed(2, 3n), waited('passed')), []);
    assert.deepEqual(broken(closed(1, 2n), waits, waited('gaveUp')), []);
  });

  test('accepts resets that take their time, also one that was asked for before', () => {
    assert.deepEqual(broken(closed(1, 2n), resets, waits, waited('passed'), resetEnds), []);
    assert.deepEqual(broken(resets, closing(1), closed(1, 2n), waits, waited('passed'), resetEnds), []);
    assert.deepEqual(broken(closing(1), resets, resetEnds, closing(2), closed(2, 4n), closed(1, 2n)), []);
  });

  test('accepts one that breaks, and is taken over', () => {
    const breaks = [closed(1, 2n), mayBreak(1)];
    assert.deepEqual(broken(...breaks, waits, waited('broken'), closed(2, 4n)), []);
    assert.deepEqual(broken(...breaks, closed(2, 4n), mayOpen(2), waits, waited('passed')), []);
  });

  test('refuses who passes while it is closed', () => {
    const passed = ['passed-while-closed'];
    assert.deepEqual(broken(closed(1, 2n), waits, waited('passed'), mayOpen(1)), passed);
    assert.deepEqual(broken(closed(1, 2n), waits, waited('passed')), passed);
    assert.deepEqual(broken(resets, resetEnds, closing(1), closed(1, 2n), waits, waited('passed')), passed);
    assert.deepEqual(
      broken(closed(1, 2n), mayBreak(1), waits, waited('passed')),
      passed,
      'a broken one is closed',
    );
    assert.deepEqual(
      broken(closed(1, 2n), mayBreak(1), closed(2, 4n), waits, waited('passed'), mayOpen(2)),
      passed,
    );
  });

  test('refuses who is told that a whole one is broken', () => {
    const whole = ['broken-while-whole'];
    assert.deepEqual(broken(closed(1, 2n), waits, waited('broken')), whole);
    assert.deepEqual(broken(waits, waited('broken'), closed(1, 2n), mayBreak(1)), whole);
    assert.deepEqual(broken(closed(1, 2n), mayBreak(1), closed(2, 4n), waits, waited('broken')), whole);
  });

  test('refuses two that close it, and revisions that do not rise', () => {
    assert.deepEqual(broken(closed(1, 2n), closed(2, 4n)), ['closed-by-two']);
    assert.deepEqual(broken(closed(1, 4n), mayOpen(1), closing(2), closed(2, 3n)), ['closed-at-lower']);
    assert.deepEqual(broken(closing(2), closed(1, 4n), mayOpen(1), closed(2, 4n)), ['closed-at-lower']);
  });

  test('of a model: accepts what it does, and refuses it once it is spoilt', () => {
    attack((random) => playBarrier(random), {
      'broken-while-whole': (history, random) => {
        const passed = allOf(history, 'waited').filter(({ record }) => record.outcome === 'passed');
        const breaks = allOf(history, 'mayBreak')[0]?.index ?? Infinity;
        const early = passed.filter(({ index }) => index < breaks);
        return early.length === 0 ? undefined : changed(history, random.pick(early), { outcome: 'broken' });
      },
      'closed-at-lower': (history, random) => {
        const [first, ...later] = allOf(history, 'closed');
        if (first === undefined || later.length === 0) return undefined;
        return changed(history, random.pick(later), { revision: first.record.revision });
      },
      'closed-by-two': (history, random) => {
        const closed = allOf(history, 'closed');
        if (closed.length === 0) return undefined;
        const { index, record } = random.pick(closed);
        return inserted(history, index + 1, { ...record, hold: 10_000, revision: 10_000n });
      },
      'passed-while-closed': (history, random) => {
        const closed = allOf(history, 'closed');
        if (closed.length === 0) return undefined;
        const { index, record } = random.pick(closed);
        const wait = { ...record, process: 'W', wait: 10_000 } as const;
        return inserted(
          history,
          index + 1,
          { ...wait, is: 'waits' },
          { ...wait, is: 'waited', outcome: 'passed' },
        );
      },
    });
  });
});

describe('checkBarriers, of double barriers', () => {
  /** Two make a round, unless it is said. */
  const party = (number: number, process = `P${number}`, count = 2) => {
    const base = { name: 'b', party: number, process };
    return {
      arrived: (createRevision: bigint): Draft => ({ ...base, createRevision, is: 'arrived' }),
      ends: { ...base, is: 'enterEnds' } as Draft,
      entered: (round: bigint): Draft => ({ ...base, is: 'entered', round }),
      enters: { ...base, count, is: 'enters' } as Draft,
      gone: { ...base, is: 'partyGone' } as Draft,
      leaves: { ...base, is: 'leaves' } as Draft,
      left: { ...base, is: 'left' } as Draft,
    };
  };
  const [a, b, c, d] = [party(1), party(2), party(3), party(4)];
  const crashed = (process: string): Draft => ({ is: 'crashed', process });
  const first = [a.enters, b.enters, a.entered(5n), b.entered(5n)];

  test('accepts rounds one after another, told in any order', () => {
    assert.deepEqual(broken(...first, a.leaves, b.leaves, b.left, a.left), []);
    assert.deepEqual(
      broken(...first, a.leaves, c.enters, d.enters, b.leaves, d.entered(8n), c.entered(8n), b.left),
      [],
    );
    assert.deepEqual(
      broken(a.enters, b.enters, b.entered(5n), b.leaves, a.entered(5n), a.leaves, b.left),
      [],
    );
  });

  test('accepts a round with one that gave up, crashed, or was never told', () => {
    assert.deepEqual(broken(a.enters, b.enters, a.entered(5n)), []);
    assert.deepEqual(broken(a.enters, b.enters, b.ends, a.entered(5n)), [], 'it was full before');
    assert.deepEqual(broken(b.enters, crashed('P2'), a.enters, a.entered(5n)), [], 'its key outlives it');
    assert.deepEqual(
      broken(b.enters, b.arrived(4n), b.ends, a.enters, a.entered(5n)),
      [],
      'its key is not gone',
    );
  });

  test('accepts who leaves, or enters the next round, when another was lost', () => {
    assert.deepEqual(broken(...first, b.gone, a.leaves, a.left), []);
    assert.deepEqual(broken(...first, crashed('P2'), a.leaves, c.enters, d.enters, c.entered(9n)), []);
  });

  test('refuses who enters before all are there', () => {
    const early = ['entered-early'];
    assert.deepEqual(broken(a.enters, a.entered(5n)), early);
    assert.deepEqual(broken(a.enters, a.entered(5n), b.enters, b.entered(5n)), [
      'entered-early',
      'round-of-old',
    ]);
    assert.deepEqual(broken(b.enters, b.ends, a.enters, a.entered(5n)), early, 'the other had given up');
    assert.deepEqual(broken(b.enters, b.arrived(2n), b.gone, a.enters, a.entered(5n)), early);
    assert.deepEqual(broken(a.enters, a.entered(5n), b.enters), early);
  });

  test('refuses a round of too many', () => {
    assert.deepEqual(broken(a.enters, b.enters, c.enters, a.entered(5n), b.entered(5n), c.entered(5n)), [
      'round-too-large',
    ]);
  });

  test('refuses a round that begins before the last one was left', () => {
    const overlap = ['rounds-overlap'];
    const next = [c.enters, d.enters, c.entered(9n)];
    assert.deepEqual(broken(...first, ...next), overlap);
    assert.deepEqual(broken(...first, a.leaves, ...next, b.leaves), overlap);
  });

  test('refuses a party that a later round had passed, and one whose key is of another round', () => {
    assert.deepEqual(broken(...first, a.leaves, b.leaves, c.enters, d.enters, c.entered(4n), d.entered(4n)), [
      'round-of-old',
      'rounds-overlap',
    ]);
    assert.deepEqual(broken(a.enters, b.enters, a.arrived(6n), a.entered(5n)), ['round-of-old']);
    assert.deepEqual(
      broken(...first, a.leaves, b.leaves, c.enters, d.enters, d.arrived(3n), c.entered(9n), d.entered(9n)),
      ['round-of-old'],
    );
  });

  test('refuses who is told that all have left when one has not', () => {
    assert.deepEqual(broken(...first, a.leaves, a.left, b.leaves), ['left-early']);
    assert.deepEqual(broken(...first, a.leaves, a.left), ['left-early']);
  });

  test('of a model: accepts what it does, and refuses it once it is spoilt', () => {
    const pairs = (history: readonly HistoryRecord[]) => {
      const entered = allOf(history, 'entered');
      return entered.filter(
        ({ record: { round } }) => entered.filter(({ record }) => record.round === round).length > 1,
      );
    };
    attack((random) => playDoubleBarrier(random, 1 + random.below(4)), {
      'entered-early': (history, random) => {
        const entered = pairs(history);
        if (entered.length === 0) return undefined;
        const { round } = random.pick(entered).record;
        const [one, ...others] = entered.filter(({ record }) => record.round === round);
        const other = others.at(-1);
        const enters = allOf(history, 'enters').find(({ record }) => record.party === other?.record.party);
        if (one === undefined || enters === undefined) return undefined;
        return moved(history, one.index, enters.index);
      },
      'left-early': (history, random) => {
        const left = allOf(history, 'left');
        if (left.length === 0) return undefined;
        const { index, record } = random.pick(left);
        const own = allOf(history, 'entered').find((one) => one.record.party === record.party);
        const round = allOf(history, 'entered').filter((one) => one.record.round === own?.record.round);
        const other = random.pick(round).record;
        const stays = history.filter(
          (each) =>
            !(
              ('party' in each && each.party === other.party) ||
              (each.is === 'crashed' && each.process === other.process)
            ) || ['enters', 'entered', 'arrived'].includes(each.is),
        );
        return [...stays, ...(other.party === record.party ? [history[index] as HistoryRecord] : [])];
      },
      'round-of-old': (history, random) => {
        const arrived = allOf(history, 'arrived').filter(({ record }) =>
          allOf(history, 'entered').some((one) => one.record.party === record.party),
        );
        return arrived.length === 0
          ? undefined
          : changed(history, random.pick(arrived), { createRevision: random.chance(0.5) ? 0n : 10_000n });
      },
      'round-too-large': (history, random) => {
        const entered = allOf(history, 'entered');
        const counts = new Map(allOf(history, 'enters').map(({ record }) => [record.party, record.count]));
        const full = entered.filter(
          ({ record: { party, round } }) =>
            entered.filter(({ record }) => record.round === round).length === counts.get(party),
        );
        if (full.length === 0) return undefined;
        const { index, record } = random.pick(full);
        return inserted(history, index + 1, { ...record, party: 10_000 });
      },
      'rounds-overlap': (history, random) => {
        const entered = allOf(history, 'entered');
        const later = entered.filter(({ record }) => record.round > (entered[0]?.record.round ?? 0n));
        if (later.length === 0) return undefined;
        const { round } = random.pick(later).record;
        const before = entered.filter(({ record }) => record.round < round);
        const one = random.pick(before).record;
        return history.filter(
          (each) =>
            !(
              ('party' in each &&
                each.party === one.party &&
                ['leaves', 'left', 'partyGone'].includes(each.is)) ||
              (each.is === 'crashed' && each.process === one.process)
            ),
        );
      },
    });
  });
});

describe('checkBarriers, of latches', () => {
  const base = { name: 'l', process: 'P' };
  const counting = (call: number, n = 1): Draft => ({ ...base, call, count: 2, is: 'counting', n });
  const counted = (call: number, outcome: 'ok' | 'void' | 'unknown' = 'ok'): Draft => ({
    ...base,
    call,
    is: 'counted',
    outcome,
  });
  const tally = (key: string, revision: bigint, n = 1): Draft => ({ ...base, is: 'tally', key, n, revision });
  const open = (revision: bigint): Draft => ({ ...base, is: 'latchOpen', revision });
  const reads: Draft = { ...base, call: 9, count: 2, is: 'latchReads' };
  const read = (remaining: number): Draft => ({ ...base, call: 9, is: 'latchRead', remaining });
  const both = [counting(1), counted(1), counting(2), counted(2)];

  test('accepts what was counted, may have been, or is being counted', () => {
    assert.deepEqual(broken(reads, read(2), ...both), []);
    assert.deepEqual(broken(...both, reads, read(0)), []);
    assert.deepEqual(broken(counting(1), counting(2), reads, read(0)), []);
    assert.deepEqual(broken(counting(1), counting(2), reads, read(2), counted(1), counted(2)), []);
    assert.deepEqual(broken(counting(1), counted(1, 'unknown'), reads, read(1)), []);
    assert.deepEqual(broken(counting(1, 5), counted(1), reads, read(0)), []);
  });

  test('accepts tallies and the opening, and counts that found it open', () => {
    const tallied = [
      counting(1),
      tally('x', 2n),
      counted(1),
      counting(2),
      tally('y', 3n),
      open(4n),
      counted(2),
    ];
    assert.deepEqual(broken(...tallied, reads, read(0), counting(3), counted(3)), []);
  });

  test('refuses one that is open, or told to be, before all was counted', () => {
    const early = ['latch-early'];
    assert.deepEqual(broken(counting(1), counted(1), reads, read(0), counting(2)), early);
    assert.deepEqual(broken(counting(1), counted(1, 'void'), counting(2), reads, read(0)), early);
    assert.deepEqual(broken(counting(1), open(3n)), early);
    assert.deepEqual(broken(counting(1), counting(2), tally('x', 2n), open(3n), tally('y', 4n)), early);
    assert.deepEqual(broken(counting(1), counting(2), tally('x', 2n), reads, read(0)), early);
  });

  test('refuses a count that is lost', () => {
    const lost = ['latch-lost-count'];
    assert.deepEqual(broken(...both, reads, read(1)), lost);
    assert.deepEqual(broken(counting(1), tally('x', 2n), counted(1), counting(2), counted(2)), lost);
    assert.deepEqual(broken(counting(1), tally('x', 2n), reads, read(2)), lost);
  });

  test('refuses what is counted twice, or was asked for by nobody', () => {
    assert.deepEqual(broken(counting(1), counting(2), tally('x', 2n), tally('x', 3n)), ['counted-twice']);
    assert.deepEqual(broken(counting(1), tally('x', 2n), tally('y', 3n)), ['counted-twice']);
    assert.deepEqual(broken(...both, open(4n), open(5n)), ['opened-twice']);
  });

  test('of a model: accepts what it does, and refuses it once it is spoilt', () => {
    const wrongRead = (by: number) => (history: HistoryRecord[], random: Random) => {
      const reading = allOf(history, 'latchRead').filter(({ record }) => record.remaining + by >= 0);
      if (reading.length === 0) return undefined;
      const one = random.pick(reading);
      return changed(history, one, { remaining: one.record.remaining + by });
    };
    attack((random) => playLatch(random, 3 + random.below(5), true), {
      'counted-twice': (history, random) => {
        const tallies = allOf(history, 'tally');
        if (tallies.length === 0) return undefined;
        const { index, record } = random.pick(tallies);
        return inserted(history, index, record);
      },
      'latch-early': wrongRead(-1),
      'latch-early: opened before': (history) => {
        const [opening] = allOf(history, 'latchOpen');
        return opening && moved(changed(history, opening, { revision: 1n }), opening.index, 0);
      },
      'latch-lost-count': wrongRead(1),
      'latch-lost-count: a tally': (history, random) => {
        const told = allOf(history, 'counted').filter(({ record }) => record.outcome === 'ok');
        const mine = allOf(history, 'tally').filter(({ record }) =>
          told.some(({ record: { call } }) => record.key === `by/${call}`),
        );
        const others = allOf(history, 'tally').length;
        return mine.length === 0 || others < 2 ? undefined : lostIf(history, random.pick(mine).index);
      },
      'opened-twice': (history) => {
        const [opening] = allOf(history, 'latchOpen');
        return opening && inserted(history, opening.index, opening.record);
      },
    });
    attack((random) => playLatch(random, 3 + random.below(5), false), {
      'latch-early': (history, random) => {
        const early = allOf(history, 'latchRead').filter(({ index, record }) => {
          const asked = history.slice(0, index).map((each) => (each.is === 'counting' ? each.n : 0));
          return record.remaining > 0 && asked.reduce((a, b) => a + b, 0) === 0;
        });
        return early.length === 0 ? undefined : changed(history, random.pick(early), { remaining: 0 });
      },
      'latch-lost-count': (history, random) => {
        const reading = allOf(history, 'latchRead');
        return reading.length === 0 ? undefined : changed(history, random.pick(reading), { remaining: 100 });
      },
    });
  });

  /** Without the tally, if what was told as counted was needed to open it. */
  function lostIf(history: readonly HistoryRecord[], index: number): HistoryRecord[] | undefined {
    const spoilt = without(history, index);
    let [done, tallied] = [0, 0];
    const n = new Map(allOf(history, 'counting').map(({ record }) => [record.call, record]));
    for (const each of spoilt) {
      if (each.is === 'tally') tallied += each.n;
      if (each.is === 'counted' && each.outcome === 'ok') done += n.get(each.call)?.n ?? 0;
      if (tallied < Math.min(done, n.values().next().value?.count ?? 0)) return spoilt;
    }
    return undefined;
  }
});
