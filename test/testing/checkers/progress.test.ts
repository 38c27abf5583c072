// The checkers of progress and of what is left: what they must accept, and each kind of history that they must refuse.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { checkNothingLeft, checkProgress, type Leftover, type ProgressOptions } from 'conclave/testing';

import { attemptOf, type Draft, rules, timed } from './records.js';

const began = (atMs: number, process: string, operation: number): Draft => ({
  atMs,
  is: 'began',
  operation,
  process,
  what: 'lock',
});
const ended = (atMs: number, process: string, operation: number, ok = true): Draft => ({
  atMs,
  is: 'ended',
  ok,
  operation,
  process,
});
const of = (
  atMs: number,
  is: 'frozen' | 'thawed' | 'crashed' | 'stopped' | 'faultEnds',
  process: string,
): Draft => ({
  atMs,
  is,
  process,
});
const fault = of(1000, 'faultEnds', 'the network');
const end = of(3000, 'stopped', 'nobody');

const GONE = ['crashed', 'stopped', 'frozen'] as const;

function broken(drafts: readonly Draft[], options: Partial<ProgressOptions> = {}): string[] {
  const violations = checkProgress(timed(...drafts), { withinMs: 500, ...options });
  for (const { at } of violations) assert.ok(at.length > 0, 'it shows records');
  return rules(violations);
}

describe('checkProgress accepts', () => {
  test('whoever succeeds in time after the last fault, whatever was before', () => {
    assert.deepEqual(broken([]), []);
    const before = [began(1, 'A', 1), ended(900, 'A', 1, false)];
    assert.deepEqual(broken([...before, fault, began(1100, 'A', 2), ended(1500, 'A', 2), end]), []);
    const held = { ...attemptOf('A', 2).held(3n), atMs: 1400 };
    assert.deepEqual(broken([...before, fault, held, end]), [], 'a hold is a success, too');
  });

  test('who crashed, stopped, or sleeps', () => {
    for (const is of GONE)
      assert.deepEqual(
        broken([began(1, 'A', 1), of(900, is, 'A'), fault, end]).includes('no-progress'),
        false,
        is,
      );
  });

  test('what ends too early to tell', () => {
    assert.deepEqual(broken([began(1, 'A', 1), fault, of(1400, 'stopped', 'nobody')]), []);
  });

  test('a call that was under way for not too long', () => {
    const works = [fault, began(1100, 'A', 1), ended(1200, 'A', 1)];
    assert.deepEqual(broken([...works, began(2600, 'A', 2), end]), []);
  });
});

describe('checkProgress refuses', () => {
  const idle = ['no-progress'];

  test('a process that does not succeed after the last fault, or too late', () => {
    const before = [began(1, 'A', 1), ended(900, 'A', 1)];
    assert.deepEqual(broken([...before, fault, end]), idle);
    assert.deepEqual(broken([...before, fault, began(1100, 'A', 2), ended(1501, 'A', 2), end]), idle);
    assert.deepEqual(broken([...before, fault, began(1100, 'A', 2), ended(1200, 'A', 2, false), end]), idle);
    assert.deepEqual(
      broken([...before, fault, began(1100, 'B', 2), ended(1200, 'B', 2), end]),
      idle,
      'another did',
    );
    const both = [...before, fault, began(1100, 'A', 2), ended(1200, 'A', 2), of(1300, 'thawed', 'A'), end];
    assert.deepEqual(broken(both), idle, 'there was a later fault');
  });

  test('one that crashed and was begun anew', () => {
    assert.deepEqual(
      broken([began(1, 'A', 1), of(500, 'crashed', 'A'), began(600, 'A', 2), ended(700, 'A', 2), fault, end]),
      idle,
    );
  });

  test('a process that has to succeed, and never began', () => {
    assert.deepEqual(broken([fault, end], { processes: ['A'] }), idle);
  });

  test('a call that does not return', () => {
    const works = [fault, began(1100, 'A', 1), ended(1200, 'A', 1)];
    assert.deepEqual(broken([...works, began(1300, 'A', 2), end]), ['call-hangs']);
    assert.deepEqual(broken([...works, { ...attemptOf('A', 7).acquire, atMs: 1300 }, end]), ['call-hangs']);
    assert.deepEqual(broken([began(1, 'A', 2), ...works, end]), ['call-hangs'], 'it began before the faults');
  });

  test('options that it does not know', () => {
    assert.throws(() => checkProgress([], { withinMs: -1 }), RangeError);
    assert.throws(() => checkProgress([], { within: 1, withinMs: 1 } as ProgressOptions), /unknown option/);
  });
});

describe('checkNothingLeft', () => {
  const remains = (kind: Leftover, names: readonly string[], process = 'etcd'): Draft => ({
    is: 'remains',
    kind,
    names,
    process,
  });
  const left = (drafts: readonly Draft[], options?: Parameters<typeof checkNothingLeft>[1]): string[] =>
    rules(checkNothingLeft(timed(...drafts), options));

  test('accepts that nothing is left, or only what is to stay', () => {
    assert.deepEqual(left([]), []);
    assert.deepEqual(left([remains('keys', []), remains('leases', [])], { kinds: ['keys', 'leases'] }), []);
    assert.deepEqual(left([remains('keys', ['r/a', 'r/b'])], { stays: [/^r\//g] }), []);
    assert.deepEqual(
      left([remains('timers', ['renewal'], 'A'), remains('timers', [], 'A')]),
      [],
      'the last look counts',
    );
  });

  test('refuses what is left, of any kind and process', () => {
    for (const kind of ['processes', 'keys', 'leases', 'timers', 'listeners', 'handles'] as const)
      assert.deepEqual(left([remains(kind, ['x'])]), ['something-left']);
    assert.deepEqual(left([remains('timers', ['x'], 'A'), remains('timers', [], 'B')]), ['something-left']);
    assert.deepEqual(left([remains('keys', ['r/a', 'm/a'])], { stays: [/^r\//] }), ['something-left']);
  });

  test('refuses that nobody looked', () => {
    assert.deepEqual(left([], { kinds: ['keys'] }), ['not-looked']);
    assert.deepEqual(left([remains('leases', [])], { kinds: ['keys'] }), ['not-looked']);
  });

  test('says how many are left, and names some of them', () => {
    const names = Array.from({ length: 12 }, (_, n) => `k${n}`);
    const [violation] = checkNothingLeft(timed(remains('keys', names)));
    assert.match(violation?.message ?? '', /12 keys are left: k0, .*k9, …$/);
  });
});
