// The turns of one process's tasks, and the line in which they wait.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { Turns } from '#conclave/ticket/turns.js';
import { WaitingLine } from '#conclave/util/waiting-line.js';

const NEVER = new AbortController().signal;

describe('turns of tasks', () => {
  for (const atOnce of [1, 7])
    test(`${atOnce} at a time, in the order in which they asked`, async () => {
      const turns = new Turns(atOnce);
      const seen: number[] = [];
      let inside = 0;
      let most = 0;
      const tasks = Array.from({ length: 100 }, async (_, task) => {
        const end = await turns.take(NEVER);
        inside++;
        most = Math.max(most, inside);
        seen.push(task);
        await new Promise((resolve) => setImmediate(resolve));
        inside--;
        end();
      });
      await Promise.all(tasks);
      assert.deepEqual(
        seen,
        Array.from({ length: 100 }, (_, task) => task),
      );
      assert.equal(turns.taken, false);
      assert.equal(most, atOnce);
    });

  test('who gives up leaves the line at once, and the turn when it ends goes to who still waits, or is free', async () => {
    const turns = new Turns();
    const end = await turns.take(NEVER);
    const stop = new AbortController();
    const given = Array.from({ length: 10_000 }, () => turns.take(stop.signal));
    const next = turns.take(NEVER);
    assert.equal(turns.waiting, 10_001);
    stop.abort(new Error('enough'));
    assert.equal(turns.waiting, 1);
    for (const each of await Promise.allSettled(given)) assert.equal(each.status, 'rejected');
    end();
    assert.equal(turns.waiting, 0);
    const endNext = await next;
    await assert.rejects(turns.take(stop.signal), /enough/);
    endNext();
    assert.equal(turns.taken, false);
  });

  test('who gives up just as the turn is passed on has it, and ends it', async () => {
    const turns = new Turns();
    const end = await turns.take(NEVER);
    const stop = new AbortController();
    const next = turns.take(stop.signal);
    const last = turns.take(NEVER);
    end();
    stop.abort(new Error('too late'));
    (await next)();
    (await last)();
    assert.equal(turns.taken, false);
  });

  test('a turn that is ended twice takes nobody else out of the line, who can still give up', async () => {
    const turns = new Turns();
    const end = await turns.take(NEVER);
    const next = turns.take(NEVER);
    const stop = new AbortController();
    const last = turns.take(stop.signal);
    end();
    end();
    assert.equal(turns.waiting, 1);
    stop.abort(new Error('enough'));
    await assert.rejects(last, /enough/);
    (await next)();
    assert.equal(turns.taken, false);
  });
});

test('a waiting line is first in, first out, whoever leaves it', () => {
  const line = new WaitingLine<number>();
  let model: number[] = [];
  const leaves = new Map<number, () => void>();
  let seed = 7;
  for (let step = 0; step < 20_000; step++) {
    seed = (seed * 48_271) % 2_147_483_647;
    const what = seed % 4;
    if (what < 2) {
      leaves.set(step, line.push(step));
      model.push(step);
    } else if (what === 2) {
      assert.equal(line.shift(), model.shift());
    } else {
      const [who, leave] = [...leaves].at(seed % Math.max(1, leaves.size)) ?? [];
      leave?.();
      model = model.filter((each) => each !== who);
      if (seed % 3 === 0 && who !== undefined) leaves.delete(who);
    }
    if (leaves.size > 30) leaves.clear();
    assert.equal(line.size, model.length);
  }
});
