// The checker of owners and ticks: what it must accept, and each kind of history that it must refuse.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { checkOwners, type HistoryRecord } from 'conclave/testing';

import { allOf, changed, inserted, Random } from './mutations.js';
import { type Draft, rules, timed } from './records.js';

const owner = (process: string, token: bigint, partition = '0') => {
  const base = { name: 'p', partition, process, token };
  return {
    disowned: { ...base, is: 'disowned' } as Draft,
    owned: { ...base, is: 'owned' } as Draft,
    writes: (revision: bigint): Draft => ({ ...base, is: 'ownedWrite', revision }),
  };
};
const [a, b] = [owner('A', 3n), owner('B', 7n)];
const of = (is: 'frozen' | 'thawed' | 'crashed', process: string): Draft => ({ is, process });
const ticked = (process: string, tick: string, name = 's'): Draft => ({ is: 'ticked', name, process, tick });

function broken(...drafts: readonly Draft[]): string[] {
  const violations = checkOwners(timed(...drafts));
  for (const { at } of violations) assert.ok(at.length > 0, 'it shows records');
  return rules(violations);
}

describe('checkOwners accepts', () => {
  test('owners one after another, of a partition, and at once, of two', () => {
    assert.deepEqual(broken(a.owned, a.writes(4n), a.disowned, b.owned, b.writes(8n)), []);
    assert.deepEqual(broken(a.owned, owner('B', 3n, '1').owned), []);
  });

  test('one that crashes, or is frozen and told when it is woken', () => {
    assert.deepEqual(broken(a.owned, of('crashed', 'A'), b.owned), []);
    assert.deepEqual(broken(a.owned, of('frozen', 'A'), b.owned, of('thawed', 'A'), a.disowned), []);
    assert.deepEqual(broken(of('frozen', 'A'), b.owned, of('thawed', 'A'), b.disowned, a.owned), []);
  });

  test('ticks, each once, and the same of two schedules', () => {
    assert.deepEqual(broken(ticked('A', '1'), ticked('B', '2'), ticked('B', '1', 't')), []);
  });
});

describe('checkOwners refuses', () => {
  test('two owners at once', () => {
    assert.deepEqual(broken(a.owned, b.owned), ['two-owners']);
    assert.deepEqual(broken(a.owned, b.owned, a.disowned), ['two-owners']);
    assert.deepEqual(broken(a.owned, of('frozen', 'B'), of('thawed', 'B'), b.owned), ['two-owners']);
    assert.deepEqual(broken(of('frozen', 'A'), of('thawed', 'A'), a.owned, b.owned), ['two-owners']);
  });

  test('a token that repeats or falls', () => {
    assert.deepEqual(broken(b.owned, b.disowned, a.owned), ['owner-token']);
    assert.deepEqual(broken(a.owned, a.disowned, owner('B', 3n).owned), ['owner-token']);
  });

  test('a write before its token, and one when there is a greater one', () => {
    const write = ['owner-write'];
    assert.deepEqual(broken(a.owned, a.writes(3n)), write);
    assert.deepEqual(broken(a.owned, a.disowned, b.owned, a.writes(8n)), write);
    assert.deepEqual(broken(a.owned, a.writes(7n), a.disowned, b.owned), write);
  });

  test('a tick that is run twice', () => {
    assert.deepEqual(broken(ticked('A', '1'), ticked('B', '1')), ['ticked-twice']);
    assert.deepEqual(broken(ticked('A', '1'), ticked('A', '1')), ['ticked-twice']);
  });
});

describe('checkOwners, of histories by a model', () => {
  /** Partitions that move, with writes, and ticks by whoever. */
  function play(random: Random): HistoryRecord[] {
    const drafts: Draft[] = [];
    const owners = new Map<string, ReturnType<typeof owner>>();
    let revision = 1n;
    for (let step = 0; step < 80; step++) {
      const process = `p${random.below(4)}`;
      const partition = String(random.below(3));
      const own = owners.get(partition);
      if (random.chance(0.2)) drafts.push(ticked(process, String(step)));
      else if (own === undefined) {
        const next = owner(process, ++revision, partition);
        owners.set(partition, next);
        drafts.push(next.owned);
      } else if (random.chance(0.6)) drafts.push(own.writes(++revision));
      else {
        drafts.push(own.disowned);
        owners.delete(partition);
      }
    }
    return timed(...drafts);
  }

  test('accepts what it does, and refuses it once it is spoilt', () => {
    for (let seed = 0; seed < 150; seed++) {
      const random = new Random(seed);
      const history = play(random);
      const refuses = (rule: string, spoilt: HistoryRecord[]): void => {
        assert.ok(rules(checkOwners(spoilt)).includes(rule), `seed ${seed}: ${rule}`);
      };
      assert.deepEqual(checkOwners(history), [], `seed ${seed}`);
      const { index, record } = random.pick(allOf(history, 'owned'));
      refuses(
        'two-owners',
        inserted(history, index + 1, { ...record, process: 'another', token: record.token + 1n }),
      );
      refuses('owner-token', [...history, { ...record, process: 'another' }]);
      refuses('owner-write', changed(history, random.pick(allOf(history, 'ownedWrite')), { revision: 1n }));
      refuses('ticked-twice', [...history, random.pick(allOf(history, 'ticked')).record]);
    }
  });
});
