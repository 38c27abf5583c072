import assert from 'node:assert/strict';
import { it } from 'node:test';

import { Semaphore, Session } from 'conclave';

import type { Habits } from './lock-actor.js';
import { playLocks } from './lock-play.js';
import type { Random } from './random.js';
import { onServers } from './servers.js';

const RUN_MS = 4000;

onServers('locks, at random, in several processes', (backend) => {
  it('read-write locks and mutexes keep their promises', async () => {
    const names = ['rw/a', 'rw/b'];
    const want = (random: Random): ReturnType<Habits['want']> => ({
      kind: random.pick(['read', 'read', 'read', 'write', 'mutex'] as const),
      limit: 1,
      names: [random.pick(names)],
      weight: 1,
    });
    await playLocks(backend, {
      habits: { loseChance: 0.01, want },
      name: 'rw',
      needs: ['arrival', 'upgrade', 'downgrade'],
      runMs: RUN_MS,
    });
  });

  it('semaphores keep their promises, resized while in use, and mixed with mutexes', async () => {
    const want = (random: Random): ReturnType<Habits['want']> => ({
      kind: random.pick(['permit', 'permit', 'permit', 'permit', 'permit', 'mutex'] as const),
      limit: 4,
      names: ['sem/a'],
      weight: 1 + random.int(3),
    });
    const resize = { chance: 0.03, to: (random: Random) => 3 + random.int(4) };
    await playLocks(backend, {
      habits: { loseChance: 0.01, resize, want },
      name: 'sem',
      needs: ['arrival'],
      runMs: RUN_MS,
    });
    const client = backend.client();
    const session = await Session.open(client);
    assert.equal(await new Semaphore(session, 'sem/a', { limit: 4 }).delete(), true);
    await session.close();
  });

  it('locks of several names at once keep their promises, mixed with mutexes and read-write locks', async () => {
    const names = ['multi/a', 'multi/b', 'multi/c', 'multi/d'];
    const want = (random: Random): ReturnType<Habits['want']> => ({
      kind: random.pick(['multi', 'multi', 'multi', 'mutex', 'read', 'write'] as const),
      limit: 1,
      names: [random.pick(names), random.pick(names), random.pick(names)].slice(0, 1 + random.int(3)),
      weight: 1,
    });
    await playLocks(backend, {
      habits: { loseChance: 0.01, want },
      name: 'multi',
      needs: ['arrival'],
      runMs: RUN_MS,
    });
  });
});
