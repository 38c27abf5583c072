// Workers that come, go and go on: while others leave, while etcd refuses them, from inside a handler.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Client, compare, hasCode, JobQueue, type JobWorker, op, Session } from 'conclave';

import { Deferred } from '#conclave/util/deferred.js';

import { onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';
import { TXN, withProxy } from './scene.js';

const coded = (code: string) => (error: unknown) => hasCode(error) && error.code === code;
const never = (): Promise<never> => new Promise(() => undefined);
const nobody = { active: 0, dead: 0, delayed: 0, waiting: 0 };
const NO_SPACE = { code: 8, message: 'etcdserver: mvcc: database space exceeded' };
const DENIED = { code: 7, message: 'etcdserver: permission denied' };

/** Resolves with a job's data; rejects when the worker ends before it had one. */
async function firstOf(worker: JobWorker<number>, done: Deferred<number>): Promise<number> {
  return Promise.race([done.promise, worker.finished.then(() => assert.fail('the worker has ended'))]);
}

/** Resolves when what was asked for in this turn of the event loop has been looked at. */
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

onEachBackend('Workers that come while others leave', (backend) => {
  test('a worker that is started while one that was still joining leaves does the jobs', async () => {
    await withProxy(backend, 'replaced', async ({ proxy, queue, straight }) => {
      for (let round = 0; round < 5; round++) {
        await straight.push(round);
        proxy.pause();
        const old = queue.process(never);
        await turn();
        const leaving = old.stop({ timeoutMs: 0 });
        for (let at = 0; at < 2 * round; at++) await turn();
        const done = new Deferred<number>();
        const worker = queue.process((job) => done.resolve(job.data));
        await turn();
        proxy.resume();
        assert.equal(await firstOf(worker, done), round);
        await leaving;
        await worker.stop();
        await worker.finished;
        await old.finished;
      }
    });
  });

  test('a worker that is started at any moment while one that had joined leaves does the jobs', async () => {
    await using session = await Session.open(backend.client());
    await using queue = new JobQueue<number>(session, 'in-turn');
    let old = queue.process(() => undefined);
    for (let turns = 0; turns < 80; turns++) {
      const stopping = old.stop();
      for (let at = 0; at < turns; at++) await Promise.resolve();
      const done = new Deferred<number>();
      const worker = queue.process((job) => done.resolve(job.data));
      await queue.push(turns);
      assert.equal(await firstOf(worker, done), turns);
      await stopping;
      await old.finished;
      old = worker;
    }
    await old.stop();
  });

  test('a queue that only dequeues is no worker any more once its job is handed in', async () => {
    const client = backend.client();
    await using session = await Session.open(client);
    await using queue = new JobQueue<number>(session, 'left-alone');
    await queue.push(1);
    const job = await queue.dequeue({ timeoutMs: 5000 });
    const count = async (): Promise<number> =>
      (await client.kv.range({ prefix: 'left-alone/.queue/control/worker/' })).kvs.length;
    assert.equal(await count(), 1);
    await job.ack();
    await until(async () => (await count()) === 0);
    await queue.push(2);
    await (await queue.dequeue({ timeoutMs: 5000 })).ack();
  });
});

onEachBackend('Workers that stop', (backend) => {
  test('a job whose commit is on its way when its worker stops, and is declined, goes back', async () => {
    await withProxy(backend, 'declined-late', async ({ proxy, queue, straight, session }) => {
      const begun = new Deferred<{ reply: ReturnType<typeof proxy.onCall>; signal: AbortSignal }>();
      const worker = queue.process(async (job) => {
        begun.resolve({ reply: proxy.onCall(TXN, 'holdReply'), signal: job.signal });
        await job.commit({
          if: [compare.exists('declined-late/gate')],
          then: [op.put('declined-late/x', '')],
        });
        throw new Error('not yet');
      });
      await straight.push(1);
      const { reply, signal } = await begun.promise;
      await reply.hit();
      const stopping = worker.stop({ timeoutMs: 0 });
      await until(() => signal.aborted);
      reply.release();
      await stopping;
      const again = await straight.dequeue({ timeoutMs: 5000 });
      assert.equal(again.attempt, 1);
      await again.ack();
      assert.ok(session.alive);
    });
  });

  test('a job that etcd refuses to take back while its worker stops goes back once it does, and the worker leaves', async () => {
    await withProxy(backend, 'refused-late', async ({ direct, proxy, queue, straight }) => {
      const started = new Deferred<void>();
      const worker = queue.process(() => {
        started.resolve();
        return never();
      });
      await straight.push(1);
      await started.promise;
      const full = proxy.onCall(TXN, 'fail', { status: NO_SPACE, times: Infinity });
      const stopping = worker.stop({ timeoutMs: 0 });
      await full.hit(2);
      full.release();
      await stopping;
      await worker.finished;
      const again = await straight.dequeue({ timeoutMs: 5000 });
      assert.equal(again.attempt, 1);
      await again.ack();
      // What is left is the worker that has just dequeued.
      await until(async () => {
        const { kvs } = await direct.kv.range({ prefix: 'refused-late/.queue/control/worker/' });
        return kvs.length === 1;
      });
    });
  });

  test('stop() and close() in a handler resolve at once, and its job is done', async () => {
    for (const name of ['stop-inside', 'close-inside'] as const) {
      await using session = await Session.open(backend.client());
      await using rest = new JobQueue<number>(session, name);
      const queue = new JobQueue<number>(session, name);
      let wentOn = 0;
      const worker = queue.process(
        async () => {
          await (name === 'stop-inside' ? worker.stop() : queue.close());
          wentOn += 1;
        },
        // It would wait for itself as long as this.
        { stopTimeoutMs: 3_600_000 },
      );
      await queue.pushMany([{ data: 1 }, { data: 2 }]);
      await worker.finished;
      assert.equal(wentOn, 1);
      assert.deepEqual(await rest.counts(), { ...nobody, waiting: 1 });
      await queue.close();
      await (await rest.dequeue({ timeoutMs: 5000 })).ack();
    }
  });

  test('handlers may push while their queue is being closed, and nobody once it is', async () => {
    await using session = await Session.open(backend.client());
    await using rest = new JobQueue<string>(session, 'fan-out');
    const queue = new JobQueue<string>(session, 'fan-out', { maxAttempts: 1 });
    const started = new Deferred<void>();
    const goOn = new Deferred<void>();
    queue.process(async () => {
      started.resolve();
      await goOn.promise;
      await queue.push('follow-up');
    });
    await queue.push('first');
    await started.promise;
    const closing = queue.close();
    await assert.rejects(queue.dequeue(), coded('CLOSED'));
    assert.throws(() => queue.process(never), coded('CLOSED'));
    goOn.resolve();
    await closing;
    assert.deepEqual(await rest.counts(), { ...nobody, waiting: 1 });
    await assert.rejects(queue.push('late'), coded('CLOSED'));
    await (await rest.dequeue({ timeoutMs: 5000 })).ack();
  });
});

onEachBackend('Workers that etcd refuses', (backend) => {
  test('a refusal that passes takes no slot away, and a dequeue waits it out', async () => {
    await withProxy(backend, 'passing', async ({ proxy, queue, straight }) => {
      const long = new Deferred<void>();
      const all = new Deferred<void>();
      let running = 0;
      const worker = queue.process(
        async (job) => {
          if (job.data === -1) {
            await long.promise;
            return;
          }
          if (++running === 3) all.resolve();
          await all.promise;
        },
        { concurrency: 4 },
      );
      await straight.push(-1);
      await until(() => worker.running === 1);
      // Every claim is refused for a while; only the slots that wait for a job ask.
      const full = proxy.onCall(TXN, 'fail', { status: NO_SPACE, times: 3 });
      await straight.push(0);
      await full.hit(3);
      await straight.pushMany([{ data: 1 }, { data: 2 }]);
      await all.promise;
      long.resolve();
      await straight.idle({ timeoutMs: 10_000 });
      await worker.stop();
      await worker.finished;

      const again = proxy.onCall(TXN, 'fail', { status: NO_SPACE, times: 2 });
      await straight.push(9);
      const job = await queue.dequeue({ timeoutMs: 10_000 });
      assert.ok(again.hits > 0);
      assert.equal(job.data, 9);
      await job.ack();
    });
  });

  test('a refusal for good ends the worker whole, with its reason, after its other handlers', async () => {
    await withProxy(backend, 'for-good', async ({ proxy, queue, straight }) => {
      const long = new Deferred<void>();
      const worker = queue.process(async (job) => (job.data === -1 ? long.promise : undefined), {
        concurrency: 4,
      });
      const finished = assert.rejects(worker.finished, coded('PERMISSION_DENIED'));
      await straight.push(-1);
      await until(() => worker.running === 1);
      const denied = proxy.onCall(TXN, 'fail', { status: DENIED, times: 1 });
      await straight.push(0);
      await denied.hit();
      await straight.push(1);
      await (await straight.dequeue({ timeoutMs: 5000 })).ack();
      await (await straight.dequeue({ timeoutMs: 5000 })).ack();
      assert.equal(worker.running, 1);
      long.resolve();
      await finished;
      await straight.idle({ timeoutMs: 5000 });
    });
  });

  test('a job that etcd refuses to settle does not keep its slot from the next one', async () => {
    await withProxy(backend, 'next-one', async ({ proxy, queue, straight }) => {
      const seen: number[] = [];
      const errors: unknown[] = [];
      const first = new Deferred<void>();
      const worker = queue.process(
        async (job) => {
          seen.push(job.data);
          if (job.data === 0) await first.promise;
        },
        { onError: (error) => errors.push(error) },
      );
      await straight.push(0);
      await until(() => worker.running === 1);
      await straight.push(1);
      const full = proxy.onCall(TXN, 'fail', { status: NO_SPACE, times: 1 });
      first.resolve();
      await full.hit();
      await straight.idle({ timeoutMs: 10_000 });
      assert.deepEqual(seen, [0, 1]);
      assert.equal(errors.length, 1);
      assert.ok(coded('NO_SPACE')(errors[0]));
    });
  });

  test('a worker that is refused while it joins goes on once it is not', async () => {
    await withProxy(backend, 'joins-late', async ({ proxy, queue, straight }) => {
      await straight.push(1);
      const full = proxy.onCall(TXN, 'fail', { status: NO_SPACE, times: 3 });
      const seen: number[] = [];
      const worker = queue.process((job) => void seen.push(job.data));
      await full.hit(3);
      await straight.idle({ timeoutMs: 10_000 });
      assert.deepEqual(seen, [1]);
      await worker.stop();
      await worker.finished;
    });
  });

  test('a worker that cannot go on, and whose end nobody awaits, is a warning of the process', async () => {
    const client = backend.client();
    const session = await Session.open(client, { ttlSeconds: 600 });
    const queue = new JobQueue(session, 'unheard-of');
    const warned = new Deferred<string>();
    const listen = (warning: Error): void => {
      if (warning.message.includes('cannot go on')) warned.resolve(warning.message);
    };
    process.on('warning', listen);
    queue.process(() => undefined);
    await until(
      async () => (await client.kv.range({ prefix: 'unheard-of/.queue/control/worker/' })).kvs.length > 0,
    );
    await client.lease.revoke(session.leaseId);
    assert.match(await warned.promise, /SESSION_LOST/);
    process.off('warning', listen);
  });
});

onEachBackend('Commits that are declined', (backend) => {
  test('a handler that returns after a declined commit has failed, and one that is let through later has not', async () => {
    const client = backend.client();
    await using session = await Session.open(client);
    await using queue = new JobQueue<string>(session, 'declined', { backoff: { baseMs: 0 }, maxAttempts: 2 });
    const errors: string[] = [];
    await queue.push('plain');
    const spec = { if: [compare.exists('declined/gate')], then: [op.put('declined/effect', '1')] };
    const worker = queue.process(
      async (job) => {
        assert.equal((await job.commit(spec)).succeeded, false);
      },
      { onError: (error) => errors.push(String(error)) },
    );
    await until(async () => (await queue.counts()).dead === 1);
    const { value: dead } = await queue.jobs('dead').next();
    assert.ok(dead);
    assert.equal(dead.errors.length, 2);
    assert.match(dead.errors[0]?.message ?? '', /declined/);
    assert.deepEqual(errors, []);
    assert.equal(await client.kv.get('declined/effect'), undefined);
    await worker.stop();

    await queue.retryDead();
    const job = await queue.dequeue({ timeoutMs: 5000 });
    assert.equal((await job.commit(spec)).succeeded, false);
    // What is said outright counts.
    await job.ack();
    assert.deepEqual(await queue.counts(), nobody);
  });
});

onEachBackend('Workers in a busy process', (backend) => {
  test('jobs are claimed however long other work holds the event loop each time', async () => {
    await using client = new Client({ endpoints: backend.endpoints });
    await using session = await Session.open(client, { ttlSeconds: 30 });
    await using queue = new JobQueue<number>(session, 'busy');
    await queue.pushMany(Array.from({ length: 20 }, (_, data) => ({ data })));
    let busy = true;
    const spin = (): void => {
      for (const until = performance.now() + 40; performance.now() < until;);
      if (busy) setImmediate(spin);
    };
    let done = 0;
    const all = new Deferred<void>();
    queue.process(
      () => {
        if (++done === 20) all.resolve();
      },
      { concurrency: 4 },
    );
    spin();
    try {
      await all.promise;
    } finally {
      busy = false;
    }
    await queue.idle({ timeoutMs: 10_000 });
  });
});
