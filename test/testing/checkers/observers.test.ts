// The checker of observers: what it must accept, and each kind of history that it must refuse.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { checkObservers } from 'conclave/testing';

import { type Draft, rules, timed } from './records.js';

const led = (leader: string | undefined, revision: bigint): Draft => ({
  is: 'led',
  leader,
  name: 'x',
  process: 'etcd',
  revision,
});
const saw = (leader: string | undefined, revision: bigint, process = 'O'): Draft => ({
  is: 'observed',
  leader,
  name: 'x',
  process,
  revision,
});
const relisted: Draft = { is: 'relisted', name: 'x', process: 'O' };
const ends: Draft = { is: 'observingEnds', name: 'x', process: 'O' };
const all = [led('a', 2n), led(undefined, 3n), led('b', 4n), led('c', 5n)];

function broken(...drafts: readonly Draft[]): string[] {
  return rules(checkObservers(timed(...all, ...drafts)));
}

describe('checkObservers accepts', () => {
  test('all leaders in order, with or without the time when nobody led, by several observers', () => {
    assert.deepEqual(broken(saw('a', 2n), saw(undefined, 3n), saw('b', 4n), saw('c', 5n)), []);
    assert.deepEqual(
      broken(saw('a', 2n), saw('b', 4n), saw('b', 4n, 'P'), saw('c', 5n), saw('c', 5n, 'P')),
      [],
    );
  });

  test('one that comes late, one that leaves early, and one told before etcd is seen to have it', () => {
    assert.deepEqual(broken(saw('c', 5n)), []);
    assert.deepEqual(broken(saw('a', 2n), ends), []);
    assert.deepEqual(rules(checkObservers(timed(saw('a', 2n), led('a', 2n)))), []);
  });

  test('one that was cut off and skips, or sees again who leads still', () => {
    assert.deepEqual(broken(saw('a', 2n), relisted, saw('c', 5n)), []);
    assert.deepEqual(broken(saw('a', 2n), relisted, saw('a', 2n), saw('b', 4n), saw('c', 5n)), []);
  });
});

describe('checkObservers refuses', () => {
  test('one that goes back, also after it was cut off, or sees the same twice', () => {
    assert.deepEqual(broken(saw('b', 4n), saw('a', 2n), ends), ['observer-went-back']);
    assert.deepEqual(broken(saw('b', 4n), relisted, saw('a', 2n), ends), ['observer-went-back']);
    assert.deepEqual(broken(saw('c', 5n), saw('c', 5n)), ['observer-went-back']);
  });

  test('one that skips a leader, also some time after it was cut off', () => {
    assert.deepEqual(broken(saw('a', 2n), saw('c', 5n)), ['observer-skipped']);
    assert.deepEqual(broken(relisted, saw('a', 2n), saw('c', 5n)), ['observer-skipped']);
  });

  test('a leader that never was, and one at another revision', () => {
    assert.deepEqual(broken(saw('d', 5n), ends), ['observer-saw-nobody']);
    assert.deepEqual(broken(saw('a', 4n), ends), ['observer-saw-nobody']);
    assert.deepEqual(broken(saw(undefined, 9n), ends), ['observer-saw-nobody']);
  });

  test('one that ends with another leader than the last, or that sees none', () => {
    assert.deepEqual(broken(saw('a', 2n)), ['observer-ended-wrong']);
    assert.deepEqual(broken(saw('a', 2n), saw('b', 4n)), ['observer-ended-wrong']);
    assert.deepEqual(broken(relisted), ['observer-ended-wrong']);
  });
});
