// The checker of isolation: what it must accept, and each kind of history that it must refuse.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { checkIsolation, type KeyChange, type Observed } from 'conclave/testing';

/** Made at 2: x = 1 and y = 1. At 3: x = 2 and y = 2. At 4: in/a comes. At 5: x is deleted. */
const HISTORY: readonly KeyChange[] = [
  { key: 'x', revision: 2n, value: 'x1' },
  { key: 'y', revision: 2n, value: 'y1' },
  { key: 'x', revision: 3n, value: 'x2' },
  { key: 'y', revision: 3n, value: 'y2' },
  { key: 'in/a', revision: 4n, value: 'a1' },
  { key: 'x', revision: 5n, value: undefined },
];
const MADE: readonly Observed[] = [
  made('first', 2n, [
    ['x', 'x1'],
    ['y', 'y1'],
  ]),
  made('second', 3n, [
    ['x', 'x2'],
    ['y', 'y2'],
  ]),
  made('third', 4n, [['in/a', 'a1']]),
  made('fourth', 5n, [['x', undefined]]),
];

function made(
  name: string,
  revision: bigint,
  writes: readonly (readonly [string, string | undefined])[],
): Observed {
  return {
    gets: [],
    level: 'snapshot',
    name,
    outcome: { is: 'committed', revision },
    ranges: [],
    writes: writes.map(([key, value]) => ({ key, value })),
  };
}

function reader(revision: bigint, seen: Partial<Observed>): Observed {
  return { ...made('reader', revision, []), ...seen };
}

function check(...more: readonly Observed[]): string[] {
  return checkIsolation(HISTORY, [...MADE, ...more]);
}

const inside = (...found: { key: string; modRevision: bigint }[]): Observed['ranges'] => [
  { end: 'in0', found, start: 'in/' },
];

describe('checkIsolation', () => {
  test('accepts reads of one state, keys that were absent, and ranges', () => {
    const of3 = [
      { key: 'x', modRevision: 3n },
      { key: 'y', modRevision: 3n },
      { key: 'z', modRevision: 0n },
    ];
    assert.deepEqual(check(reader(3n, { gets: of3, ranges: inside() })), []);
    assert.deepEqual(check(reader(4n, { gets: of3, ranges: inside({ key: 'in/a', modRevision: 4n }) })), []);
    assert.deepEqual(check(reader(5n, { gets: [{ key: 'x', modRevision: 0n }] })), []);
  });

  test('refuses torn reads, also of an attempt of which nothing came', () => {
    const torn = [
      { key: 'x', modRevision: 2n },
      { key: 'y', modRevision: 3n },
    ];
    assert.match(String(check(reader(3n, { gets: torn }))), /never there at one time/);
    assert.match(
      String(check(reader(0n, { gets: torn, outcome: { is: 'void' } }))),
      /never there at one time/,
    );
    const late = { gets: [{ key: 'x', modRevision: 0n }], ranges: inside() };
    assert.match(String(check(reader(5n, late))), /in\/a not in it/);
  });

  test('refuses a read of another state than that of the revision which was told', () => {
    assert.match(
      String(check(reader(4n, { gets: [{ key: 'x', modRevision: 2n }] }))),
      /x of 2, when it was of 3/,
    );
  });

  test('refuses a lost update: what was read had changed before the commit', () => {
    const history = [...HISTORY, { key: 'sum', revision: 6n, value: 's' }];
    const summed = (revision: bigint): Observed => ({
      ...made('sum', 6n, [['sum', 's']]),
      gets: [{ key: 'y', modRevision: revision }],
    });
    assert.deepEqual(checkIsolation(history, [...MADE, summed(3n)]), []);
    assert.match(String(checkIsolation(history, [...MADE, summed(2n)])), /committed at 6, and saw y of 2/);
  });

  test('refuses a phantom under a snapshot, and lets it pass where keys may come', () => {
    const history = [...HISTORY, { key: 'sum', revision: 6n, value: 's' }];
    const counted = (level: Observed['level']): Observed => ({
      ...made('count', 6n, [['sum', 's']]),
      level,
      ranges: inside(),
    });
    assert.match(String(checkIsolation(history, [...MADE, counted('snapshot')])), /in\/a not in it/);
    assert.deepEqual(checkIsolation(history, [...MADE, counted('repeatable')]), []);
  });

  test('refuses write skew', () => {
    const history: KeyChange[] = [
      { key: 'x', revision: 2n, value: 'x1' },
      { key: 'y', revision: 3n, value: 'y1' },
    ];
    const absent = (key: string): Observed['gets'] => [{ key, modRevision: 0n }];
    const [one, other] = [made('one', 2n, [['x', 'x1']]), made('other', 3n, [['y', 'y1']])];
    const skewed = [
      { ...one, gets: absent('y') },
      { ...other, gets: absent('x') },
    ];
    assert.match(String(checkIsolation(history, skewed)), /other was committed at 3, and saw x absent/);
  });

  test('refuses what was changed under repeatable reads, and nothing but foreign values under committed ones', () => {
    const history = [...HISTORY, { key: 'sum', revision: 6n, value: 's' }];
    const stale = (level: Observed['level'], modRevision: bigint): Observed => ({
      ...made('stale', 6n, [['sum', 's']]),
      gets: [{ key: 'y', modRevision }],
      level,
    });
    assert.match(String(checkIsolation(history, [...MADE, stale('repeatable', 2n)])), /saw y of 2/);
    assert.deepEqual(checkIsolation(history, [...MADE, stale('committed', 2n)]), []);
    assert.match(String(checkIsolation(history, [...MADE, stale('committed', 4n)])), /nobody committed/);
  });

  test('refuses commits in parts, commits that share a revision, and writes by nobody', () => {
    const half = made('half', 3n, [
      ['x', 'x2'],
      ['z', 'z1'],
    ]);
    const problems = String(checkIsolation(HISTORY, [...MADE, half]));
    assert.match(problems, /half was committed at 3 without its write of z/);
    assert.match(problems, /half was committed at 3 together with a write of y/);
    assert.match(String(checkIsolation(HISTORY, MADE.slice(1))), /x was written at 2 by none of them/);
  });

  test('refuses what was said to be void and was written, and what is unknown and was written twice', () => {
    const [first] = MADE;
    assert.ok(first);
    const rest = MADE.slice(1);
    const isVoid = { ...first, outcome: { is: 'void' } } as const;
    assert.match(String(checkIsolation(HISTORY, [isVoid, ...rest])), /said not to be committed, and wrote/);
    const unknown = { ...first, outcome: { is: 'unknown' } } as const;
    assert.deepEqual(checkIsolation(HISTORY, [unknown, ...rest]), []);
    const again: KeyChange[] = [...HISTORY, { key: 'x', revision: 6n, value: 'x1' }];
    assert.match(String(checkIsolation(again, [unknown, ...rest])), /in parts, or twice/);
    assert.match(String(checkIsolation(again, MADE)), /wrote x twice/);
  });
});
