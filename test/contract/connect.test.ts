import assert from 'node:assert/strict';
import { AsyncLocalStorage } from 'node:async_hooks';
import { describe, test } from 'node:test';

import {
  type Client,
  type Conclave,
  connect,
  type ConnectOptions,
  hasCode,
  JobQueue,
  type Leadership,
  Mutex,
  op,
  Session,
} from 'conclave';
import { FaultProxy } from 'conclave/testing';

import { Deferred } from '#conclave/util/deferred.js';

import { onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';
import { withCode } from './support/rejections.js';

/** Whose key went with the lease may hear of that first. */
function isLoss(error: unknown): boolean {
  return hasCode(error, 'SESSION_LOST', 'TICKET_LOST');
}

onEachBackend('connect', (backend) => {
  const open = (options: ConnectOptions = {}): Promise<Conclave> =>
    connect({ endpoints: backend.endpoints, label: 'connect', ttlSeconds: 2, ...options });

  /** Ends the session's lease from outside; resolves when the session knows. */
  const lose = async (client: Client, { session }: Conclave): Promise<void> => {
    await client.lease.revoke(session.leaseId);
    await until(() => session.state === 'lost');
  };

  test('gives one object with all primitives, which leaves nothing when it is closed', async () => {
    const conclave = await open();
    assert.deepEqual(
      { ...conclave.health(), leaseRemainingMs: 0, roundTripMs: 0 },
      {
        endpoint: conclave.client.endpoint,
        lastError: undefined,
        leaseId: conclave.session.leaseId,
        leaseRemainingMs: 0,
        ok: true,
        roundTripMs: 0,
        sessionsLost: 0,
        state: 'active',
      },
    );
    assert.ok(conclave.health().leaseRemainingMs > 0);
    assert.ok(backend.endpoints.some((url) => url === conclave.health().endpoint));
    assert.equal(await conclave.mutex('one/mutex').run(({ held }) => held), true);
    assert.equal(await new Mutex(conclave, 'one/mutex').run(({ held }) => held), true);
    assert.equal(await conclave.multiMutex(['one/a', 'one/b']).run(({ held }) => held), true);
    assert.equal(await conclave.rwLock('one/rw').write(({ held }) => held), true);
    assert.equal(await conclave.semaphore('one/semaphore', { limit: 2 }).run(({ held }) => held), true);
    assert.equal(await conclave.locks('one/locks').request('x', ({ held }) => held), true);
    assert.equal(await conclave.election('one/election').run('me', ({ held }) => held), true);
    await (await conclave.barrier('one/barrier').hold()).release();
    await conclave.barrier('one/barrier').wait();
    const party = conclave.doubleBarrier('one/double', { count: 1 });
    await party.enter();
    await party.leave();
    const latch = conclave.latch('one/latch', { count: 1 });
    await latch.countDown();
    await latch.wait();
    await latch.delete();
    const queue = conclave.queue<number>('one/queue');
    await queue.push(7);
    const job = await queue.dequeue({ timeoutMs: 5000 });
    assert.equal(job.data, 7);
    await job.ack();
    const kept = await conclave.mutex('one/kept').lock();
    const { session } = conclave;
    const closing = conclave.close();
    assert.equal(conclave.close(), closing);
    await closing;
    assert.deepEqual([session.state, kept.held, conclave.health().ok], ['closed', false, false]);
    withCode('CLOSED')(kept.signal.reason);
    await assert.rejects(conclave.mutex('one/mutex').lock(), withCode('CLOSED'));
    await assert.rejects(queue.push(8), withCode('CLOSED'));
    assert.throws(() => queue.process(() => undefined), withCode('CLOSED'));
    await assert.rejects(conclave.client.kv.get('x'), withCode('CLOSED'));
  });

  test('what is held on a session that is lost is lost; what is asked for then is had on the next one', async () => {
    const client = backend.client();
    await using conclave = await open();
    const first = conclave.session;
    const mutex = conclave.mutex('next/mutex');
    const lock = await mutex.lock();
    const permit = await conclave.semaphore('next/semaphore', { limit: 1 }).acquire();
    const leadership = await conclave.election('next/election').campaign('one');
    await lose(client, conclave);
    for (const hold of [lock, permit, leadership]) {
      assert.equal(hold.held, false);
      assert.ok(isLoss(hold.signal.reason));
    }
    await assert.rejects(lock.txn({ then: [op.put('next/x', '')] }), withCode('NOT_HELD'));
    const again = await mutex.lock();
    const second = conclave.session;
    assert.notEqual(second, first);
    assert.equal(second.label, 'connect');
    assert.ok(again.fencingToken > lock.fencingToken);
    assert.equal(conclave.health().sessionsLost, 1);
    await again.unlock();
    const party = conclave.doubleBarrier('next/double', { count: 1 });
    await lose(client, conclave);
    await party.enter();
    await party.leave();
    await lose(client, conclave);
    await (await conclave.barrier('next/barrier').hold()).release();
    await lose(client, conclave);
    assert.equal(await conclave.rwLock('next/rw').read(({ held }) => held), true);
    await lose(client, conclave);
    assert.equal(await conclave.multiMutex(['next/a', 'next/b']).run(({ held }) => held), true);
    await lose(client, conclave);
    await using led = await conclave.election('next/election').campaign('two');
    assert.ok(led.fencingToken > leadership.fencingToken);
    assert.equal(conclave.health().sessionsLost, 6);
  });

  test('whoever stands in line when the session is lost stands in line again on the next one', async () => {
    const client = backend.client();
    await using other = await Session.open(client, { ttlSeconds: 5 });
    const held = await new Mutex(other, 'line').lock();
    await using conclave = await open();
    const first = conclave.session;
    const waiting = conclave.mutex('line').lock();
    const waits = async (): Promise<boolean> => {
      const { waiters } = await new Mutex(other, 'line').inspect();
      return waiters.some(({ leaseId }) => leaseId === conclave.session.leaseId);
    };
    await until(waits);
    await lose(client, conclave);
    await until(async () => conclave.session !== first && (await waits()));
    await held.unlock();
    await using lock = await waiting;
    assert.ok(lock.held && lock.fencingToken > held.fencingToken);
  });

  test('run rejects with the loss when its work was under way, and works at the next call', async () => {
    const client = backend.client();
    await using conclave = await open();
    const mutex = conclave.mutex('run');
    const lost = mutex.run(async ({ signal }) => {
      await lose(client, conclave);
      assert.ok(signal.aborted);
    });
    await assert.rejects(lost, isLoss);
    assert.equal(await mutex.run(() => 'fine'), 'fine');
  });

  test('a wait for the next session keeps its own limits, and what the lost one held stands in nobody’s way', async () => {
    const client = backend.client();
    const [endpoint = ''] = backend.endpoints;
    await using proxy = await FaultProxy.start(endpoint);
    // Lost by its deadline long before etcd ends its lease.
    await using conclave = await open({ endpoints: proxy.endpoint, marginMs: 28_500, ttlSeconds: 30 });
    const first = conclave.session;
    const mutex = conclave.mutex('limits');
    const lock = await mutex.lock();
    proxy.pause();
    await until(() => first.state === 'lost');
    withCode('SESSION_LOST')(lock.signal.reason);
    assert.deepEqual([conclave.health().ok, conclave.health().state], [false, 'lost']);
    const caller = new AbortController();
    const aborted = assert.rejects(mutex.lock({ signal: caller.signal }), /enough/);
    await assert.rejects(mutex.lock({ timeoutMs: 50 }), withCode('TIMEOUT'));
    await assert.rejects(conclave.election('limits/e').campaign('x', { timeoutMs: 50 }), withCode('TIMEOUT'));
    caller.abort(new Error('enough'));
    await aborted;
    proxy.resume();
    await using again = await mutex.lock();
    assert.ok(again.fencingToken > lock.fencingToken);
    assert.deepEqual(
      (await client.lease.list()).filter((id) => id === first.leaseId || id === conclave.session.leaseId),
      [conclave.session.leaseId],
    );
  });

  test('a session in jeopardy is kept', async () => {
    const [endpoint = ''] = backend.endpoints;
    await using proxy = await FaultProxy.start(endpoint);
    await using conclave = await open({ endpoints: proxy.endpoint, ttlSeconds: 6 });
    const first = conclave.session;
    const lock = await conclave.mutex('jeopardy').lock();
    proxy.pause();
    await until(() => first.state === 'jeopardy');
    assert.ok(conclave.health().ok);
    proxy.resume();
    await until(() => first.state === 'active');
    assert.ok(lock.held && conclave.session === first);
    await lock.unlock();
  });

  test('a worker goes on with the next session, and so do its jobs', async () => {
    const client = backend.client();
    await using conclave = await open();
    await using queue = conclave.queue<number>('worker');
    const attempts: string[] = [];
    const started = new Deferred<void>();
    const reasons: unknown[] = [];
    const worker = queue.process(
      async (job) => {
        attempts.push(`${String(job.data)}/${String(job.attempt)}`);
        if (job.data !== 1 || job.attempt > 1) return;
        started.resolve();
        await until(() => job.signal.aborted);
        reasons.push(job.signal.reason);
      },
      { concurrency: 2 },
    );
    await queue.push(1);
    await started.promise;
    await lose(client, conclave);
    await Promise.all([queue.push(2), queue.push(3)]);
    await queue.idle({ timeoutMs: 20_000 });
    assert.deepEqual(attempts.sort(), ['1/1', '1/2', '2/1', '3/1']);
    assert.ok(isLoss(reasons[0]));
    for (let at = 0; at < 3; at++) {
      await lose(client, conclave);
      await queue.push(10 + at);
      await queue.idle({ timeoutMs: 20_000 });
    }
    assert.equal(attempts.length, 7);
    await worker.stop();
    await worker.finished;
  });

  test('election.run leads again on the next session, and resigns when all is closed', async () => {
    const client = backend.client();
    const conclave = await open();
    const terms: Leadership[] = [];
    let isEnded = false;
    const running = conclave.election('leads').run('me', async (leadership, stop) => {
      terms.push(leadership);
      await until(() => stop.aborted);
      isEnded = true;
    });
    const ended = assert.rejects(running, withCode('CLOSED'));
    await until(() => terms.length === 1);
    await lose(client, conclave);
    await until(() => terms.length === 2);
    const [one, two] = terms;
    assert.ok(one !== undefined && two !== undefined && two.fencingToken > one.fencingToken);
    isEnded = false;
    await using other = await Session.open(client, { ttlSeconds: 5 });
    const next = new Mutex(other, 'leads').lock().then((lock) => ({ after: isEnded, lock }));
    await conclave.close();
    await ended;
    const { after, lock } = await next;
    assert.ok(after, 'nobody else leads before the one before has stopped');
    await lock.unlock();
  });

  describe('closing', () => {
    test('lets handlers end, who may still lock and push, and takes nothing more', async () => {
      const client = backend.client();
      const conclave = await open();
      const queue = conclave.queue<number>('ends');
      await queue.pushMany([{ data: 1 }, { data: 2 }]);
      const isClosing = new Deferred<void>();
      let done = 0;
      const worker = queue.process(async (job) => {
        await isClosing.promise;
        await conclave.mutex('ends/lock').run(() => (done += job.data));
        await queue.push(10);
      });
      await until(() => worker.running === 1);
      const closing = conclave.close();
      isClosing.resolve();
      await closing;
      await worker.finished;
      assert.equal(done, 1);
      await using rest = await Session.open(client, { ttlSeconds: 5 });
      await using left = new JobQueue<number>(rest, 'ends');
      const jobs = [await left.dequeue({ timeoutMs: 5000 }), await left.dequeue({ timeoutMs: 5000 })];
      assert.deepEqual(
        jobs.map(({ attempt, data }) => [data, attempt]),
        [
          [2, 1],
          [10, 1],
        ],
      );
      for (const job of jobs) await job.ack();
    });

    test('hands back what handlers do not end in time, without using up an attempt', async () => {
      const client = backend.client();
      const conclave = await open();
      const queue = conclave.queue<number>('back');
      await queue.push(1);
      const isOver = new Deferred<void>();
      const worker = queue.process(() => isOver.promise);
      const stubborn = conclave.election('back/e').run('me', () => isOver.promise);
      const ended = assert.rejects(stubborn, withCode('CLOSED'));
      await until(() => worker.running === 1);
      await conclave.close({ graceMs: 400 });
      await worker.finished;
      await using rest = await Session.open(client, { ttlSeconds: 5 });
      await using left = new JobQueue<number>(rest, 'back');
      const job = await left.dequeue({ timeoutMs: 5000 });
      assert.equal(job.attempt, 1);
      await job.ack();
      isOver.resolve();
      await ended;
    });

    test('from inside a handler, or a leader, does not wait for itself', async () => {
      const client = backend.client();
      const [one, two] = [await open(), await open()];
      const queue = one.queue<number>('inside');
      await queue.push(1);
      const worker = queue.process(() => one.close());
      await worker.finished;
      await one.close();
      await using session = await Session.open(client, { ttlSeconds: 5 });
      await using rest = new JobQueue<number>(session, 'inside');
      assert.deepEqual(await rest.counts(), { active: 0, dead: 0, delayed: 0, waiting: 0 });
      const led: boolean[] = [];
      const running = two.election('inside/e').run('me', async ({ held, signal }) => {
        await two.close();
        led.push(held, signal.aborted);
      });
      await assert.rejects(running, withCode('CLOSED'));
      await two.close();
      assert.deepEqual(led, [true, true]);
    });

    test('can tell where leaders run by one storage, however often they lead: each more would slow every promise', async (t) => {
      const storages = new Set<unknown>();
      const original = Object.getOwnPropertyDescriptor(AsyncLocalStorage.prototype, 'run');
      const run = original?.value as (...given: unknown[]) => unknown;
      t.mock.method(
        AsyncLocalStorage.prototype,
        'run',
        function (this: unknown, ...given: unknown[]): unknown {
          storages.add(this);
          return Reflect.apply(run, this, given);
        },
      );
      await using conclave = await open();
      const lead = (name: string): Promise<void> => conclave.election(name).run('me', () => undefined);
      await lead('again/e');
      const before = storages.size;
      assert.ok(before > 0);
      for (let at = 0; at < 3; at++) await lead('again/e');
      await Promise.all(['again/a', 'again/b'].map(lead));
      assert.equal(storages.size, before);
    });

    test('ends though nobody answers', async () => {
      const [endpoint = ''] = backend.endpoints;
      await using proxy = await FaultProxy.start(endpoint);
      const conclave = await open({ endpoints: proxy.endpoint });
      const queue = conclave.queue('silence');
      queue.process(() => undefined);
      const lock = await conclave.mutex('silence/lock').lock();
      proxy.drop();
      const waiting = assert.rejects(conclave.mutex('silence/lock').lock(), withCode('CLOSED'));
      await conclave.close({ graceMs: 300 });
      await waiting;
      assert.ok(lock.signal.aborted);
      // Its lease ends by itself.
      const client = backend.client();
      await until(async () => (await client.lease.timeToLive(conclave.session.leaseId)).ttlSeconds < 0);
    });
  });

  test('refuses what is no option, and says what primitives take', async () => {
    await assert.rejects(connect({ ttl: 5 } as ConnectOptions), /connect: unknown option "ttl"/);
    await assert.rejects(connect({ ttlSeconds: 0 }), RangeError);
    const nothing: unknown = {};
    assert.throws(
      () => new Mutex(nothing as Conclave, 'x'),
      /a mutex's session must be a Session or a Conclave, not/,
    );
    await using proxy = await FaultProxy.start(backend.endpoints[0] ?? '');
    await proxy.refuse();
    await assert.rejects(connect({ endpoints: proxy.endpoint, timeoutMs: 300 }), withCode('UNAVAILABLE'));
    const gaveUp = connect({ endpoints: proxy.endpoint, signal: AbortSignal.abort(new Error('enough')) });
    await assert.rejects(gaveUp, /enough/);
  });

  test('is shown without its innards', async () => {
    await using conclave = await open();
    const shown = JSON.parse(JSON.stringify(conclave)) as { session: { state: string } };
    assert.equal(shown.session.state, 'active');
  });
});
