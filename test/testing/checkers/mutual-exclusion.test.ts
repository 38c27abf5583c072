// The checker of exclusive holds: what it must accept, and each kind of history that it must refuse.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { checkMutualExclusion, checkQueueing, smallestLossMargin } from 'conclave/testing';

import { attemptOf, type Draft, rules, timed } from './records.js';

const a = attemptOf('A', 1);
const b = attemptOf('B', 2);
const frozen = (process: string): Draft => ({ is: 'frozen', process });
const thawed = (process: string): Draft => ({ is: 'thawed', process });

function broken(...drafts: readonly Draft[]): string[] {
  const violations = checkMutualExclusion(timed(...drafts));
  for (const { at } of violations) assert.ok(at.length > 0, 'it shows records');
  return rules(violations);
}

describe('checkMutualExclusion accepts', () => {
  test('one after another, with writes that are refused or not known', () => {
    assert.deepEqual(broken(), []);
    assert.deepEqual(
      broken(
        a.acquire,
        b.acquire,
        a.held(3n),
        a.write(5n),
        a.write(undefined),
        a.release,
        a.gone(7n),
        b.held(7n),
        b.write(8n),
        b.write(9n),
        b.release,
      ),
      [],
    );
  });

  test('claims of jobs beside it, whose attempts are counted from 1, too', () => {
    const [a, b] = [attemptOf('a', 1, 'x'), attemptOf('b', 2, 'y')];
    const claim = { attempt: 1, claim: 1, is: 'claimed', job: 'j', process: 'b', revision: 7n } as const;
    assert.deepEqual(
      checkMutualExclusion(timed(claim, a.held(5n), { ...claim, attempt: 2 }, b.held(6n))),
      [],
    );
  });

  test('a hold that somebody ended by hand, of which its holder could not know', () => {
    const [a, b] = [attemptOf('a', 1), attemptOf('b', 2)];
    const gone = { ...a.gone(6n), byHand: true } as const;
    assert.deepEqual(
      checkMutualExclusion(timed(a.held(5n), gone, b.held(6n), a.write(undefined), a.lossSignal)),
      [],
    );
    assert.deepEqual(checkQueueing(timed(a.acquire, gone, a.held(5n), a.lossSignal), { ttlMs: 1000 }), []);
  });

  test('two names at once', () => {
    const other = attemptOf('B', 2, 'y');
    assert.deepEqual(broken(a.held(3n), other.held(2n), a.write(5n), other.write(4n)), []);
  });

  test('a holder that is told before its lease ends, and one that crashes', () => {
    assert.deepEqual(broken(a.held(3n), a.lossSignal, a.gone(7n), b.held(7n), b.write(8n)), []);
    assert.deepEqual(broken(a.held(3n), { is: 'crashed', process: 'A' }, a.gone(7n), b.held(7n)), []);
  });

  test('a holder that is frozen while its lease ends, and told when it is woken', () => {
    assert.deepEqual(
      broken(
        a.held(3n),
        frozen('A'),
        a.gone(7n),
        b.held(7n),
        b.write(8n),
        thawed('A'),
        a.lossSignal,
        a.write(undefined),
      ),
      [],
    );
    assert.deepEqual(broken(a.held(3n), frozen('A'), a.gone(7n), b.held(7n)), []);
  });

  test('a write that was asked for in time and refused, and one whose answer comes late', () => {
    assert.deepEqual(broken(a.held(3n), a.write(undefined), a.lossSignal, a.gone(7n)), []);
  });

  test('tokens that are told in another order than that of their proofs, when the attempts overlap', () => {
    assert.deepEqual(
      broken(
        a.acquire,
        b.acquire,
        frozen('A'),
        a.gone(7n),
        b.held(7n),
        b.release,
        thawed('A'),
        a.held(3n),
        a.lossSignal,
      ),
      [],
    );
  });
});

