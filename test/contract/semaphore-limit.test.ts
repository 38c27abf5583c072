import assert from 'node:assert/strict';
import { it } from 'node:test';

import { op, type Permit, Semaphore, type SemaphoreReport, type Session } from 'conclave';
import { nobodyIn } from '#conclave/ticket/nobody.js';

import { onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';
import { code, type World, worldsOf } from '../support/world.js';

onEachBackend("A semaphore's limit", (backend) => {
  const newWorld = worldsOf(backend, 'limit');

  /** Semaphores of one name, each on a session of its own. */
  async function semaphores(count: number, limit: number): Promise<World & { readonly sem: Semaphore[] }> {
    const world = await newWorld(count);
    return { ...world, sem: world.sessions.map((session) => new Semaphore(session, world.name, { limit })) };
  }

  /** Keys that are in no line of the name: data, data further down, a neighbour's permit and limit. */
  async function others({ client, name }: World, session: Session): Promise<AsyncDisposable> {
    await client.kv.put(`${name}/state`, 'x');
    await client.kv.put(`${name}/data/1`, 'x');
    const neighbour = await new Semaphore(session, `${name}/b`, { limit: 5 }).acquire();
    return {
      async [Symbol.asyncDispose]() {
        await neighbour.release();
        await client.kv.delete(`${name}/state`);
        await client.kv.delete(`${name}/data/1`);
      },
    };
  }

  const limitOf = async ({ client, name }: World): Promise<string | undefined> =>
    (await client.kv.get(`${name}.~limit`))?.string();

  const places = ({ holders, waiters }: SemaphoreReport): number[] => [holders.length, waiters.length];

  it("goes with the last to leave, whatever lies below the semaphore's name", async () => {
    await using world = await semaphores(1, 2);
    await using _ = await others(world, world.session(0));
    const [sem] = world.sem as [Semaphore];
    const [first, second] = [await sem.acquire(), await sem.acquire()];
    await assert.rejects(sem.acquire({ timeoutMs: 20 }), code('TIMEOUT'));
    await first.release();
    assert.equal(await limitOf(world), '{"limit":2}');
    assert.equal(await sem.delete(), false);
    await second.release();
    assert.equal(await limitOf(world), undefined);
    assert.equal(await sem.delete(), true);
    const aborted = new AbortController();
    const acquiring = sem.acquire({ signal: aborted.signal });
    aborted.abort(new Error('enough'));
    await assert.rejects(acquiring, /enough/);
    assert.equal(await limitOf(world), undefined);
  });

  it('that crashed users left gives way, or is deleted or resized back, whatever lies below the name', async () => {
    await using world = await semaphores(2, 2);
    const [a, b] = world.sem as [Semaphore, Semaphore];
    await using _ = await others(world, world.session(1));
    await a.acquire();
    await world.session(0).close(); // As after a crash: the lease takes the permit, the limit stays.
    assert.equal(await limitOf(world), '{"limit":2}');
    const other = new Semaphore(world.session(1), world.name, { limit: 3 });
    await (await other.acquire({ weight: 3 })).release();
    assert.equal(await limitOf(world), undefined);
    await b.resize(4);
    await b.resize(2);
    assert.equal(await limitOf(world), undefined);
    await b.resize(4);
    assert.equal(await b.delete(), true);
    assert.equal(await limitOf(world), undefined);
  });

  it('that shrinks leaves those who hold among the holders, for everybody', async () => {
    await using world = await semaphores(2, 4);
    const [a, b] = world.sem as [Semaphore, Semaphore];
    const held: Permit[] = [];
    for (let each = 0; each < 4; each++) held.push(await a.acquire());
    const fifth = b.acquire();
    await world.untilKeys(6);
    await b.resize(3);
    assert.deepEqual(places(await b.inspect()), [4, 1]);
    await b.resize(1);
    assert.deepEqual(places(await a.inspect()), [4, 1]);
    await b.resize(2);
    await held.shift()?.release();
    await held.pop()?.release();
    assert.deepEqual(places(await b.inspect()), [2, 1]);
    await held.pop()?.release();
    const last = await fifth;
    assert.deepEqual(places(await b.inspect()), [2, 0]);
    await last.release();
    await held.pop()?.release();
    assert.equal(await b.delete(), true);
  });

  it('that shrinks below the weight of who holds leaves him a holder, and nobody comes in beside him', async () => {
    await using world = await semaphores(2, 4);
    const [a, b] = world.sem as [Semaphore, Semaphore];
    const heavy = await a.acquire({ weight: 4 });
    await b.resize(2);
    assert.deepEqual(places(await b.inspect()), [1, 0]);
    assert.equal(await b.tryAcquire(), undefined);
    await b.resize(8);
    const two = await b.acquire({ weight: 4 });
    await b.resize(4); // As declared, but not as if nothing had been: both hold.
    assert.deepEqual(places(await a.inspect()), [2, 0]);
    await heavy.release();
    await two.release();
    assert.equal(await limitOf(world), undefined);
  });

  it('is resized to the end when whoever shrank it got no further than the first step', async () => {
    await using world = await semaphores(2, 3);
    const [a, b] = world.sem as [Semaphore, Semaphore];
    const held = [await a.acquire(), await a.acquire(), await a.acquire()];
    await world.client.kv.put(`${world.name}.~limit`, '{"limit":1,"declared":3,"before":3}');
    await held.shift()?.release();
    await b.resize(1);
    assert.deepEqual(places(await b.inspect()), [2, 0]);
    await b.resize(3); // Back as declared.
    for (const permit of held) await permit.release();
    assert.equal(await limitOf(world), undefined);
  });

  it('is let go of while others write below the name', async () => {
    await using world = await semaphores(1, 2);
    const [sem] = world.sem as [Semaphore];
    const { client, name } = world;
    let on = true;
    let writes = 0;
    const writing = Array.from({ length: 8 }, async (_, at) => {
      while (on) {
        await client.kv.put(`${name}/data/${at}`, 'x');
        writes++;
      }
    });
    await until(() => writes > 100);
    await (await sem.acquire()).release();
    assert.equal(await limitOf(world), undefined);
    await sem.resize(3);
    assert.equal(await sem.delete(), true);
    on = false;
    await Promise.all(writing);
    await client.kv.delete({ prefix: `${name}/data/` });
  });

  it('tells by compares whether anybody has joined an empty line since', async () => {
    await using world = await newWorld(1);
    const { client, name } = world;
    const { leaseId } = world.session(0);
    const put = (key: string, lease?: bigint) => client.kv.put(`${name}/${key}`, 'x', { leaseId: lease });
    for (const key of ['a', 'c/1', 'e.~limit', 'c!']) await put(key);
    const read = await client.kv.range({ prefix: `${name}/` });
    const guards = nobodyIn(read, name) ?? [];
    const hold = async (): Promise<boolean> =>
      (await client.kv.txn({ if: guards, then: [op.get('x')] })).succeeded;
    for (const key of ['a', 'c/1', 'c/2', 'c/3/4', 'e.~limit']) await put(key);
    await client.kv.delete(`${name}/c/1`);
    assert.equal(await hold(), true);
    for (const key of ['-1', 'a', 'b', 'c', 'c0', 'z']) {
      await put(key, leaseId);
      assert.equal(await hold(), false, key);
      assert.equal(nobodyIn(await client.kv.range({ prefix: `${name}/` }), name), undefined);
      await client.kv.delete(`${name}/${key}`);
      assert.equal(await hold(), true, key);
    }
    await client.kv.delete({ prefix: `${name}/` });
  });
});
