// The simulation: the same seed is the same run, and a stretch of seeds breaks no rule.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { play } from './play.js';
import { asText } from './shrink.js';

/** For how long seeds are played, on a machine of any speed. */
const PLAY_MS = 60_000;
const FIRST_SEED = 1_000_000;

describe('the simulation', () => {
  test('the same seed gives the same history, byte for byte', async () => {
    const runs = [];
    for (let at = 0; at < 2; at++) runs.push((await play({ seed: 7 })).history.map(asText).join('\n'));
    assert.ok((runs[0] ?? '').length > 1000);
    assert.equal(runs[0], runs[1]);
    const other = (await play({ seed: 8 })).history.map(asText).join('\n');
    assert.notEqual(other, runs[0]);
  });

  test('seeds break no rule', async () => {
    const untilMs = performance.now() + PLAY_MS;
    let operations = 0;
    for (let seed = FIRST_SEED; performance.now() < untilMs; seed++) {
      const played = await play({ seed });
      operations += played.operations;
      const broken = played.violations.map(({ message, rule }) => `${rule}: ${message}`);
      assert.deepEqual(broken, [], `SEED=${seed} npm run sim`);
    }
    assert.ok(operations > 100, `${operations} operations`);
  });
});
