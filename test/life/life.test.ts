import assert from 'node:assert/strict';
import { test } from 'node:test';

import { live } from './life.js';

// Longer, and with the heap looked at: npm run soak:life.
test('a program on connect() goes on after whatever happens to etcd and to the way to it', async (t) => {
  const { faults, findings, sessionsLost, slowestMs } = await live({ seconds: 120, seed: 7 });
  t.diagnostic(
    `${faults} faults, ${sessionsLost} sessions lost, at most ${slowestMs} ms until all worked again`,
  );
  assert.deepEqual(findings, []);
  assert.ok(faults > 0);
});
