// Lost and late requests of the read-write lock, the semaphore and the multi-mutex, on a real etcd.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { hasCode, MultiMutex, Mutex, RWLock, Semaphore, type Session } from 'conclave';
import { type EtcdCluster, startEtcd } from 'conclave/testing';
import { assertNothingLeft, LOSSES, RPC, Scene, timed } from './scene.js';
import { Tape } from './tape.js';

/** What is taken, and how to give it back. */
type Take = (session: Session) => Promise<() => Promise<void>>;

const TAKES: Readonly<Record<string, Take>> = {
  'a mutex': async (session) => {
    const lock = await new Mutex(session, 'x/mutex').lock();
    return () => lock.unlock();
  },
  'a write lock': async (session) => {
    const lock = await new RWLock(session, 'x/rw').writeLock();
    return () => lock.unlock();
  },
  'a permit': async (session) => {
    const permit = await new Semaphore(session, 'x/sem', { limit: 2 }).acquire();
    return () => permit.release();
  },
  'several locks': async (session) => {
    const lock = await new MultiMutex(session, ['x/a', 'x/b', 'x/c']).lock();
    return () => lock.unlock();
  },
};

describe('lost and late requests of locks', () => {
  let etcd: EtcdCluster;
  before(async () => {
    etcd = await startEtcd();
  });
  after(async () => {
    await assertNothingLeft(etcd);
    await etcd.close();
  });

  for (const [what, take] of Object.entries(TAKES)) {
    // A mutex whose answer is lost in silence is fault 5.
    for (const then of LOSSES.filter((loss) => loss !== 'silence' || what !== 'a mutex')) {
      test(`the answer to taking ${what} is lost (${then}): it is had, or nothing is left`, async (t) => {
        const scene = new Scene(t, etcd);
        const proxy = await scene.proxy();
        const session = await scene.session(scene.client(proxy), { ttlSeconds: 20 });
        const fault = proxy.swallowNextReply({ method: RPC.txn, then });
        const { value: giveBack, error } = await timed(take(session));
        assert.equal(fault.hits, 1);
        if (then === 'silence') assert.ok(hasCode(error, 'UNKNOWN_OUTCOME'), String(error));
        else await (giveBack ?? assert.fail(String(error)))();
        await scene.untilKeys('x/', 0);
        assert.equal(session.state, 'active');
      });
    }

    test(`a request to take ${what} that was sent twice and arrives after it was given back leaves nothing`, async (t) => {
      const scene = new Scene(t, etcd);
      const proxy = await scene.proxy();
      const session = await scene.session(scene.client(proxy), { ttlSeconds: 20 });
      const tape = new Tape(proxy, RPC.txn);
      proxy.swallowNextReply({ method: RPC.txn, then: 'cut' });
      const giveBack = await take(session);
      tape.stop();
      await giveBack();
      assert.deepEqual(await scene.keys('x/'), []);
      await tape.replay(etcd);
      assert.notDeepEqual(await scene.keys('x/'), [], 'it has arrived');
      await scene.untilKeys('x/', 0);
      assert.equal(session.state, 'active');
    });

    test(`the answer to giving ${what} back is lost: it is given back all the same`, async (t) => {
      const scene = new Scene(t, etcd);
      const proxy = await scene.proxy();
      const session = await scene.session(scene.client(proxy), { ttlSeconds: 20 });
      const giveBack = await take(session);
      const fault = proxy.swallowNextReply({ method: RPC.txn, then: 'cut' });
      await giveBack();
      assert.equal(fault.hits, 1);
      assert.deepEqual(await scene.keys('x/'), []);
    });
  }

  test('the answers to an upgrade are lost: the request, and the write that grants it', async (t) => {
    const scene = new Scene(t, etcd);
    const proxy = await scene.proxy();
    const session = await scene.session(scene.client(proxy), { ttlSeconds: 20 });
    const read = await new RWLock(session, 'x/up').readLock();
    const fault = proxy.onCall(RPC.txn, 'dropReply', { then: 'cut', times: 2 });
    const write = await read.upgrade();
    assert.equal(fault.hits, 2);
    assert.ok(write.held && write.fencingToken > read.fencingToken);
    const lost = proxy.swallowNextReply({ method: RPC.txn, then: 'cut' });
    const again = await write.downgrade();
    assert.equal(lost.hits, 1);
    assert.ok(again.held && again.fencingToken > write.fencingToken);
    assert.equal((await again.txn({ then: [] })).succeeded, true);
    await again.unlock();
    assert.deepEqual(await scene.keys('x/'), []);
  });

  test('an upgrade whose key is removed while the write that grants it is under way holds nothing', async (t) => {
    const scene = new Scene(t, etcd);
    const proxy = await scene.proxy();
    const session = await scene.session(scene.client(proxy), { ttlSeconds: 20 });
    const read = await new RWLock(session, 'x/up').readLock();
    const other = await new RWLock(await scene.session(scene.direct), 'x/up').readLock();
    const upgrading = read.upgrade();
    await scene.untilKeys('x/', 3);
    const held = proxy.onCall(RPC.txn, 'holdRequest');
    await other.unlock();
    await proxy.waitFor(() => held.hits > 0);
    await scene.direct.kv.delete(read.key);
    const refused = assert.rejects(upgrading, (error) => hasCode(error, 'NOT_HELD', 'TICKET_LOST'));
    held.release();
    await refused;
    assert.equal(read.held, false);
    await scene.untilKeys('x/', 0);
  });

  test('an upgrade whose request is lost in silence is withdrawn, and the read hold goes on', async (t) => {
    const scene = new Scene(t, etcd);
    const proxy = await scene.proxy();
    const session = await scene.session(scene.client(proxy), { ttlSeconds: 20 });
    const read = await new RWLock(session, 'x/up').readLock();
    proxy.swallowNextReply({ method: RPC.txn, then: 'silence' });
    const { error } = await timed(read.upgrade());
    assert.ok(hasCode(error, 'UNKNOWN_OUTCOME'), String(error));
    assert.ok(read.held);
    await scene.untilKeys('x/', 1);
    await read.unlock();
    assert.deepEqual(await scene.keys('x/'), []);
  });

  test('a holder cut off from etcd is told before another can hold, whatever it holds', async (t) => {
    const scene = new Scene(t, etcd);
    const proxy = await scene.proxy();
    const session = await scene.session(scene.client(proxy), { ttlSeconds: 2 });
    const holds = [
      await new RWLock(session, 'x/rw').writeLock(),
      await new MultiMutex(session, ['x/a', 'x/b']).lock(),
      await new Semaphore(session, 'x/sem', { limit: 1 }).acquire(),
    ];
    const rival = await scene.session(scene.direct, { ttlSeconds: 20 });
    proxy.drop();
    const semaphore = new Semaphore(rival, 'x/sem', { limit: 1 });
    const asked = [
      new RWLock(rival, 'x/rw').writeLock(),
      new MultiMutex(rival, ['x/b', 'x/a']).lock(),
      semaphore.acquire(),
    ].map(async (asking) => {
      const won = await asking;
      assert.ok(holds.every((hold) => !hold.held && hold.signal.aborted));
      return won;
    });
    for (const won of await Promise.all(asked)) await won[Symbol.asyncDispose]();
    await scene.untilKeys('x/', 0);
    assert.deepEqual(await scene.keys('x/sem.'), [], 'the limit is gone with its last user');
  });
});
