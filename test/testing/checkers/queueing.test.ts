// The checker of lines: what it must accept, and each kind of history that it must refuse.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { checkQueueing } from 'conclave/testing';

import { attemptOf, type Draft, rules, timed } from './records.js';

const a = attemptOf('A', 1);
const b = attemptOf('B', 2);
const tickets = (atMs: number, ...attempts: number[]): Draft => ({
  atMs,
  attempts,
  is: 'tickets',
  name: 'x',
  process: 'etcd',
});

function broken(...drafts: readonly Draft[]): string[] {
  return rules(checkQueueing(timed(...drafts), { ttlMs: 1_000 }));
}

describe('checkQueueing accepts', () => {
  test('those in line served in order, told in any order', () => {
    assert.deepEqual(broken(), []);
    assert.deepEqual(broken(a.queued(3n), b.queued(4n), a.held(3n), a.release, b.held(6n)), []);
    assert.deepEqual(broken(a.queued(3n), b.queued(4n), b.held(6n), a.held(3n)), []);
  });

  test('one passed over that was dead, had given up, or was giving up', () => {
    assert.deepEqual(broken(a.queued(3n), b.queued(4n), a.gone(6n), b.held(6n)), []);
    assert.deepEqual(broken(a.queued(3n), b.queued(4n), b.held(6n), a.gaveUp), []);
    assert.deepEqual(broken(a.queued(3n), b.queued(4n), { is: 'crashed', process: 'A' }, b.held(6n)), []);
  });

  test('tasks that share one ticket, and names that have nothing to do with each other', () => {
    const other = attemptOf('B', 2, 'y');
    assert.deepEqual(broken(a.queued(3n), attemptOf('A', 2).queued(3n), attemptOf('A', 2).held(9n)), []);
    assert.deepEqual(broken(a.queued(3n), other.queued(4n), other.held(4n)), []);
  });

  test('a proof from before its ticket was gone, told to a process that was frozen', () => {
    assert.deepEqual(
      broken(
        a.queued(3n),
        { is: 'frozen', process: 'A' },
        a.gone(6n),
        { is: 'thawed', process: 'A' },
        a.held(4n),
      ),
      [],
    );
  });

  test('a ticket that goes within one TTL after it was given up', () => {
    assert.deepEqual(
      broken(a.queued(3n), a.gaveUp, tickets(900, 1), { ...a.gone(9n), atMs: 1_000 }, tickets(2_000)),
      [],
    );
  });
});

describe('checkQueueing refuses', () => {
  test('one that waits and is passed over, whether it wins later or never', () => {
    assert.deepEqual(broken(a.queued(3n), b.queued(4n), b.held(6n), a.held(8n)), ['fifo']);
    assert.deepEqual(broken(a.queued(3n), b.queued(4n), b.held(6n)), ['fifo']);
    assert.deepEqual(broken(a.queued(3n), b.queued(4n), b.held(6n), a.gone(7n)), ['fifo']);
  });

  test('a winner whose ticket was gone, or that had given up', () => {
    assert.deepEqual(broken(a.queued(3n), a.gone(5n), a.held(6n)), ['dead-waiter-won']);
    assert.deepEqual(broken(a.queued(3n), a.held(6n), a.gone(5n)), ['dead-waiter-won']);
    assert.deepEqual(broken(a.queued(3n), a.gone(), a.held(6n)), ['dead-waiter-won']);
    assert.deepEqual(broken(a.queued(3n), a.gaveUp, a.held(6n)), ['dead-waiter-won']);
  });

  test('what is left more than one TTL after an attempt was given up', () => {
    assert.deepEqual(broken(a.queued(3n), a.gaveUp, tickets(1_011, 1)), ['left-behind']);
    assert.deepEqual(broken(a.queued(3n), a.gaveUp, { ...a.gone(9n), atMs: 1_500 }), ['left-behind']);
    assert.deepEqual(
      broken(a.gaveUp, tickets(5_000, 2, 1)),
      ['left-behind'],
      'also one that nobody was told of',
    );
  });

  test('options that it does not know', () => {
    assert.throws(() => checkQueueing([], { ttlMs: -1 }), RangeError);
    assert.throws(() => checkQueueing([], { ttl: 1, ttlMs: 1 } as { ttlMs: number }), /unknown option/);
  });
});
