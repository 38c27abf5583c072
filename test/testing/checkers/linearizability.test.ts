// The checker of registers: what it must accept, what it must refuse, and all orders tried beside it.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { checkLinearizability, type CallOutcome, type RegisterOperation } from 'conclave/testing';

import { bruteForce, historyOf, type Planned } from './registers.js';

const unknown: CallOutcome = { is: 'unknown' };

/** `a: 1-4 write 1`: a process, from when to when. */
function call(
  process: string,
  times: readonly [number, number],
  what: Pick<Planned, 'operation' | 'outcome'>,
): Planned {
  return { process, from: times[0], to: times[1], ...what };
}

function write(
  value: string,
  outcome: Planned['outcome'] = { is: 'ok' },
): Pick<Planned, 'operation' | 'outcome'> {
  return { operation: { is: 'write', value }, outcome };
}

function read(value: string | undefined, revision?: bigint): Pick<Planned, 'operation' | 'outcome'> {
  return {
    operation: { is: 'read' },
    outcome: { is: 'ok', value, ...(revision === undefined ? {} : { revision }) },
  };
}

function swap(
  expected: string | undefined,
  value: string,
  outcome: Planned['outcome'],
): Pick<Planned, 'operation' | 'outcome'> {
  return { operation: { is: 'compareAndSet', expected, value }, outcome };
}

function remove(outcome: Planned['outcome'] = { is: 'ok' }): Pick<Planned, 'operation' | 'outcome'> {
  return { operation: { is: 'delete' }, outcome };
}

function isRefused(...calls: readonly Planned[]): boolean {
  const violations = checkLinearizability(historyOf(calls));
  for (const { rule, at } of violations) {
    assert.equal(rule, 'linearizable');
    assert.ok(at.length > 0, 'it shows the calls that have no place');
  }
  return violations.length > 0;
}

describe('checkLinearizability accepts', () => {
  test('nothing, and one call after another', () => {
    assert.deepEqual(checkLinearizability([]), []);
    assert.ok(
      !isRefused(
        call('a', [1, 2], read(undefined)),
        call('a', [3, 4], write('1')),
        call('b', [5, 6], read('1')),
      ),
    );
  });

  test('reads beside a write that see it or not, as long as none goes back', () => {
    const writing = call('a', [1, 10], write('1'));
    assert.ok(!isRefused(writing, call('b', [2, 3], read(undefined)), call('c', [4, 5], read('1'))));
    assert.ok(!isRefused(writing, call('b', [2, 5], read('1')), call('c', [3, 4], read(undefined))));
  });

  test('a write of unknown outcome that is done much later, or never, or by a process that is gone', () => {
    for (const outcome of [unknown, 'none'] as const) {
      const lost = call('a', [1, 2], write('1', outcome));
      assert.ok(!isRefused(lost, call('b', [3, 4], read(undefined)), call('b', [5, 6], read('1'))));
      assert.ok(!isRefused(lost, call('b', [3, 4], write('2')), call('b', [5, 6], read('2'))));
      assert.ok(!isRefused(lost, call('b', [3, 4], write('2')), call('b', [5, 6], read('1'))));
    }
  });

  test('a chain of unknown compareAndSets that a read shows to be done', () => {
    const chain = [
      call('a', [1, 2], swap(undefined, '1', unknown)),
      call('b', [3, 4], swap('2', '3', unknown)),
      call('c', [5, 6], swap('1', '2', unknown)),
    ];
    assert.ok(!isRefused(...chain, call('d', [7, 8], read('3'))));
  });

  test('revisions that rise, and those that only a read has told', () => {
    assert.ok(
      !isRefused(
        call('a', [1, 2], write('1', { is: 'ok', revision: 5n })),
        call('a', [3, 4], write('2', unknown)),
        call('b', [5, 6], read('2', 7n)),
        call('b', [7, 8], remove({ is: 'ok', applied: true, revision: 8n })),
        call('b', [9, 10], read(undefined, 0n)),
      ),
    );
  });

  test('what was there before, told as `initial`', () => {
    const history = historyOf([call('a', [1, 2], read('old')), call('a', [3, 4], read('old', 3n))]);
    assert.deepEqual(checkLinearizability(history, { initial: { x: 'old' } }), []);
    assert.equal(checkLinearizability(history).length, 1);
  });
});

