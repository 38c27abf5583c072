import assert from 'node:assert/strict';
import { it } from 'node:test';

import { Semaphore, Session } from 'conclave';

import { type Backend, onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';
import { Fleet } from './fleet.js';
import { History } from './history.js';
import { type Habits, LockActor } from './lock-actor.js';
import { type Claim, LockChecks } from './lock-checks.js';
import { newSeed, type Random, randomOf } from './random.js';

const PROCESSES = 3;
const SESSIONS = 3;
/** Tasks of one session, which share its key in a plain mutex's line. */
const TASKS = 2;
const RUN_MS = 4000;

/** Runs a fleet with these habits for a while, kills one of its processes meanwhile, and checks all that happened. */
async function play(backend: Backend, name: string, habits: Omit<Habits, 'effects'>): Promise<Claim[]> {
  const random = randomOf(newSeed(`${name} (${backend.kind})`));
  const prefix = `${name}/`;
  const client = backend.client();
  const history = await History.follow(client, prefix);
  const fleet = await Fleet.start(
    backend.endpoints,
    new URL('subjects/locks.js', import.meta.url),
    PROCESSES,
  );
  try {
    const actors: LockActor[] = [];
    for (let at = 0; at < PROCESSES * SESSIONS * TASKS; at++) {
      const place = { at: at % PROCESSES, session: `s${at % (PROCESSES * SESSIONS)}` };
      actors.push(new LockActor(fleet, place, random.fork(), { ...habits, effects: `effects/${prefix}` }));
    }
    const end = performance.now() + RUN_MS;
    const running = actors.map((actor) => actor.run(() => performance.now() > end));
    // Late, since the line stands still until the leases of a killed process have run out.
    await until(() => performance.now() > end - RUN_MS * 0.2, { what: 'most of the run' });
    await fleet.replace(random.int(PROCESSES));
    await Promise.all(running);
    for (let at = 0; at < PROCESSES; at++) await fleet.call(at, 'close');
    // The line empties: what the killed process held goes with its leases.
    const inLine = async (): Promise<string[]> => {
      const { kvs } = await client.kv.range({ prefix }, { keysOnly: true });
      return kvs.map((kv) => kv.key).filter((key) => !key.endsWith('.~limit'));
    };
    await until(async () => (await inLine()).length === 0, { what: 'nothing is left in line' });
    await until(async () => (await client.lease.list()).length === 0, { what: 'no lease is left' });
    await history.complete(client, prefix);
    const claims = actors.flatMap((actor) => actor.claims);
    const effects = actors.flatMap((actor) => actor.effects);
    const checks = new LockChecks(history, claims).all(effects);
    const problems = [...actors.flatMap((actor) => actor.problems), ...checks.problems];
    assert.deepEqual(problems.slice(0, 10), [], `${problems.length} problems`);
    const by = (how: Claim['by']): number => claims.filter((claim) => claim.by === how).length;
    console.log(
      `# ${claims.length} holds (${by('upgrade')} upgrades, ${by('downgrade')} downgrades), ${effects.length} guarded writes, ${history.lives.length} keys`,
    );
    await client.kv.delete({ prefix: `effects/${prefix}` });
    return claims;
  } finally {
    await fleet.close();
  }
}

onEachBackend('locks, at random, in several processes', (backend) => {
  it('read-write locks and mutexes keep their promises', async () => {
    const names = ['rw/a', 'rw/b'];
    const want = (random: Random): ReturnType<Habits['want']> => ({
      kind: random.pick(['read', 'read', 'read', 'write', 'mutex'] as const),
      limit: 1,
      names: [random.pick(names)],
      weight: 1,
    });
    const claims = await play(backend, 'rw', { loseChance: 0.01, want });
    for (const by of ['arrival', 'upgrade', 'downgrade'] as const)
      assert.ok(
        claims.some((claim) => claim.by === by),
        `there was a hold by ${by}`,
      );
  });

  it('semaphores keep their promises, resized while in use, and mixed with mutexes', async () => {
    const want = (random: Random): ReturnType<Habits['want']> => ({
      kind: random.pick(['permit', 'permit', 'permit', 'permit', 'permit', 'mutex'] as const),
      limit: 4,
      names: ['sem/a'],
      weight: 1 + random.int(3),
    });
    const resize = { chance: 0.03, to: (random: Random) => 3 + random.int(4) };
    const claims = await play(backend, 'sem', { loseChance: 0.01, resize, want });
    assert.ok(claims.length > 10, `${claims.length} holds`);
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
    const claims = await play(backend, 'multi', { loseChance: 0.01, want });
    assert.ok(claims.length > 10, `${claims.length} holds`);
  });
});
