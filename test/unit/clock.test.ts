// The machine's clock: a timer fires when its whole delay has passed, however long that is.
import assert from 'node:assert/strict';
import { mock, test } from 'node:test';

import { timersOf } from '#conclave/util/clock.js';

const DAY_MS = 86_400_000;
const LONGEST_MS = 2_147_483_647;

test('a timer of more days than Node’s own take fires when all have passed, and not before', () => {
  mock.timers.enable({ apis: ['setTimeout'] });
  const setTimer = timersOf(globalThis);
  try {
    let fired = 0;
    const fire = (): void => {
      fired++;
    };
    setTimer(60 * DAY_MS, fire);
    const cancelled = setTimer(60 * DAY_MS, () => assert.fail('it was cancelled'));
    const rest = 60 * DAY_MS - 2 * LONGEST_MS;
    for (const ms of [LONGEST_MS, LONGEST_MS, rest - 1]) mock.timers.tick(ms);
    assert.equal(fired, 0);
    cancelled.cancel();
    mock.timers.tick(1);
    assert.equal(fired, 1);
    mock.timers.tick(60 * DAY_MS);
    assert.equal(fired, 1);
  } finally {
    mock.timers.reset();
  }
});
