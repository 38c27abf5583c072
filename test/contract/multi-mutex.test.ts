import assert from 'node:assert/strict';
import { it } from 'node:test';

import { MultiMutex, Mutex, op, RWLock } from 'conclave';

import { onEachBackend } from '../support/backends.js';
import { code, settlesSoon, type World, worldsOf } from '../support/world.js';

onEachBackend('MultiMutex', (backend) => {
  const newWorld = worldsOf(backend, 'multi');
  const below = (world: World, ...names: string[]): string[] => names.map((each) => `${world.name}/${each}`);
  const keysOf = async (world: World): Promise<number> =>
    (await world.client.kv.range({ prefix: `${world.name}/` })).kvs.length;

  it('locks all names at one revision, and gives all back at once', async () => {
    await using world = await newWorld(1);
    const multi = new MultiMutex(world.session(0), below(world, 'a', 'b', 'c', 'a'));
    assert.equal(multi.names.length, 3, 'a name given twice counts once');
    const lock = await multi.lock();
    const { kvs } = await world.client.kv.range({ prefix: `${world.name}/` });
    assert.deepEqual(new Set(kvs.map((kv) => kv.createRevision)), new Set([lock.createRevision]));
    assert.equal((await lock.txn({ then: [op.get('x')] })).succeeded, true);
    await lock.unlock();
    await lock.unlock();
    const { revision, kvs: left } = await world.client.kv.range({ prefix: `${world.name}/` });
    assert.equal(left.length, 0);
    assert.equal(revision, lock.createRevision + 1n, 'released in one transaction');
    const late = await world.client.kv.txn({ if: lock.guard(), then: [op.put('never', '1')] });
    assert.equal(late.succeeded, false);
  });

  it('excludes plain mutexes on each of its names, in both directions and in the order of arrival', async () => {
    await using world = await newWorld(3);
    const [a = '', b = ''] = below(world, 'a', 'b');
    const multi = new MultiMutex(world.session(0), [a, b]);
    const plainA = await new Mutex(world.session(1), a).lock();
    const plainB = await new Mutex(world.session(2), b).lock();
    assert.equal(await multi.tryLock(), undefined);
    const locking = multi.lock();
    await world.untilKeys(4);
    const behind = new Mutex(world.session(1), b).lock();
    await world.untilKeys(5);
    await plainA.unlock();
    assert.equal(await settlesSoon(locking), false);
    await plainB.unlock();
    const lock = await locking;
    assert.ok(lock.fencingToken > plainA.fencingToken && lock.fencingToken > plainB.fencingToken);
    assert.equal(await settlesSoon(behind), false);
    await lock.unlock();
    const next = await behind;
    assert.ok(next.fencingToken > lock.fencingToken);
    await next.unlock();
  });

  it('does not deadlock when many lock overlapping names in any order, on one session too', async () => {
    await using world = await newWorld(4);
    const names = below(world, 'a', 'b', 'c', 'd');
    const holders = new Map<string, number>();
    let most = 0;
    const task = async (at: number): Promise<void> => {
      for (let round = 0; round < 5; round++) {
        const wanted = [names[(at + round) % 4] ?? '', names[(at * 3 + round + 1) % 4] ?? ''];
        const multi = new MultiMutex(world.session(at % 4), at % 2 === 0 ? wanted : wanted.reverse());
        await multi.run(async () => {
          for (const name of multi.names) {
            const now = (holders.get(name) ?? 0) + 1;
            most = Math.max(most, now);
            holders.set(name, now);
          }
          await new Promise((resolve) => setImmediate(resolve));
          for (const name of multi.names) holders.set(name, (holders.get(name) ?? 0) - 1);
        });
      }
    };
    await Promise.all(Array.from({ length: 12 }, (_, at) => task(at)));
    assert.equal(most, 1);
    assert.equal(await keysOf(world), 0);
  });

  it('takes up to 128 names, waits and tries with as many, and says clearly that there are no more', async () => {
    await using world = await newWorld(2);
    const names = below(world, ...Array.from({ length: 128 }, (_, at) => `n${at}`));
    const multi = new MultiMutex(world.session(0), names);
    const lock = await multi.lock();
    const other = new MultiMutex(world.session(1), names);
    assert.equal(await other.tryLock(), undefined);
    const waiting = other.lock();
    await world.untilKeys(256);
    assert.equal((await lock.txn({ then: [op.get('x')] })).succeeded, true);
    await lock.unlock();
    const second = await waiting;
    await second.unlock();
    const third = await multi.tryLock();
    await third?.unlock();
    assert.ok(third && third.fencingToken > second.fencingToken);
    assert.throws(() => new MultiMutex(world.session(0), [...names, 'one more']), /1 to 128 names.*not 129/);
    assert.throws(() => new MultiMutex(world.session(0), []), RangeError);
    assert.throws(() => new MultiMutex(world.session(0), ['a', '']), TypeError);
  });

  it('removes all keys of a wait that is aborted, times out or is taken a key away', async () => {
    await using world = await newWorld(2);
    const [a = '', b = ''] = below(world, 'a', 'b');
    const held = await new Mutex(world.session(0), b).lock();
    const multi = new MultiMutex(world.session(1), [a, b]);
    const stop = new AbortController();
    const aborted = assert.rejects(multi.lock({ signal: stop.signal }), /enough/);
    await world.untilKeys(3);
    stop.abort(new Error('enough'));
    await aborted;
    assert.equal(await keysOf(world), 1);
    await assert.rejects(multi.lock({ timeoutMs: 30 }), code('TIMEOUT'));
    assert.equal(await keysOf(world), 1);
    const removed = assert.rejects(multi.lock(), code('TICKET_LOST'));
    await world.untilKeys(3);
    const { kvs } = await world.client.kv.range(
      { prefix: `${b}/` },
      { sort: { by: 'create', order: 'desc' } },
    );
    await world.client.kv.delete(kvs[0]?.key ?? '');
    await removed;
    assert.equal(await keysOf(world), 1);
    await held.unlock();
  });

  it('rejects at once when the session ends while it waits', async () => {
    await using world = await newWorld(2);
    const [a = '', b = ''] = below(world, 'a', 'b');
    const held = await new Mutex(world.session(0), a).lock();
    const waiting = assert.rejects(new MultiMutex(world.session(1), [a, b]).lock(), code('CLOSED'));
    await world.untilKeys(3);
    await world.session(1).close();
    await waiting;
    await held.unlock();
    assert.equal(await keysOf(world), 0);
  });

  it('loses the whole hold when one of its keys is removed from outside', async () => {
    await using world = await newWorld(1);
    const multi = new MultiMutex(world.session(0), below(world, 'a', 'b', 'c'));
    const lock = await multi.lock();
    await world.client.kv.delete(lock.keys[2] ?? '');
    await assert.rejects(lock.txn({ then: [op.put('never', '1')] }), code('NOT_HELD'));
    assert.equal(lock.held, false);
    await lock.unlock();
    assert.equal(await keysOf(world), 0);
  });

  it('waits for readers of a read-write lock of one of its names', async () => {
    await using world = await newWorld(2);
    const [a = '', b = ''] = below(world, 'a', 'b');
    const read = await new RWLock(world.session(0), a).readLock();
    const multi = new MultiMutex(world.session(1), [a, b]);
    assert.equal(await multi.tryLock(), undefined);
    const locking = multi.lock();
    await world.untilKeys(3);
    await read.unlock();
    await (await locking).unlock();
  });
});