describe('checkLinearizability refuses', () => {
  test('a stale read, and reads that go back', () => {
    assert.ok(isRefused(call('a', [1, 2], write('1')), call('b', [3, 4], read(undefined))));
    const writing = call('a', [1, 10], write('1'));
    assert.ok(isRefused(writing, call('b', [2, 3], read('1')), call('c', [4, 5], read(undefined))));
  });

  test('a value that nobody wrote, or that was certainly not written, or is written only later', () => {
    assert.ok(isRefused(call('a', [1, 2], read('9'))));
    assert.ok(isRefused(call('a', [1, 2], write('1', { is: 'void' })), call('a', [3, 4], read('1'))));
    assert.ok(isRefused(call('a', [1, 2], read('1')), call('a', [3, 4], write('1', unknown))));
  });

  test('a lost update: two compareAndSets of one state', () => {
    const applied: CallOutcome = { is: 'ok', applied: true };
    assert.ok(
      isRefused(
        call('a', [1, 3], swap(undefined, '1', applied)),
        call('b', [2, 4], swap(undefined, '2', applied)),
      ),
    );
    assert.ok(isRefused(call('a', [1, 2], swap(undefined, '1', { is: 'ok', applied: false }))));
  });

  test('an unknown write that is done twice', () => {
    const [once, over] = [call('a', [1, 2], write('1', unknown)), call('b', [5, 6], write('2'))];
    assert.ok(isRefused(once, call('b', [3, 4], read('1')), over, call('b', [7, 8], read('1'))));
  });

  test('a delete that comes undone, or found what was not there', () => {
    assert.ok(
      isRefused(call('a', [1, 2], write('1')), call('a', [3, 4], remove()), call('b', [5, 6], read('1'))),
    );
    assert.ok(isRefused(call('a', [1, 2], remove({ is: 'ok', applied: true }))));
  });

  test('revisions that fall, repeat, or are not those of what was read', () => {
    const first = call('a', [1, 2], write('1', { is: 'ok', revision: 5n }));
    assert.ok(isRefused(first, call('a', [3, 4], write('2', { is: 'ok', revision: 4n }))));
    assert.ok(isRefused(first, call('a', [3, 4], write('2', { is: 'ok', revision: 5n }))));
    assert.ok(isRefused(first, call('a', [3, 4], read('1', 6n))));
    assert.ok(isRefused(first, call('a', [3, 4], write('2', unknown)), call('b', [5, 6], read('2', 5n))));
  });

  test('only the key that is wrong, and names it', () => {
    const good = { ...call('a', [1, 2], write('1')), key: 'good' };
    const violations = checkLinearizability(
      historyOf([good, { ...call('a', [3, 4], read('9')), key: 'bad' }]),
    );
    assert.match(violations.map(({ message }) => message).join(), /^bad is not linearizable: .* this read$/);
  });

  test('options that it does not know; and it says when it gave up', () => {
    assert.throws(() => checkLinearizability([], { limit: 1 } as object), /unknown option/);
    const history = historyOf([call('a', [1, 2], write('1')), call('b', [3, 4], read('1'))]);
    assert.deepEqual(
      checkLinearizability(history, { maxStates: 0 }).map(({ rule }) => rule),
      ['undecided'],
    );
  });
});