describe('checkMutualExclusion refuses', () => {
  test('guarded writes that interleave', () => {
    const interleave = ['guarded-writes-interleave'];
    assert.deepEqual(broken(a.held(3n), a.write(9n), a.release, b.held(7n), b.write(8n)), interleave);
    assert.deepEqual(broken(a.held(3n), a.write(7n), a.release, b.held(7n)), interleave);
    assert.deepEqual(
      broken(a.held(3n), frozen('A'), b.held(7n), b.write(8n), thawed('A'), a.lossSignal, a.write(9n)),
      interleave,
    );
  });

  test('a guarded write before the proof, and one after the ticket is gone', () => {
    assert.deepEqual(broken(a.held(3n), a.write(3n)), ['guarded-write-outside']);
    assert.deepEqual(broken(a.held(3n), a.write(2n)), ['guarded-write-outside']);
    assert.deepEqual(broken(a.held(3n), a.write(9n), a.lossSignal, a.gone(8n)), ['guarded-write-outside']);
  });

  test('tokens that repeat or fall', () => {
    assert.deepEqual(broken(a.held(3n), a.release, b.acquire, b.held(3n)), ['tokens-increase']);
    assert.deepEqual(broken(a.held(3n), a.release, b.acquire, b.held(2n)), ['tokens-increase']);
    const c = attemptOf('C', 3);
    assert.deepEqual(
      broken(c.acquire, a.held(9n), a.release, c.held(4n), c.release, b.acquire, b.held(5n)),
      ['tokens-increase'],
      'the highest of those before counts, not the last',
    );
  });

  test('two that hold at once', () => {
    assert.deepEqual(broken(a.held(3n), b.held(7n)), ['holds-overlap']);
    assert.deepEqual(broken(a.held(3n), b.held(7n), a.release), ['holds-overlap']);
    const c = attemptOf('C', 3);
    const violations = checkMutualExclusion(timed(a.held(3n), b.held(7n), b.release, c.held(9n)));
    assert.deepEqual(
      violations.map(({ rule }) => rule),
      ['holds-overlap', 'holds-overlap'],
    );
  });

  test('two tasks of one process that hold at once', () => {
    assert.deepEqual(broken(a.held(3n), attemptOf('A', 2).held(7n)), ['holds-overlap']);
  });

  test('a freeze that was over before the other held it is an excuse only for what was frozen', () => {
    assert.deepEqual(broken(frozen('A'), thawed('A'), a.held(3n), b.held(7n)), ['holds-overlap']);
    assert.deepEqual(broken(a.held(3n), frozen('C'), b.held(7n)), ['holds-overlap']);
  });

  test('a loss that is told only after etcd ended the hold, or never', () => {
    assert.deepEqual(broken(a.held(3n), a.gone(7n), a.lossSignal), ['loss-told-late']);
    assert.deepEqual(broken(a.held(3n), a.gone(7n)), ['loss-told-late']);
    assert.deepEqual(broken(a.held(3n), frozen('A'), thawed('A'), a.gone(7n), a.lossSignal), [
      'loss-told-late',
    ]);
  });

  test('a process that is woken and asks for a guarded write before it is told', () => {
    const late = ['write-before-loss-told'];
    assert.deepEqual(
      broken(a.held(3n), frozen('A'), a.gone(7n), thawed('A'), a.write(undefined), a.lossSignal),
      late,
    );
    assert.deepEqual(broken(a.held(3n), frozen('A'), a.gone(7n), thawed('A'), a.write(undefined)), late);
  });
});

describe('smallestLossMargin', () => {
  test('is that of the signal which came closest to its end', () => {
    const [first, second] = [a.gone(7n), b.gone(9n)];
    const history = timed(
      a.held(3n),
      a.lossSignal,
      { ...first, atMs: 500 },
      b.held(8n),
      { ...b.lossSignal, atMs: 600 },
      { ...second, atMs: 650 },
    );
    const margin = smallestLossMargin(history);
    assert.equal(margin?.marginMs, 50);
    assert.deepEqual(
      margin.at.map(({ is }) => is),
      ['lossSignal', 'gone'],
    );
  });

  test('is negative for one that came late, and undefined if nothing was lost', () => {
    assert.equal(smallestLossMargin(timed(a.held(3n), a.gone(7n), a.lossSignal))?.marginMs, -10);
    assert.equal(smallestLossMargin(timed(a.held(3n), a.release, a.gone(7n))), undefined);
  });
});
