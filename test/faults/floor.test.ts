// The floor of a session (src/session/floor.ts): when it rises, what it costs, and what becomes of a session that has none.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { status } from '@grpc/grpc-js';

import { hasCode, Mutex, RWLock } from 'conclave';
import { ManualClock } from 'conclave/testing';
import { onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';
import { fate, RPC, Scene } from './scene.js';
import { Tape } from './tape.js';

onEachBackend('the floor of a session', (backend) => {
  test('rises once for all that has ended meanwhile, and an idle session sends nothing', async (t) => {
    const scene = new Scene(t, backend);
    const proxy = await scene.proxy();
    const clock = new ManualClock();
    const session = await scene.session(scene.client(proxy, { clock }), { ttlSeconds: 3600 });
    for (let at = 0; at < 20; at++) await (await new Mutex(session, `x/${at}`).lock()).unlock();
    const before = proxy.requests(RPC.txn);
    await clock.advance(1000);
    await until(() => proxy.replies(RPC.txn) === before + 1);
    for (let seconds = 0; seconds < 30; seconds++) await clock.advance(1000);
    assert.equal(proxy.requests(RPC.txn), before + 1);
  });

  test('that somebody removed with all other keys is made again, and the session goes on', async (t) => {
    const scene = new Scene(t, backend);
    const session = await scene.session(scene.direct, { ttlSeconds: 60 });
    await (await new Mutex(session, 'x/one').lock()).unlock();
    await scene.direct.kv.delete({ prefix: '.conclave/floor/' });
    await using lock = await new Mutex(session, 'x/one').lock();
    assert.ok((await lock.txn({ then: [] })).succeeded);
    assert.equal(await new Mutex(await scene.session(scene.direct), 'x/one').tryLock(), undefined);
    assert.equal(session.state, 'active');
  });

  test('removed again and again while many locks are taken: none of them hears of it', async (t) => {
    const scene = new Scene(t, backend);
    const session = await scene.session(scene.direct, { ttlSeconds: 60 });
    const progress = { isOver: false, taken: 0 };
    const use = async (at: number): Promise<void> => {
      for (let round = 0; round < 10; round++) {
        await using lock = await new Mutex(session, `x/${at}`).lock();
        assert.ok((await lock.txn({ then: [] })).succeeded);
        progress.taken += 1;
      }
    };
    const users = Promise.allSettled(Array.from({ length: 40 }, (_, at) => use(at)));
    void users.then(() => (progress.isOver = true));
    while (!progress.isOver) {
      const before = progress.taken;
      await scene.direct.kv.delete({ prefix: '.conclave/floor/' });
      await until(() => progress.isOver || progress.taken > before);
    }
    const rejected = (await users).filter((each) => each.status === 'rejected');
    assert.deepEqual(rejected, []);
    await scene.untilKeys('x/', 0);
    assert.equal(session.state, 'active');
  });

  test('removed just before a lock is taken: what is left of the first try is removed, and not the lock', async (t) => {
    const scene = new Scene(t, backend);
    const clock = new ManualClock();
    const session = await scene.session(scene.client(await scene.proxy(), { clock }), { ttlSeconds: 3600 });
    const floor = async (): Promise<string | undefined> =>
      (await scene.direct.kv.range({ prefix: '.conclave/floor/' })).kvs
        .find((kv) => kv.leaseId === session.leaseId)
        ?.string();
    await scene.direct.kv.delete({ prefix: '.conclave/floor/' });
    await using lock = await new Mutex(session, 'x/one').lock();
    await using write = await new RWLock(session, 'x/two').writeLock();
    const before = await floor();
    assert.ok(before !== undefined);
    await until(async () => {
      await clock.advance(500);
      return (await floor()) !== before;
    });
    for (const hold of [lock, write]) assert.ok((await hold.txn({ then: [] })).succeeded);
  });

  test('whose rise was not answered goes on from what the key holds', async (t) => {
    const scene = new Scene(t, backend);
    const proxy = await scene.proxy();
    const clock = new ManualClock();
    const session = await scene.session(scene.client(proxy, { clock }), { ttlSeconds: 3600 });
    const floor = async (): Promise<string | undefined> =>
      (await scene.direct.kv.range({ prefix: '.conclave/floor/' })).kvs
        .find((kv) => kv.leaseId === session.leaseId)
        ?.string();
    const life = await floor();
    await (await new Mutex(session, 'x/one').lock()).unlock();
    proxy.onCall(RPC.txn, 'dropReply', { then: 'reset' });
    const isRaised = async (from: string | undefined): Promise<boolean> => {
      await clock.advance(500);
      return (await floor()) !== from;
    };
    await until(() => isRaised(life));
    const first = await floor();
    await using lock = await new Mutex(session, 'x/one').lock();
    await lock.unlock();
    await until(() => isRaised(first));
    assert.equal(session.state, 'active');
  });

  test('of a lease that is gone refuses what is asked, and the session is lost', async (t) => {
    const scene = new Scene(t, backend);
    const session = await scene.session(scene.direct, { ttlSeconds: 60 });
    await scene.direct.lease.revoke(session.leaseId);
    await assert.rejects(new Mutex(session, 'x/one').lock(), (error) => hasCode(error, 'SESSION_LOST'));
    assert.equal(session.state, 'lost');
  });

  test('is not there for a user who may not write it: locks work, and what comes late is looked for', async (t) => {
    const scene = new Scene(t, backend);
    const proxy = await scene.proxy();
    const clock = new ManualClock();
    const client = scene.client(proxy, { clock });
    const denied = { code: status.PERMISSION_DENIED, message: 'etcdserver: permission denied' };
    proxy.onCall(RPC.txn, 'fail', { status: denied, times: 1 });
    const session = await scene.session(client, { ttlSeconds: 3600 });
    const tape = new Tape(proxy, RPC.txn);
    const lock = await new Mutex(session, 'x/one').lock();
    tape.stop();
    await lock.unlock();
    await tape.replay(backend);
    assert.notDeepEqual(await scene.keys('x/'), [], 'it has arrived');
    const removed = fate(scene.untilKeys('x/', 0));
    await until(async () => {
      await clock.advance(500);
      return removed.state !== 'pending';
    });
    assert.deepEqual(await scene.keys('x/'), []);
  });
});