/** Numbers from a seed (mulberry32). */
function randomFrom(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

function randomOperation(random: (below: number) => number): RegisterOperation {
  const value = String(random(2));
  const kind = random(8);
  if (kind < 3) return { is: 'read' };
  if (kind < 5) return { is: 'write', value };
  const expected = random(3) === 0 ? undefined : String(random(2));
  return kind < 7 ? { is: 'compareAndSet', expected, value } : { is: 'delete' };
}

/** Calls of processes that each make one after another, with outcomes drawn at random. */
function randomCalls(random: (below: number) => number, count: number): Planned[] {
  const free = Array.from({ length: 2 + random(2) }, () => 0);
  return Array.from({ length: count }, (_none, at) => {
    const process = random(free.length);
    // No two times are the same.
    const begin = Math.max(free[process] ?? 0, random(6));
    const end = begin + random(4);
    const [from, to] = [begin * 100 + at * 2, end * 100 + at * 2 + 1];
    free[process] = end;
    const operation = randomOperation(random);
    const ends = random(6);
    const outcome =
      ends === 0
        ? unknown
        : ends === 1 && random(3) === 0
          ? { is: 'void' as const }
          : told(random, operation);
    return { process: `p${process}`, from, to, operation, outcome };
  });
}

function told(random: (below: number) => number, { is }: RegisterOperation): CallOutcome {
  const value = random(3) === 0 ? undefined : String(random(2));
  const revision =
    random(3) > 0 ? {} : { revision: is === 'read' && value === undefined ? 0n : BigInt(1 + random(5)) };
  if (is === 'read') return { is: 'ok', value, ...revision };
  if (is === 'write') return { is: 'ok', ...revision };
  const applied = random(2) === 0;
  return { is: 'ok', ...(random(4) === 0 ? {} : { applied }), ...(applied ? revision : {}) };
}

describe('checkLinearizability against all orders', () => {
  test('says of 2,000 small random histories what trying every order says', (context) => {
    const seed = Number(process.env['SEED'] ?? Date.now() % 1_000_000);
    context.diagnostic(`SEED=${seed}`);
    const random = randomFrom(seed);
    let accepted = 0;
    for (let run = 0; run < 2_000; run++) {
      const calls = randomCalls(random, 4);
      const expected = bruteForce(calls);
      if (expected) accepted += 1;
      assert.equal(
        !isRefused(...calls),
        expected,
        `SEED=${seed}, run ${run}: ${JSON.stringify(calls, shown)}`,
      );
    }
    assert.ok(accepted > 100 && accepted < 1_900, `both kinds are there: ${accepted} accepted`);
  });
});

function shown(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? `${value}n` : value;
}

/** What a real register tells: each call is done at one moment between its call and its return. */
function realCalls(random: (below: number) => number, count: number, keys: number): Planned[] {
  const values = new Map<string, string>();
  const free = Array.from({ length: 5 }, () => 0);
  const planned = Array.from({ length: count }, (_none, at) => {
    const process = at % free.length;
    const from = (free[process] ?? 0) + 1 + random(50) + at / 10_000;
    const to = from + 2 + random(100);
    free[process] = to;
    return { process: `p${process}`, from, to, at, moment: from + ((to - from) * (1 + random(98))) / 100 };
  });
  return planned
    .sort((one, other) => one.moment - other.moment)
    .map(({ process, from, to, at }, order): Planned => {
      const key = `k${random(keys)}`;
      const before = values.get(key);
      const kind = random(20);
      if (kind < 9) return { process, from, to, key, ...read(before) };
      const value = String(at);
      // Some are never answered, and of these every other one is done.
      const isLost = kind === 9;
      if (!isLost || order % 2 === 0) values.set(key, value);
      return { process, from, to, key, ...write(value, isLost ? unknown : { is: 'ok' }) };
    });
}

describe('checkLinearizability at size', () => {
  test('judges 2,000 calls on 10 keys by 5 processes in less than a second', () => {
    const calls = realCalls(randomFrom(7), 2_000, 10);
    const history = historyOf(calls);
    const began = performance.now();
    assert.deepEqual(checkLinearizability(history), []);
    const at = calls.findLastIndex(({ operation }) => operation.is === 'read');
    const spoilt = calls.map((one, index) => (index === at ? { ...one, ...read('never') } : one));
    assert.equal(checkLinearizability(historyOf(spoilt)).length, 1);
    assert.ok(performance.now() - began < 1_000, `${performance.now() - began} ms`);
  });

  test('judges 5,000 calls on one key: no recursion', () => {
    assert.deepEqual(checkLinearizability(historyOf(realCalls(randomFrom(8), 5_000, 1))), []);
  });
});
