import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { Mutex, op, type ReadLock, RWLock } from 'conclave';

import { onEachBackend } from '../support/backends.js';
import { code, settlesSoon, type World, worldsOf } from '../support/world.js';

onEachBackend('RWLock', (backend) => {
  const newWorld = worldsOf(backend, 'rw');

  async function locks(count: number): Promise<World & { readonly rw: RWLock[] }> {
    const world = await newWorld(count);
    return { ...world, rw: world.sessions.map((session) => new RWLock(session, world.name)) };
  }

  it('lets readers hold together and makes a writer wait for all of them', async () => {
    await using world = await locks(3);
    const [a, b, c] = world.rw as [RWLock, RWLock, RWLock];
    const first = await a.readLock();
    const second = await b.readLock();
    const writing = c.writeLock();
    await world.untilKeys(3);
    await first.unlock();
    await world.untilKeys(2);
    assert.equal(await settlesSoon(writing), false);
    await second.unlock();
    const write = await writing;
    assert.ok(write.held);
    assert.ok(write.fencingToken > first.fencingToken && write.fencingToken > second.fencingToken);
    await write.unlock();
    assert.equal(await world.keys(), 0);
  });

  it('admits in the order of arrival, so that readers after a waiting writer wait behind it', async () => {
    await using world = await locks(4);
    const [a, b, c, d] = world.rw as [RWLock, RWLock, RWLock, RWLock];
    const order: string[] = [];
    const read = await a.readLock();
    const writing = b.writeLock().then((lock) => (order.push('writer'), lock));
    await world.untilKeys(2);
    const late = [c, d].map((lock) => lock.readLock().then((held) => (order.push('reader'), held)));
    await world.untilKeys(4);
    await read.unlock();
    const write = await writing;
    assert.deepEqual(order, ['writer']);
    await write.unlock();
    const readers = await Promise.all(late);
    for (const reader of readers) {
      assert.ok(reader.fencingToken > write.fencingToken);
      await reader.unlock();
    }
  });

  it('tries without ever writing a key when it cannot be had', async () => {
    await using world = await locks(2);
    const [a, b] = world.rw as [RWLock, RWLock];
    const read = await a.tryReadLock();
    assert.ok(read);
    const before = await world.client.kv.range({ prefix: 'x' });
    assert.equal(await b.tryWriteLock(), undefined);
    const after = await world.client.kv.range({ prefix: 'x' });
    assert.equal(after.revision, before.revision, 'the store did not change');
    const other = await b.tryReadLock();
    assert.ok(other);
    await other.unlock();
    await read.unlock();
    const write = await b.tryWriteLock();
    assert.ok(write && write.fencingToken > read.fencingToken);
    assert.equal(await a.tryReadLock(), undefined);
    await write.unlock();
    const again = await a.tryReadLock();
    await again?.unlock();
    assert.ok(again && again.fencingToken > write.fencingToken);
  });

  it('gives exactly one of many tries at once the write lock', async () => {
    await using world = await locks(8);
    const held = await Promise.all(world.rw.map((lock) => lock.tryWriteLock()));
    const won = held.filter((lock) => lock !== undefined);
    assert.equal(won.length, 1);
    await won[0]?.unlock();
  });

  it('downgrades without a gap: waiting readers come in, the waiting writer does not, the old guard fails', async () => {
    await using world = await locks(3);
    const [a, b, c] = world.rw as [RWLock, RWLock, RWLock];
    const write = await a.writeLock();
    const reading = b.readLock();
    await world.untilKeys(2);
    const writing = c.writeLock();
    await world.untilKeys(3);
    const oldGuard = write.guard();
    const read = await write.downgrade();
    assert.equal(write.held, false);
    assert.ok(code('NOT_HELD')(write.signal.reason));
    assert.ok(read.held && read.fencingToken > write.fencingToken);
    const other = await reading;
    assert.equal(await settlesSoon(writing), false);
    const { kv } = world.client;
    const late = await kv.txn({ if: oldGuard, then: [op.put('never', '1')] });
    assert.equal(late.succeeded, false);
    await write.unlock(); // Does nothing.
    assert.equal((await read.txn({ then: [op.get('never')] })).succeeded, true);
    await read.unlock();
    await other.unlock();
    await (await writing).unlock();
  });

  it('upgrades once it is the only reader, ahead of those who wait', async () => {
    await using world = await locks(4);
    const [a, b, c, d] = world.rw as [RWLock, RWLock, RWLock, RWLock];
    const first = await a.readLock();
    const second = await b.readLock();
    const writing = c.writeLock();
    await world.untilKeys(3);
    const upgrading = first.upgrade();
    await world.untilKeys(4);
    assert.ok(first.held, 'it reads on while it waits');
    assert.equal((await first.txn({ then: [op.get('never')] })).succeeded, true);
    const late = d.readLock();
    await world.untilKeys(5);
    await second.unlock();
    const write = await upgrading;
    assert.equal(first.held, false);
    assert.ok(write.fencingToken > second.fencingToken);
    assert.equal(await settlesSoon(writing), false);
    await first.unlock(); // Does nothing.
    assert.ok(write.held);
    await write.unlock();
    const next = await writing;
    assert.ok(next.fencingToken > write.fencingToken);
    await next.unlock();
    await (await late).unlock();
    assert.equal(await world.keys(), 0);
  });

  it('lets a reader that came after an upgrade request wait, and in when the upgrade is aborted', async () => {
    await using world = await locks(3);
    const [a, b, c] = world.rw as [RWLock, RWLock, RWLock];
    const first = await a.readLock();
    const second = await b.readLock();
    const stop = new AbortController();
    const upgrading = first.upgrade({ signal: stop.signal });
    upgrading.catch(() => undefined); // It may reject before it is waited for.
    await world.untilKeys(3);
    const late = c.readLock();
    await world.untilKeys(4);
    assert.equal(await c.tryReadLock(), undefined);
    assert.equal(await settlesSoon(late), false);
    stop.abort(new Error('changed my mind'));
    await assert.rejects(upgrading, /changed my mind/);
    assert.ok(first.held, 'the read hold is kept');
    assert.equal((await first.txn({ then: [op.get('never')] })).succeeded, true);
    const third = await late;
    assert.equal(await world.keys(), 3, 'the request is gone');
    await Promise.all([first, second, third].map((lock) => lock.unlock()));
  });

  it('refuses a second upgrade at once with DEADLOCK, on the same session too, and keeps the read hold', async () => {
    await using world = await locks(2);
    const [a, b] = world.rw as [RWLock, RWLock];
    const first = await a.readLock();
    const second = await b.readLock();
    const third = await a.readLock();
    const upgrading = first.upgrade();
    await world.untilKeys(4);
    await assert.rejects(second.upgrade(), code('DEADLOCK'));
    await assert.rejects(third.upgrade(), code('DEADLOCK'));
    await assert.rejects(first.upgrade(), code('DEADLOCK'));
    assert.ok(second.held && third.held);
    await Promise.all([second.unlock(), third.unlock()]);
    await (await upgrading).unlock();
  });

  it('gives exactly one of two upgrades asked for at once', async () => {
    await using world = await locks(2);
    for (let round = 0; round < 10; round++) {
      const holds = await Promise.all(world.rw.map((lock) => lock.readLock()));
      const asked = holds.map((hold) =>
        hold.upgrade().catch(async (error: unknown) => {
          assert.ok(code('DEADLOCK')(error));
          assert.ok(hold.held);
          await hold.unlock();
          return undefined;
        }),
      );
      const won = (await Promise.all(asked)).filter((lock) => lock !== undefined);
      assert.equal(won.length, 1);
      await won[0]?.unlock();
    }
  });

  it('lets another reader upgrade when the upgrader dies', async () => {
    await using world = await locks(3);
    const [a, b] = world.rw as [RWLock, RWLock];
    const first = await a.readLock();
    const second = await b.readLock();
    const upgrading = first.upgrade();
    upgrading.catch(() => undefined); // It may reject before it is waited for.
    await world.untilKeys(3);
    const dies = assert.rejects(upgrading, code('CLOSED'));
    await world.session(0).close();
    await dies;
    const write = await second.upgrade();
    await write.unlock();
  });

  it('withdraws the upgrade when the read hold is released while it waits', async () => {
    await using world = await locks(2);
    const [a, b] = world.rw as [RWLock, RWLock];
    const first = await a.readLock();
    const second = await b.readLock();
    const refused = assert.rejects(first.upgrade(), code('NOT_HELD'));
    await world.untilKeys(3);
    await first.unlock();
    await refused;
    assert.equal(await world.keys(), 1);
    await second.unlock();
  });

  it('rejects an upgrade with TICKET_LOST when the key is removed from outside, and leaves no request', async () => {
    await using world = await locks(2);
    const [a, b] = world.rw as [RWLock, RWLock];
    const first = await a.readLock();
    const second = await b.readLock();
    const lost = assert.rejects(first.upgrade(), code('TICKET_LOST'));
    await world.untilKeys(3);
    await world.client.kv.delete(first.key);
    await lost;
    assert.equal(first.held, false);
    assert.equal(await world.keys(), 1);
    await second.unlock();
  });

  it('removes the key of a wait that is aborted or times out, and lets those behind it in', async () => {
    await using world = await locks(3);
    const [a, b, c] = world.rw as [RWLock, RWLock, RWLock];
    const read = await a.readLock();
    const stop = new AbortController();
    const writing = b.writeLock({ signal: stop.signal });
    writing.catch(() => undefined); // It may reject before it is waited for.
    await world.untilKeys(2);
    const reading = c.readLock();
    await world.untilKeys(3);
    stop.abort(new Error('enough'));
    await assert.rejects(writing, /enough/);
    await (await reading).unlock();
    await assert.rejects(b.writeLock({ timeoutMs: 20 }), code('TIMEOUT'));
    assert.equal(await world.keys(), 1);
    await read.unlock();
  });

  it('rejects a waiter at once when its session ends or its key is removed', async () => {
    await using world = await locks(3);
    const [a, b, c] = world.rw as [RWLock, RWLock, RWLock];
    const write = await a.writeLock();
    const closed = assert.rejects(b.readLock(), code('CLOSED'));
    await world.untilKeys(2);
    await world.session(1).close();
    await closed;
    const removed = assert.rejects(c.readLock(), code('TICKET_LOST'));
    await world.untilKeys(2);
    const { kv } = world.client;
    const { kvs } = await kv.range({ prefix: `${world.name}/` }, { sort: { by: 'create', order: 'desc' } });
    await kv.delete(kvs[0]?.key ?? assert.fail());
    await removed;
    await write.unlock();
  });

  it('excludes a plain Mutex of the same name, and waits for it, in the order of arrival', async () => {
    await using world = await locks(2);
    const [a, b] = world.rw as [RWLock, RWLock];
    const mutex = new Mutex(world.session(1), world.name);
    const read: ReadLock = await a.readLock();
    assert.equal(await mutex.tryLock(), undefined);
    const locking = mutex.lock();
    await world.untilKeys(2);
    assert.equal(await b.tryReadLock(), undefined);
    await read.unlock();
    const lock = await locking;
    assert.equal(await a.tryReadLock(), undefined);
    const reading = a.readLock();
    await world.untilKeys(2);
    await lock.unlock();
    await (await reading).unlock();
  });

  it('runs work under a lock, passes on what it returns, and rejects with the loss', async () => {
    await using world = await locks(1);
    const [lock] = world.rw as [RWLock];
    assert.equal(await lock.read(() => 7), 7);
    assert.equal(await lock.write((held) => held.held), true);
    await assert.rejects(
      lock.write(() => Promise.reject(new Error('work failed'))),
      /work failed/,
    );
    assert.equal(await world.keys(), 0);
    await assert.rejects(
      lock.write(async (held) => {
        await world.session(0).close();
        assert.equal(held.held, false);
      }),
      code('CLOSED'),
    );
  });

  describe('bad input', () => {
    it('is refused before any request', async () => {
      await using world = await locks(1);
      assert.throws(() => new RWLock(world.session(0), ''), TypeError);
      const [lock] = world.rw as [RWLock];
      await assert.rejects(lock.readLock({ timeout: 5 } as object), TypeError);
      await assert.rejects(lock.readLock({ timeoutMs: -1 }), RangeError);
    });
  });
});
