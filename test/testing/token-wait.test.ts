// A call that has to wait for a connection, and then for a token, has one time limit for both. In the simulated world, where both
// can be made to take as long as they are to.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { hasCode } from 'conclave';
import { World } from 'conclave/testing';

test('waits for a connection and for a token no longer than it may in all', async () => {
  await using world = new World(1);
  world.server.gate.users = new Map([['sim', 'secret']]);
  world.network.weather = { cuts: 0, late: 0, latencyMs: [300, 300] };
  const process = world.process('p');
  const client = world.client(process, { auth: { password: 'secret', username: 'sim' } });
  const from = process.clock.now();
  const ended: { readonly error: unknown; readonly tookMs: number }[] = [];
  void client.kv.get('a', { timeoutMs: 500 }).catch((error: unknown) => {
    ended.push({ error, tookMs: process.clock.now() - from });
  });
  // Who we are is asked once there is a connection, and never answered.
  await world.run(400, () => world.network.counts.messages > 0);
  assert.ok(world.network.counts.messages > 0);
  for (const member of world.members) member.state = 'silent';
  await world.run(5000, () => ended.length > 0);
  const [{ error, tookMs } = assert.fail('it has not ended')] = ended;
  assert.ok(hasCode(error, 'DEADLINE_EXCEEDED'), String(error));
  assert.ok(tookMs <= 501, `${tookMs} ms`);
});
