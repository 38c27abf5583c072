import assert from 'node:assert/strict';
import test from 'node:test';
import { setImmediate } from 'node:timers/promises';

import { Turns } from '#conclave/embedded/rpc/turns.js';

function work(ms: number): void {
  for (const startMs = performance.now(); performance.now() - startMs < ms;);
}

test('short calls run at once; what follows a long one waits for a turn of the event loop, in order', async () => {
  const turns = new Turns();
  const seen: string[] = [];
  turns.run(() => void seen.push('short'));
  turns.run(() => {
    work(20);
    seen.push('long');
  });
  for (const name of ['a', 'b'])
    turns.run(() => {
      work(20);
      seen.push(name);
    });
  turns.run(() => void seen.push('c'));
  assert.deepEqual(seen, ['short', 'long']);
  const after: number[] = [];
  while (seen.length < 5) {
    await setImmediate();
    after.push(seen.length);
  }
  assert.deepEqual(seen, ['short', 'long', 'a', 'b', 'c']);
  assert.ok(after.includes(3) && after.includes(4), `a turn for each long one: ${after.join()}`);
});
