// Locks and elections under faults: nothing is left behind, nothing late does harm, and nobody waits for ever.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

import { Election, hasCode, Mutex, op, type Session } from 'conclave';
import { type FaultProxy } from 'conclave/testing';
import { placeOf } from '#conclave/ticket/place.js';
import { until } from '../support/until.js';
import { deletes, etcdOfSuite, LOSSES, onlyReads, RPC, Scene, timed } from './scene.js';
import { Tape } from './tape.js';

/** The ways in which a client can be cut off, and how they are set. */
const OUTAGES: Readonly<Record<string, (proxy: FaultProxy) => unknown>> = {
  'a pause': (proxy) => proxy.pause(),
  'a refused port': async (proxy) => {
    await proxy.refuse();
    proxy.cut();
  },
  'lost answers': (proxy) => proxy.drop('toClient'),
  'lost requests': (proxy) => proxy.drop('toServer'),
  silence: (proxy) => proxy.drop(),
};

describe('locks and elections under faults', { concurrency: 4 }, () => {
  const etcd = etcdOfSuite();

  for (const [outage, strike] of Object.entries(OUTAGES)) {
    test(`a waiter that is aborted during ${outage} leaves no key once it is over`, async (t) => {
      const scene = new Scene(t, etcd);
      const proxy = await scene.proxy();
      const name = `abort-${outage}`;
      const holder = await new Mutex(await scene.session(scene.direct), name).lock();
      const session = await scene.session(scene.client(proxy), { ttlSeconds: 30 });
      const stop = new AbortController();
      const waiting = new Mutex(session, name).lock({ signal: stop.signal });
      await scene.untilKeys(`${name}/`, 2);
      await strike(proxy);
      stop.abort(new Error('enough'));
      const { ms, error } = await timed(waiting);
      assert.match(String(error), /enough/);
      assert.ok(ms < 3600, `${ms} ms`);
      await proxy.heal();
      await scene.untilKeys(`${name}/`, 1);
      await holder.unlock();
      // The place in line can be taken again at once.
      const next = await new Mutex(session, name).lock({ timeoutMs: 5000 });
      assert.deepEqual(await scene.keys(`${name}/`), [next.key]);
      await next.unlock();
    });

    test(`a lock asked for during ${outage} times out, and leaves no key once it is over`, async (t) => {
      const scene = new Scene(t, etcd);
      const proxy = await scene.proxy();
      const name = `ask-${outage}`;
      const session = await scene.session(scene.client(proxy), { ttlSeconds: 30 });
      await strike(proxy);
      const { ms, error } = await timed(new Mutex(session, name).lock({ timeoutMs: 200 }));
      assert.ok(hasCode(error, 'TIMEOUT'), String(error));
      assert.ok(ms < 3800, `${ms} ms`);
      // The next task of the process asks while the first one's key may still come and go.
      const next = new Mutex(session, name).lock({ timeoutMs: 20_000 });
      await proxy.heal();
      const lock = await next;
      assert.deepEqual(await scene.keys(`${name}/`), [lock.key]);
      await lock.txn({ then: [] });
      assert.ok(lock.held);
      await lock.unlock();
      assert.deepEqual(await scene.keys(`${name}/`), []);
    });

    test(`a leader resigns during ${outage}: the next one leads when it is over`, async (t) => {
      const scene = new Scene(t, etcd);
      const proxy = await scene.proxy();
      const name = `resign-${outage}`;
      const session = await scene.session(scene.client(proxy, { timeoutMs: 500 }), { ttlSeconds: 30 });
      const leadership = await new Election(session, name).campaign('one');
      const second = new Election(await scene.session(scene.direct), name).campaign('two');
      await scene.untilKeys(`${name}/`, 2);
      await strike(proxy);
      const { ms, error } = await timed(leadership.resign());
      assert.ok(hasCode(error, 'UNKNOWN_OUTCOME', 'UNAVAILABLE', 'DEADLINE_EXCEEDED'), String(error));
      assert.ok(ms < 1500, `${ms} ms`);
      assert.equal(leadership.held, false);
      await proxy.heal();
      await leadership.resign();
      await (await second).resign();
    });
  }

  for (const message of [
    'etcdserver: too many requests',
    'etcdserver: no leader',
    'etcdserver: request timed out',
  ]) {
    const status = { code: message.endsWith('requests') ? 8 : 14, message };
    const name = message.replaceAll(/[: ]+/g, '-');

    test(`a waiter that gives up while etcd answers "${message}" leaves no key once it has recovered`, async (t) => {
      const scene = new Scene(t, etcd);
      const proxy = await scene.proxy();
      const holder = await new Mutex(await scene.session(scene.direct), name).lock();
      const client = scene.client(proxy, { timeoutMs: 300 });
      const session = await scene.session(client, { ttlSeconds: 30 });
      const stop = new AbortController();
      const waiting = timed(new Mutex(session, name).lock({ signal: stop.signal }));
      await scene.untilKeys(`${name}/`, 2);
      const fault = proxy.onCall(RPC.txn, 'fail', { status, times: Infinity });
      stop.abort(new Error('enough'));
      // The first removal is given up, and the next one under way.
      await assert.rejects(client.kv.txn({ then: [op.delete('x')] }, { idempotent: true }));
      await assert.rejects(client.kv.txn({ then: [op.delete('x')] }, { idempotent: true }));
      fault.release();
      assert.match(String((await waiting).error), /enough/);
      await scene.untilKeys(`${name}/`, 1);
      await holder.unlock();
    });

    test(`a waiter goes on waiting while etcd answers its reads with "${message}"`, async (t) => {
      const scene = new Scene(t, etcd);
      const proxy = await scene.proxy();
      const holder = await new Mutex(await scene.session(scene.direct), `${name}-read`).lock();
      const client = scene.client(proxy, { timeoutMs: 300 });
      const session = await scene.session(client, { ttlSeconds: 30 });
      const fault = proxy.onCall(RPC.txn, 'fail', { status, times: Infinity, where: onlyReads });
      const waiting = timed(new Mutex(session, `${name}-read`).lock());
      await scene.untilKeys(`${name}-read/`, 2);
      await fault.hit();
      await assert.rejects(client.kv.txn({ then: [op.get('x')] }));
      await assert.rejects(client.kv.txn({ then: [op.get('x')] }));
      fault.release();
      await holder.unlock();
      const { error, value } = await waiting;
      assert.ok(value?.held, String(error));
      await value.unlock();
    });
  }

  for (const then of LOSSES) {
    test(`a ghost that was swept stays away, and nothing of its sweeping ends a newer hold (${then})`, async (t) => {
      const scene = new Scene(t, etcd);
      const proxy = await scene.proxy();
      const session = await scene.session(scene.client(proxy, { timeoutMs: 1000 }), { ttlSeconds: 30 });
      const name = `ghost-${then}`;
      const tape = new Tape(proxy, RPC.txn);
      // Every answer to the attempt is lost, until it is given up.
      const fault = proxy.onCall(RPC.txn, 'dropReply', { then, times: 100, where: (m) => !deletes(m) });
      const first = await timed(new Mutex(session, name).lock({ timeoutMs: 1500 }));
      assert.ok(hasCode(first.error, 'TIMEOUT'), String(first.error));
      fault.release();
      await scene.untilKeys(`${name}/`, 0, 12_000);
      const lock = await new Mutex(session, name).lock();
      // All that was sent on behalf of the ghost arrives late, its removal too.
      await tape.replay(etcd);
      assert.deepEqual(await scene.keys(`${name}/`), [lock.key]);
      await lock.txn({ then: [] });
      assert.ok(lock.held);
      await lock.unlock();
    });
  }

  test('a ghost that arrives late, after its attempt was found to have left nothing, is swept', async (t) => {
    const scene = new Scene(t, etcd);
    const proxy = await scene.proxy();
    const client = scene.client(proxy);
    const session = await scene.session(client, { ttlSeconds: 30 });
    const tape = new Tape(proxy, RPC.txn);
    const fault = proxy.onCall(RPC.txn, 'dropRequest', {
      then: 'silence',
      times: 100,
      where: (m) => !deletes(m),
    });
    await assert.rejects(new Mutex(session, 'late').lock(), { code: 'UNKNOWN_OUTCOME' });
    fault.release();
    assert.deepEqual(await scene.keys('late/'), []);
    tape.stop();
    await tape.replay(etcd);
    await scene.untilKeys('late/', 0);
  });

  test('an unlock whose answer is lost hands on to a task of the same process without two holders', async (t) => {
    const scene = new Scene(t, etcd);
    const proxy = await scene.proxy();
    const session: Session = await scene.session(scene.client(proxy, { timeoutMs: 500 }), { ttlSeconds: 30 });
    const rival = await scene.session(scene.direct);
    const mutex = new Mutex(session, 'hand');
    let inside = 0;
    const work = async (who: Session): Promise<void> => {
      const lock = await new Mutex(who, 'hand').lock({ timeoutMs: 20_000 });
      inside += 1;
      assert.equal(inside, 1, 'two holders');
      await lock.txn({ then: [] }).catch(() => undefined);
      assert.equal(inside, 1, 'two holders');
      inside -= 1;
      await lock.unlock().catch(() => lock.unlock());
    };
    const first = await mutex.lock();
    const fault = proxy.onCall(RPC.txn, 'dropRequest', { then: 'silence', times: 2, where: deletes });
    const others = [work(session), work(rival), work(session)];
    await scene.untilKeys('hand/', 2);
    await assert.rejects(first.unlock(), { code: 'UNKNOWN_OUTCOME' });
    const again = first.unlock();
    await fault.hit(2);
    await again.catch(() => first.unlock());
    await Promise.all(others);
    await scene.untilKeys('hand/', 0);
  });

  test('a campaign survives cuts at every message of its way to leadership', async (t) => {
    const scene = new Scene(t, etcd);
    const proxy = await scene.proxy();
    const client = scene.client(proxy);
    const session = await scene.session(client, { ttlSeconds: 30 });
    for (const path of [RPC.txn, RPC.watch, RPC.range]) {
      for (const action of ['dropRequest', 'dropReply'] as const) {
        for (const then of ['cut', 'reset'] as const) {
          const name = `way-${path.split('/').at(-1) ?? ''}-${action}-${then}`;
          const leader = await new Election(await scene.session(scene.direct), name).campaign('one');
          proxy.onCall(path, action, { then });
          const campaign = new Election(session, name).campaign('two', { timeoutMs: 10_000 });
          await scene.untilKeys(`${name}/`, 2);
          await leader.resign();
          const won = await campaign;
          assert.equal((await new Election(session, name).leader())?.key, won.key);
          await won.resign();
          await proxy.heal();
        }
      }
    }
  });

  test('a leadership that was orphaned can be resumed, although its handle was disposed of', async (t) => {
    const scene = new Scene(t, etcd);
    const session = await scene.session(scene.direct);
    const rival = scene
      .session(scene.direct)
      .then((other) => new Election(other, 'orphan').campaign('rival'));
    await (await rival).resign();
    const firstLife = async (): Promise<string> => {
      await using leadership = await new Election(session, 'orphan').campaign('life 1');
      session.orphan();
      return leadership.key;
    };
    const key = await firstLife();
    assert.deepEqual(await scene.keys('orphan/'), [key]);
    const next = await scene.session(scene.direct, { leaseId: session.leaseId });
    await using resumed = await new Election(next, 'orphan').campaign('life 2');
    assert.equal(resumed.key, key);
  });

  test('names that are not used any more take no memory; a name whose lock is held stays taken', async (t) => {
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    const scene = new Scene(t, etcd);
    const session = await scene.session(scene.direct, { ttlSeconds: 30 });
    const places: WeakRef<object>[] = [];
    for (let at = 0; at < 50; at++) {
      await (await new Mutex(session, `many-${at}`).lock()).unlock();
      places.push(new WeakRef(placeOf(session, `many-${at}`)));
    }
    // Held, but nobody keeps the handle.
    await new Election(session, 'held').campaign('x');
    await new Mutex(session, 'held-lock').lock();
    await until(
      () => {
        collect();
        return places.every((place) => place.deref() === undefined);
      },
      { what: 'the places are collected' },
    );
    await assert.rejects(new Election(session, 'held').campaign('y', { timeoutMs: 100 }), {
      code: 'TIMEOUT',
    });
    assert.equal(await new Mutex(session, 'held-lock').tryLock(), undefined);
    await scene.direct.kv.delete({ prefix: 'held' });
  });
});
