import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ManualClock } from 'conclave/testing';

test('time stands still until it is moved', async () => {
  const clock = new ManualClock({ nowMs: 5, wallMs: 1000 });
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(clock.now(), 5);
  await clock.advance(10);
  assert.equal(clock.now(), 15);
  assert.equal(clock.wall(), 1010);
});

test('timers fire in the order of their times, each at its own time, and in the order they were set', async () => {
  const clock = new ManualClock();
  const fired: string[] = [];
  const note = (name: string) => () => fired.push(`${name}@${clock.now()}`);
  clock.setTimer(30, note('c'));
  clock.setTimer(10, note('a1'));
  clock.setTimer(10, note('a2'));
  clock.setTimer(20, note('b'));
  clock.setTimer(31, note('late'));
  assert.equal(clock.nextTimerMs, 10);
  await clock.advance(30);
  assert.deepEqual(fired, ['a1@10', 'a2@10', 'b@20', 'c@30']);
  assert.equal(clock.pendingTimers, 1);
  assert.equal(clock.now(), 30);
});

test('a cancelled timer never fires, and cancelling again does nothing', async () => {
  const clock = new ManualClock();
  let fired = 0;
  const timer = clock.setTimer(1, () => fired++);
  timer.cancel();
  timer.cancel();
  await clock.advance(10);
  assert.equal(fired, 0);
  assert.equal(clock.pendingTimers, 0);
});

test('promise callbacks run between two timers, and timers set on the way fire too', async () => {
  const clock = new ManualClock();
  const seen: string[] = [];
  const sleep = (ms: number): Promise<void> => new Promise((resolve) => void clock.setTimer(ms, resolve));
  const loop = (async () => {
    for (let turn = 0; turn < 3; turn++) {
      await sleep(10);
      await Promise.resolve();
      seen.push(`turn@${clock.now()}`);
    }
  })();
  clock.setTimer(15, () => seen.push(`timer@${clock.now()}`));
  await clock.advance(100);
  await loop;
  assert.deepEqual(seen, ['turn@10', 'timer@15', 'turn@20', 'turn@30']);
  assert.equal(clock.now(), 100);
});

test('overlapping advances run one after the other', async () => {
  const clock = new ManualClock();
  const at: number[] = [];
  clock.setTimer(10, () => {
    void clock.advance(5);
  });
  clock.setTimer(22, () => at.push(clock.now()));
  await Promise.all([clock.advance(10), clock.advance(10)]);
  await clock.advance(0);
  assert.equal(clock.now(), 25);
  assert.deepEqual(at, [22]);
});

test('an error of a timer comes out of advance, and the clock goes on working', async () => {
  const clock = new ManualClock();
  clock.setTimer(5, () => {
    throw new Error('of the timer');
  });
  await assert.rejects(clock.advance(10), /of the timer/);
  assert.equal(clock.now(), 5);
  await clock.advance(10);
  assert.equal(clock.now(), 15);
});

test('a jump fires nothing; the timers are late then', async () => {
  const clock = new ManualClock();
  const at: number[] = [];
  clock.setTimer(10, () => at.push(clock.now()));
  clock.jump(50);
  assert.equal(clock.now(), 50);
  assert.deepEqual(at, []);
  assert.equal(clock.nextTimerMs, -40);
  await clock.advance(0);
  assert.deepEqual(at, [50]);
});

test('setting the wall clock moves no timer', async () => {
  const clock = new ManualClock();
  clock.setTimer(10, () => assert.fail());
  clock.setWall(0);
  await clock.advance(9);
  assert.equal(clock.wall(), 9);
  assert.equal(clock.pendingTimers, 1);
});

test('refuses to go back', async () => {
  await assert.rejects(new ManualClock().advance(-1), RangeError);
  await assert.rejects(new ManualClock().advance(Infinity), RangeError);
  for (const ms of [-5, NaN, Infinity]) assert.throws(() => new ManualClock().jump(ms), RangeError);
});

test("a timer whose time is no number is due at once, as with the machine's clock", async () => {
  const clock = new ManualClock();
  let fired = 0;
  clock.setTimer(NaN, () => fired++);
  await clock.advance(0);
  assert.equal(fired, 1);
});
