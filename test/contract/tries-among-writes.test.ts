import assert from 'node:assert/strict';
import { it } from 'node:test';

import { Client, LockManager, MultiMutex, Mutex, RWLock, Semaphore, Session } from 'conclave';
import { FaultProxy } from 'conclave/testing';

import { type Backend, onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';
import { type World, worldsOf } from '../support/world.js';

/** Writes below `name` all the time, from clients of its own, until it is disposed of. */
async function writers(backend: Backend, name: string): Promise<AsyncDisposable> {
  let on = true;
  let writes = 0;
  const work = async (client: Client, at: number): Promise<void> => {
    for (; on; writes++) await client.kv.put(`${name}/data/${at}`, 'x');
  };
  const clients = Array.from({ length: 8 }, () => backend.client());
  const working = clients.map(work);
  await until(() => writes > 200);
  return {
    async [Symbol.asyncDispose]() {
      on = false;
      await Promise.all(working);
      await clients[0]?.kv.delete({ prefix: `${name}/data/` });
    },
  };
}

const limits = { timeoutMs: 5000 };

/** Each thing that is tried: resolves with how to give it back, or undefined. */
const tries: Record<string, (session: Session, name: string) => Promise<(() => Promise<void>) | undefined>> =
  {
    'MultiMutex.tryLock': async (session, name) => {
      const lock = await new MultiMutex(session, [name, `${name}-2`]).tryLock(limits);
      return lock && (() => lock.unlock());
    },
    'Mutex.tryLock': async (session, name) => {
      const lock = await new Mutex(session, name).tryLock(limits);
      return lock && (() => lock.unlock());
    },
    'RWLock.tryReadLock': async (session, name) => {
      const lock = await new RWLock(session, name).tryReadLock(limits);
      return lock && (() => lock.unlock());
    },
    'RWLock.tryWriteLock': async (session, name) => {
      const lock = await new RWLock(session, name).tryWriteLock(limits);
      return lock && (() => lock.unlock());
    },
    'Semaphore.tryAcquire': async (session, name) => {
      const permit = await new Semaphore(session, name, { limit: 1 }).tryAcquire(limits);
      return permit && (() => permit.release());
    },
  };

onEachBackend('What is tried while others write below the name', (backend) => {
  const newWorld = worldsOf(backend, 'tries');

  const leases = async ({ client, name }: World): Promise<number> => {
    const { kvs } = await client.kv.range({ end: `${name}0`, start: `${name}-` });
    return kvs.filter(({ key }) => !key.startsWith(`${name}/data/`)).length;
  };

  for (const [what, attempt] of Object.entries(tries)) {
    it(`${what} has what is free, and at once hears of what is not`, async () => {
      await using world = await newWorld(2);
      const { name } = world;
      await using _ = await writers(backend, name);
      const release = await attempt(world.session(0), name);
      assert.ok(release);
      const held = await leases(world);
      if (what !== 'RWLock.tryReadLock') assert.equal(await attempt(world.session(1), name), undefined);
      assert.equal(await leases(world), held, 'a try that failed leaves nothing');
      await release();
      assert.equal(await leases(world), 0);
    });
  }

  for (const what of ['MultiMutex.tryLock', 'RWLock.tryWriteLock', 'RWLock.tryReadLock']) {
    it(`${what} leaves the line again when somebody came before it after all`, async () => {
      await using world = await newWorld(1);
      const { name } = world;
      const [endpoint = ''] = backend.endpoints;
      await using proxy = await FaultProxy.start(endpoint, { grpc: true });
      await using client = new Client({ endpoints: [proxy.endpoint] });
      await using session = await Session.open(client);
      const holdTake = () =>
        proxy.onCall('/etcdserverpb.KV/Txn', 'holdRequest', {
          times: 1,
          where: (message) => message.includes('"pid"'),
        });
      let take = holdTake();
      const trying = tries[what]?.(session, name);
      for (const value of ['1', '2']) {
        await take.hit();
        await world.client.kv.put(`${name}/data`, value);
        take.release();
        take = holdTake();
      }
      await take.hit();
      const lock = await new Mutex(world.session(0), name).lock();
      take.release();
      assert.equal(await trying, undefined);
      assert.deepEqual((await new Mutex(session, name).inspect()).waiters, []);
      assert.ok(lock.held);
      await lock.unlock();
      await world.client.kv.delete(`${name}/data`);
    });
  }

  it('is had by one of many who race for it, and by no two', async () => {
    await using world = await newWorld(6);
    const { name, sessions } = world;
    await using _ = await writers(backend, name);
    let inside = 0;
    let had = 0;
    await Promise.all(
      sessions.map(async (session, at) => {
        const attempt = at % 2 === 0 ? tries['MultiMutex.tryLock'] : tries['RWLock.tryWriteLock'];
        for (let round = 0; round < 10; round++) {
          const release = await attempt?.(session, name);
          if (release === undefined) continue;
          assert.equal(++inside, 1);
          had++;
          await Promise.resolve();
          inside--;
          await release();
        }
      }),
    );
    assert.ok(had > 0);
    assert.equal(await leases(world), 0);
  });

  it('LockManager with ifAvailable calls back at once', async () => {
    await using world = await newWorld(2);
    const [one, two] = world.sessions.map((session) => new LockManager(session, { prefix: world.name }));
    await using _ = await writers(backend, `${world.name}/lock`);
    const options = { ...limits, ifAvailable: true };
    const inner = await one?.request('lock', options, async (lock) => {
      assert.ok(lock);
      return await two?.request('lock', options, (second) => second);
    });
    assert.equal(inner, null);
  });
});
