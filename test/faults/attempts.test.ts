// Attempts that are given up, or share a key, while copies of their requests are on the way: each removes what it wrote
// itself, whenever that arrives, and nothing else.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { hasCode, MultiMutex, Mutex, op, RWLock, type Session } from 'conclave';
import { type FaultProxy, ManualClock } from 'conclave/testing';
import { onBackends } from '../support/backends.js';
import { until } from '../support/until.js';
import { fate, RPC, Scene } from './scene.js';
import { TAKES } from './takes.js';
import { Tape } from './tape.js';

const ENOUGH = new Error('enough');

onBackends(['etcd'], 'attempts that are given up', (backend) => {
  async function behindProxy(scene: Scene): Promise<{ proxy: FaultProxy; session: Session }> {
    const proxy = await scene.proxy();
    return { proxy, session: await scene.session(scene.client(proxy), { ttlSeconds: 60 }) };
  }

  /** Gives `ask` up while its first request hangs, which is then sent again and answered. Resolves with the first one. */
  async function giveUpBeforeRepeat(
    proxy: FaultProxy,
    ask: (signal: AbortSignal) => Promise<unknown>,
  ): Promise<Tape> {
    const tape = new Tape(proxy, RPC.txn);
    const held = proxy.onCall(RPC.txn, 'holdRequest', { times: 1 });
    const stop = new AbortController();
    const given = assert.rejects(ask(stop.signal), ENOUGH);
    await held.hit();
    tape.stop();
    stop.abort(ENOUGH);
    proxy.cut();
    await given;
    return tape;
  }

  for (const [what, take] of Object.entries(TAKES))
    test(`${what} given up before its request is sent again: the first request arrives late, and leaves nothing`, async (t) => {
      const scene = new Scene(t, backend);
      const { proxy, session } = await behindProxy(scene);
      const tape = await giveUpBeforeRepeat(proxy, (signal) => take(session, { signal }));
      await scene.untilKeys('x/', 0);
      await tape.replay(backend);
      assert.notDeepEqual(await scene.keys('x/'), [], 'it has arrived');
      await scene.untilKeys('x/', 0);
      assert.equal(session.state, 'active');
    });

  test('an upgrade given up before its request is sent again: the first request arrives late, and leaves nothing', async (t) => {
    const scene = new Scene(t, backend);
    const { proxy, session } = await behindProxy(scene);
    const lock = new RWLock(session, 'x/up');
    const [read, other] = [await lock.readLock(), await lock.readLock()];
    const tape = await giveUpBeforeRepeat(proxy, (signal) => read.upgrade({ signal }));
    await scene.untilKeys('x/up.~', 0);
    await tape.replay(backend);
    assert.deepEqual(await scene.keys('x/up.~'), ['x/up.~upgrade'], 'it has arrived');
    await scene.untilKeys('x/up.~', 0);
    await read.unlock();
    await (await other.upgrade()).unlock();
  });

  test('attempts whose outcome stays unknown: what arrives after the first clean-up is removed', async (t) => {
    const scene = new Scene(t, backend);
    const { proxy, session } = await behindProxy(scene);
    const tape = new Tape(proxy, RPC.txn);
    const takes = Object.values(TAKES);
    const lost = proxy.onCall(RPC.txn, 'dropRequest', { then: 'silence', times: takes.length });
    const taking = takes.map((take) => assert.rejects(take(session), unknown));
    await lost.hit(takes.length);
    tape.stop();
    await Promise.all(taking);
    assert.deepEqual(await scene.keys('x/'), []);
    await tape.replay(backend);
    // All but the permit, which needs the key of its limit beside it, in one request.
    assert.ok((await scene.keys('x/')).length >= takes.length, 'they have arrived');
    await scene.untilKeys('x/', 0);
    assert.equal(session.state, 'active');
  });

  test('a multi-mutex of the most names that is given up with its answer overdue leaves nothing', async (t) => {
    const scene = new Scene(t, backend);
    const { proxy, session } = await behindProxy(scene);
    const names = Array.from({ length: 128 }, (_, at) => `x/${at}`);
    const overdue = proxy.onCall(RPC.txn, 'holdReply', { times: 1 });
    const stop = new AbortController();
    const given = assert.rejects(new MultiMutex(session, names).lock({ signal: stop.signal }), ENOUGH);
    await overdue.hit();
    stop.abort(ENOUGH);
    assert.equal((await scene.keys('x/')).length, names.length);
    overdue.release();
    await given;
    assert.deepEqual(await scene.keys('x/'), []);
  });

  for (const end of ['given up', 'orphaned'] as const)
    test(`a lock that is ${end} with its answer overdue: the key is the next life's, which holds on`, async (t) => {
      const scene = new Scene(t, backend);
      const { proxy, session } = await behindProxy(scene);
      const overdue = proxy.onCall(RPC.txn, 'holdReply', { times: 1 });
      const stop = new AbortController();
      const given = assert.rejects(new Mutex(session, 'x/life').lock({ signal: stop.signal }));
      await overdue.hit();
      if (end === 'given up') stop.abort(ENOUGH);
      else session.orphan();
      const later = await scene.session(scene.direct, { leaseId: session.leaseId });
      const lock = await new Mutex(later, 'x/life').lock();
      const before = proxy.replies(RPC.txn);
      overdue.release();
      // The earlier life removes what it has written: nothing, by now.
      await proxy.waitFor(() => proxy.replies(RPC.txn) > before + 1);
      await given;
      assert.ok((await lock.txn({ then: [] })).succeeded && lock.held);
      await lock.unlock();
      assert.deepEqual(await scene.keys('x/'), []);
    });

  test('a lock found by the next life, and removed by the earlier one at that moment, is taken anew', async (t) => {
    const scene = new Scene(t, backend);
    const first = await scene.session(scene.direct, { ttlSeconds: 60 });
    const left = await new Mutex(first, 'x/life').lock();
    const proxy = await scene.proxy();
    const later = await scene.session(scene.client(proxy), { leaseId: first.leaseId });
    const finding = proxy.onCall(RPC.txn, 'holdReply', { times: 1 });
    const locking = new Mutex(later, 'x/life').lock();
    await finding.hit();
    await left.unlock();
    finding.release();
    const lock = await locking;
    assert.ok(lock.createRevision > left.createRevision && (await lock.txn({ then: [] })).succeeded);
    await lock.unlock();
  });

  test('an upgrade that was sent twice waits on when another upgrade of its session is refused', async (t) => {
    const scene = new Scene(t, backend);
    const proxy = await scene.proxy();
    const clock = new ManualClock();
    const client = scene.client(proxy, { clock });
    const lock = new RWLock(await scene.session(client, { ttlSeconds: 60 }), 'x/up');
    const [one, two] = [await lock.readLock(), await lock.readLock()];
    const three = await new RWLock(await scene.session(scene.direct), 'x/up').readLock();
    const lost = proxy.swallowNextReply({ method: RPC.txn, then: 'cut' });
    const upgrading = one.upgrade();
    await lost.hit();
    await until(async () => {
      await clock.advance(20);
      return (await scene.keys('x/up.~')).length === 1;
    });
    await assert.rejects(inTime(clock, two.upgrade()), (error) => hasCode(error, 'DEADLOCK'));
    for (let seconds = 0; seconds < 10; seconds++) {
      await clock.advance(1000);
      // An answer to a later request: what was sent before it has arrived.
      await inTime(clock, client.kv.get('x/up'));
      assert.deepEqual(await scene.keys('x/up.~'), ['x/up.~upgrade']);
    }
    await inTime(clock, two.unlock());
    await three.unlock();
    const write = await inTime(clock, upgrading);
    assert.ok(write.held && (await inTime(clock, write.txn({ then: [] }))).succeeded);
    await inTime(clock, write.unlock());
    assert.deepEqual(await scene.keys('x/'), []);
  });

  for (const what of ['lock', 'write lock'] as const)
    test(`a ${what} that is had with a second try, after the first was sent twice, stays held`, async (t) => {
      const scene = new Scene(t, backend);
      const proxy = await scene.proxy();
      const clock = new ManualClock();
      const client = scene.client(proxy, { clock });
      const session = await scene.session(client, { ttlSeconds: 60 });
      // Somebody's own data below the name: that nobody is in line takes a second look.
      await scene.direct.kv.put('x/data/1', '');
      const looking = proxy.onCall(RPC.txn, 'holdReply', { times: 1 });
      const trying =
        what === 'lock' ? new Mutex(session, 'x').tryLock() : new RWLock(session, 'x').tryWriteLock();
      if (what === 'write lock') {
        await looking.hit();
        // What it has seen is not so any more when its first request is there.
        await scene.direct.kv.put('x/data/2', '');
      }
      const lost = proxy.swallowNextReply({ method: RPC.txn, then: 'cut' });
      looking.release();
      const lock = await inTime(clock, trying);
      assert.ok(lock !== undefined && lost.hits === 1);
      for (let seconds = 0; seconds < 10; seconds++) {
        await clock.advance(1000);
        // An answer to a later request: what was sent before it has arrived.
        assert.ok((await inTime(clock, lock.txn({ then: [op.get('x')] }))).succeeded);
      }
      await inTime(clock, lock.unlock());
      await scene.direct.kv.delete({ prefix: 'x/data/' });
    });

  test('what a silent member was sent does nothing any more once the floor is above it, however late it goes on', async (t) => {
    const scene = new Scene(t, backend);
    const proxy = await scene.proxy();
    const clock = new ManualClock();
    const session = await scene.session(scene.client(proxy, { clock }), { ttlSeconds: 3600 });
    const tape = new Tape(proxy, RPC.txn);
    const lock = await inTime(clock, new RWLock(session, 'x/rw').writeLock());
    tape.stop();
    await inTime(clock, lock.unlock());
    // At once it is carried out, and removed when the floor rises; then it is refused.
    await tape.replay(backend);
    assert.notDeepEqual(await scene.keys('x/'), [], 'it has arrived');
    await until(async () => {
      await clock.advance(100);
      return (await scene.keys('x/')).length === 0;
    });
    await tape.replay(backend);
    assert.deepEqual(await scene.keys('x/'), []);
  });

  test('what an earlier life on the lease was sent does nothing any more, and that life hears of the later one', async (t) => {
    const scene = new Scene(t, backend);
    const proxy = await scene.proxy();
    const clock = new ManualClock();
    const first = await scene.session(scene.client(proxy, { clock }), { ttlSeconds: 3600 });
    const tape = new Tape(proxy, RPC.txn);
    const lock = await inTime(clock, new Mutex(first, 'x/life').lock());
    tape.stop();
    await inTime(clock, lock.unlock());
    const later = await scene.session(scene.direct, { leaseId: first.leaseId });
    await tape.replay(backend);
    assert.deepEqual(await scene.keys('x/'), []);
    await until(async () => {
      await clock.advance(100);
      return first.state === 'lost';
    });
    assert.equal(later.state, 'active');
  });
});

/** Lets time pass until the work is done: after a lost answer it may have to pause, and to connect anew. */
async function inTime<T>(clock: ManualClock, work: Promise<T>): Promise<T> {
  const settled = fate(work);
  await until(async () => {
    await clock.advance(20);
    return settled.state !== 'pending';
  });
  return work;
}

function unknown(error: unknown): boolean {
  return hasCode(error, 'UNKNOWN_OUTCOME');
}
