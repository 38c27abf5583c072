// How many calls are under way at once (src/etcd/transport/in-flight.ts), and how the others wait.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { InFlight, type Passage, type Waits } from '#conclave/etcd/transport/in-flight.js';

import { ManualClock } from 'conclave/testing';

/** A call of this test. */
interface Call extends Waits {
  readonly name?: string;
}

function setUp(): {
  readonly clock: ManualClock;
  readonly closing: AbortController;
  readonly line: InFlight<Call>;
} {
  const clock = new ManualClock();
  const closing = new AbortController();
  const surroundings = { clock, closed: closing.signal, usualMs: 5000 };
  const line = new InFlight<Call>(
    surroundings,
    (_call, cause) => new Error(`late: ${String(cause?.message)}`),
  );
  return { clock, closing, line };
}

/** Lets so many calls pass. */
function fill(line: InFlight<Call>, most = 10_000): Passage[] {
  const passed: Passage[] = [];
  while (passed.length < most) {
    const passage = line.pass({});
    if (passage === undefined) break;
    passed.push(passage);
  }
  return passed;
}

/** The states of waits, as they come. */
function watch(waits: readonly Promise<Passage>[]): string[] {
  const states: string[] = [];
  for (const [at, wait] of waits.entries()) {
    wait.then(
      () => states.push(`${at} passed`),
      (error: unknown) => states.push(`${at} ${error instanceof Error ? error.message : String(error)}`),
    );
  }
  return states;
}

/** As in-flight.ts has it. */
const MOST_A_TURN = 64;

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('calls under way', () => {
  test('are so many at first, and the others pass as they end, first come first served', async () => {
    const { line } = setUp();
    const [first, second] = fill(line);
    const states = watch([line.wait({}), line.wait({}), line.wait({})]);
    assert.equal(line.pass({}), undefined, 'nobody passes those who wait');
    assert.ok(first !== undefined && second !== undefined);
    line.leave(first, 'given up');
    await turn();
    assert.deepEqual(states, ['0 passed']);
    line.leave(second, 'given up');
    await turn();
    assert.deepEqual(states, ['0 passed', '1 passed']);
  });

  test('become more with quick answers while others wait, and half as many when answers are slow', async () => {
    const { clock, line } = setUp();
    await clock.advance(10_000);
    const most = fill(line).length;
    let passed = 0;
    for (let at = 0; at < 3000; at++) void line.wait({}).then(() => (passed += 1));
    const end = async (count: number, tookMs: number): Promise<void> => {
      const before = passed;
      for (let at = 0; at < count; at++) line.leave({ at: clock.now() - tookMs, units: 1 }, 'answered');
      await turn();
      assert.ok(passed - before <= 2 * MOST_A_TURN, 'the event loop comes round between them');
      // They are sent at the begin of the turns that follow: one turn for each so many, and one in which nobody is.
      for (let left = 2 * count; left > 0; left -= MOST_A_TURN) await turn();
    };
    await end(100, 10);
    assert.equal(passed, 200, 'one for each that ended, and one more');
    await end(50, 2000);
    assert.equal(passed, 200, 'more are under way than half of what may be');
    // As many as it takes until half of what may be are left, and ten more.
    await end(most + 50 - Math.floor((most + 100) / 2) + 10, 300);
    assert.equal(passed, 210);
  });

  test('count by their size: a large one passes alone, and holds up what comes after it', async () => {
    const { line } = setUp();
    const [small] = fill(line, 1);
    const states = watch([line.wait({ bytes: 64 * 1024 * 1024 }), line.wait({})]);
    await turn();
    assert.deepEqual(states, []);
    assert.ok(small !== undefined);
    line.leave(small, 'answered');
    await turn();
    assert.deepEqual(states, ['0 passed']);
  });

  test('when their callers’ limits are over in line, or they give up, they leave it', async () => {
    const { clock, line } = setUp();
    const [first] = fill(line);
    const stop = new AbortController();
    const states = watch([
      line.wait({ timeoutMs: 100 }),
      line.wait({ signal: stop.signal }),
      line.wait({ timeoutMs: 100, waits: true }),
    ]);
    await clock.advance(100);
    stop.abort(new Error('enough'));
    await turn();
    assert.deepEqual(states, ['0 late: undefined', '1 enough']);
    assert.ok(first !== undefined);
    line.leave(first, 'answered');
    await turn();
    assert.deepEqual(states.slice(2), ['2 passed']);
  });

  test('wait for as long as anything is answered, and no longer than their time when nothing is', async () => {
    const { clock, closing, line } = setUp();
    const passed = fill(line);
    const waits = [{}, {}, {}, { timeoutMs: 9000, waits: true }];
    const states = watch(waits.map((each) => line.wait(each)));
    await clock.advance(4000);
    const [first, second, third] = passed;
    assert.ok(first !== undefined && second !== undefined && third !== undefined);
    line.leave({ ...first, at: clock.now() - 500 }, 'answered');
    await turn();
    assert.deepEqual(states, ['0 passed', '1 passed']);
    await clock.advance(4000);
    line.leave({ ...second, units: 0 }, 'unanswered', new Error('silence'));
    await turn();
    assert.deepEqual(states.slice(2), [], 'an answer came 4 s ago');
    await clock.advance(1000);
    line.leave({ ...third, units: 0 }, 'unanswered', new Error('silence'));
    await turn();
    assert.deepEqual(states.slice(2), ['2 late: silence']);
    closing.abort(new Error('closed'));
    await turn();
    assert.deepEqual(states.slice(3), ['3 closed']);
  });
});
