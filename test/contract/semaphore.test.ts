import assert from 'node:assert/strict';
import { it } from 'node:test';

import { type AcquireOptions, Mutex, op, Semaphore } from 'conclave';

import { onEachBackend } from '../support/backends.js';
import { code, settlesSoon, type World, worldsOf } from '../support/world.js';

onEachBackend('Semaphore', (backend) => {
  const newWorld = worldsOf(backend, 'sem');

  /** Semaphores of one name, each on a session of its own. */
  async function semaphores(count: number, limit: number): Promise<World & { readonly sem: Semaphore[] }> {
    const world = await newWorld(count);
    return { ...world, sem: world.sessions.map((session) => new Semaphore(session, world.name, { limit })) };
  }

  it('lets in as many as the limit, and the next when one releases; nothing is left in the store', async () => {
    await using world = await semaphores(3, 2);
    const [a, b, c] = world.sem as [Semaphore, Semaphore, Semaphore];
    const first = await a.acquire();
    const second = await b.acquire();
    const waiting = c.acquire();
    await world.untilKeys(4); // three permits and the limit
    assert.equal(await settlesSoon(waiting), false);
    await first.release();
    const third = await waiting;
    assert.ok(third.held && third.fencingToken > first.fencingToken);
    assert.equal((await third.txn({ then: [op.get('x')] })).succeeded, true);
    await Promise.all([second.release(), third.release(), third.release()]);
    assert.equal(await world.keys(), 0);
  });

  it('admits in the order of arrival: light permits do not overtake a heavy one', async () => {
    await using world = await semaphores(1, 4);
    const [sem] = world.sem as [Semaphore];
    const light = await sem.acquire({ weight: 2 });
    const heavy = sem.acquire({ weight: 3 });
    await world.untilKeys(3);
    const late = sem.acquire({ weight: 1 });
    await world.untilKeys(4);
    assert.equal(await sem.tryAcquire(), undefined);
    assert.deepEqual([await settlesSoon(heavy), await settlesSoon(late)], [false, false]);
    const { holders, waiters } = await sem.inspect();
    assert.deepEqual(
      [holders, waiters].map((each) => each.map(({ weight }) => weight)),
      [[2], [3, 1]],
    );
    await light.release();
    const permits = await Promise.all([heavy, late]);
    assert.equal(permits[0].weight, 3);
    await Promise.all(permits.map((permit) => permit.release()));
  });

  it('refuses a limit that others do not share with MISMATCH, naming both, before anything is changed', async () => {
    await using world = await semaphores(2, 2);
    const [a] = world.sem as [Semaphore];
    const other = new Semaphore(world.session(1), world.name, { limit: 3 });
    const permit = await a.acquire();
    const { revision } = await world.client.kv.range('x');
    const naming = (error: unknown): boolean =>
      code('MISMATCH')(error) && /limit 2.*not 3/.test((error as Error).message);
    await assert.rejects(other.acquire(), naming);
    await assert.rejects(other.tryAcquire(), naming);
    assert.equal((await world.client.kv.range('x')).revision, revision);
    await permit.release();
    // Nobody uses it any more, so the next to come sets the limit.
    const mine = await other.acquire({ weight: 3 });
    await assert.rejects(a.acquire(), code('MISMATCH'));
    await mine.release();
  });

  it('refuses weights over the limit, and other bad input, before anything is changed', async () => {
    await using world = await semaphores(1, 2);
    const [sem] = world.sem as [Semaphore];
    const { revision } = await world.client.kv.range('x');
    for (const weight of [0, -1, 1.5, 3, Number.NaN]) {
      await assert.rejects(sem.acquire({ weight }), RangeError);
      await assert.rejects(sem.tryAcquire({ weight }), RangeError);
    }
    for (const weight of ['1', null])
      await assert.rejects(sem.acquire({ weight } as unknown as AcquireOptions), TypeError);
    await assert.rejects(sem.acquire({ weigth: 1 } as AcquireOptions), TypeError);
    await assert.rejects(sem.resize(0), RangeError);
    assert.throws(() => new Semaphore(world.session(0), world.name, { limit: 0 }), RangeError);
    assert.throws(() => new Semaphore(world.session(0), '', { limit: 1 }), TypeError);
    assert.equal((await world.client.kv.range('x')).revision, revision);
  });

  it('does not join on a limit that it remembers, when others have agreed on another one since', async () => {
    await using world = await semaphores(1, 4);
    const [sem] = world.sem as [Semaphore];
    const first = await sem.acquire();
    const second = await sem.acquire(); // Joins what the first one made, and remembers it.
    await Promise.all([first.release(), second.release()]);
    const permit = await new Semaphore(world.session(0), world.name, { limit: 2 }).acquire();
    await assert.rejects(sem.acquire(), code('MISMATCH'));
    assert.equal(await world.keys(), 2);
    await permit.release();
  });

  it('is resized live: more waiters go ahead at once, fewer when it shrinks', async () => {
    await using world = await semaphores(3, 1);
    const [a, b, c] = world.sem as [Semaphore, Semaphore, Semaphore];
    const first = await a.acquire();
    const second = b.acquire();
    await world.untilKeys(3);
    const third = c.acquire();
    await world.untilKeys(4);
    await b.resize(3);
    const permits = [first, await second, await third];
    await a.resize(2);
    const fourth = a.acquire({ weight: 2 });
    await world.untilKeys(5);
    await permits[0]?.release();
    await permits[1]?.release();
    assert.equal(await settlesSoon(fourth), false);
    await permits[2]?.release();
    await (await fourth).release();
    // A resize outlasts its users, and those who declare the old limit, the first or the new one go on.
    assert.equal(await world.keys(), 1);
    const resized = new Semaphore(world.session(0), world.name, { limit: 2 });
    await Promise.all([(await resized.acquire()).release(), (await a.acquire({ weight: 2 })).release()]);
    await assert.rejects(
      new Semaphore(world.session(0), world.name, { limit: 7 }).acquire(),
      code('MISMATCH'),
    );
    await assert.rejects(a.acquire({ weight: 3 }), RangeError);
    await a.resize(1); // Back at the first limit.
    assert.equal(await world.keys(), 0);
  });

  it('rejects a waiter whose weight a resize made impossible, and lets those behind it in', async () => {
    await using world = await semaphores(2, 3);
    const [a, b] = world.sem as [Semaphore, Semaphore];
    const held = await a.acquire();
    const heavy = a.acquire({ weight: 3 });
    const refused = assert.rejects(heavy, code('MISMATCH'));
    await world.untilKeys(3);
    const light = b.acquire();
    await world.untilKeys(4);
    await b.resize(2);
    await refused;
    await (await light).release();
    await held.release();
    assert.equal(await a.delete(), true);
  });

  it('can be deleted only when nobody holds or waits', async () => {
    await using world = await semaphores(1, 2);
    const [sem] = world.sem as [Semaphore];
    const permit = await sem.acquire();
    await sem.resize(5);
    assert.equal(await sem.delete(), false);
    await permit.release();
    assert.equal(await world.keys(), 1);
    assert.equal(await sem.delete(), true);
    assert.equal(await world.keys(), 0);
    assert.equal(await sem.delete(), true);
  });

  it('takes over the limit that crashed users left', async () => {
    await using world = await semaphores(2, 2);
    const [a] = world.sem as [Semaphore];
    await a.acquire();
    await world.session(0).close(); // As after a crash: the lease takes the permit, the limit stays.
    assert.equal(await world.keys(), 1);
    const other = new Semaphore(world.session(1), world.name, { limit: 9 });
    await (await other.acquire({ weight: 9 })).release();
    assert.equal(await world.keys(), 0);
  });

  it('removes the key of a wait that is aborted or times out, the last one with the limit', async () => {
    await using world = await semaphores(2, 1);
    const [a, b] = world.sem as [Semaphore, Semaphore];
    const permit = await a.acquire();
    const stop = new AbortController();
    const aborted = assert.rejects(b.acquire({ signal: stop.signal }), /enough/);
    await world.untilKeys(3);
    stop.abort(new Error('enough'));
    await aborted;
    await assert.rejects(b.acquire({ timeoutMs: 30 }), code('TIMEOUT'));
    assert.equal(await world.keys(), 2);
    await permit.release();
    assert.equal(await world.keys(), 0);
    // An abort while the permit is being taken leaves neither it nor the limit.
    for (let round = 0; round < 10; round++) {
      const early = new AbortController();
      const acquiring = b.acquire({ signal: early.signal });
      if (round % 2 === 0) await Promise.resolve();
      else await new Promise((resolve) => setImmediate(resolve));
      early.abort(new Error('enough'));
      await acquiring.then(
        (got) => got.release(),
        () => undefined,
      );
      assert.equal(await world.keys(), 0);
    }
  });

  it('never lets in more than the limit when many try at once', async () => {
    await using world = await semaphores(8, 3);
    const held = await Promise.all(world.sem.map((sem) => sem.tryAcquire()));
    const won = held.filter((permit) => permit !== undefined);
    assert.equal(won.length, 3);
    await Promise.all(won.map((permit) => permit.release()));
    assert.equal(await world.keys(), 0);
  });

  it('shares its name with a plain Mutex, which needs all permits', async () => {
    await using world = await semaphores(2, 3);
    const [a, b] = world.sem as [Semaphore, Semaphore];
    const mutex = new Mutex(world.session(1), world.name);
    const permit = await a.acquire();
    const locking = mutex.lock();
    await world.untilKeys(3);
    const late = b.acquire();
    await world.untilKeys(4);
    await permit.release();
    const lock = await locking;
    assert.equal(await settlesSoon(late), false);
    await lock.unlock();
    await (await late).release();
    assert.equal(await world.keys(), 0);
  });

  it('runs work under a permit and passes on what it returns', async () => {
    await using world = await semaphores(1, 3);
    const [sem] = world.sem as [Semaphore];
    assert.equal(await sem.run((permit) => permit.weight, { weight: 2 }), 2);
    await assert.rejects(
      sem.run(() => Promise.reject(new Error('work failed'))),
      /work failed/,
    );
    assert.equal(await world.keys(), 0);
  });
});
