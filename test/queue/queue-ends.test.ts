// How workers and queues begin and end: while a session dies, on top of what an earlier queue left, in an outage.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { hasCode, JobQueue, op, Session } from 'conclave';

import { onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';
import { TXN, withProxy } from './scene.js';

const coded = (code: string) => (error: unknown) => hasCode(error) && error.code === code;
const never = (): Promise<never> => new Promise(() => undefined);
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

onEachBackend('JobQueue, beginning and ending', (backend) => {
  test('a queue that was emptied and left is worked on again, by the same client, from the first job on', async () => {
    await using session = await Session.open(backend.client());
    const seen: string[] = [];
    for (const round of ['first', 'second', 'third']) {
      await using queue = new JobQueue<string>(session, 'anew');
      await queue.pushMany(
        Array.from({ length: 20 }, (_, at) => ({ data: `${round} ${at}`, priority: at % 3 })),
      );
      queue.process((job) => void seen.push(job.data), { concurrency: 4 });
      await queue.push(`${round} alone`);
      await queue.idle({ timeoutMs: 10_000 });
    }
    assert.equal(new Set(seen).size, 63);
  });

  test('a worker that is joining while its session ends, at any moment, ends too', async () => {
    const client = backend.client();
    for (let turns = 0; turns < 20; turns++) {
      const session = await Session.open(client);
      const queue = new JobQueue(session, 'joining');
      const worker = queue.process(() => undefined);
      const dequeuing = assert.rejects(queue.dequeue(), coded('CLOSED'));
      for (let at = 0; at < turns; at++) await turn();
      await session.close();
      await Promise.all([queue.close(), worker.stop(), dequeuing]);
      await worker.finished;
    }
  });

  for (const concurrency of [1, 3]) {
    test(`a worker of ${concurrency} whose handler never ends says that the session is lost`, async () => {
      const client = backend.client();
      const session = await Session.open(client, { ttlSeconds: 600 });
      await using other = await Session.open(client);
      await using rest = new JobQueue(other, 'endless');
      const queue = new JobQueue(session, 'endless');
      await queue.push(1);
      const worker = queue.process(never, { concurrency, stopTimeoutMs: 50 });
      const finished = assert.rejects(worker.finished, coded('SESSION_LOST'));
      await until(() => worker.running === 1);
      await client.lease.revoke(session.leaseId);
      await finished;
      await (await rest.dequeue({ timeoutMs: 5000 })).ack();
    });
  }

  test('a job that comes back is started before those that it was ahead of', async () => {
    await using session = await Session.open(backend.client());
    await using queue = new JobQueue<number>(session, 'order', { backoff: { baseMs: 0 } });
    const starts: string[] = [];
    await queue.pushMany([1, 2, 3, 4].map((data) => ({ data })));
    queue.process((job) => {
      starts.push(`${job.data}.${job.attempt}`);
      if (job.attempt === 1) throw new Error('once more');
    });
    await queue.idle({ timeoutMs: 10_000 });
    assert.deepEqual(starts, ['1.1', '1.2', '2.1', '2.2', '3.1', '3.2', '4.1', '4.2']);
  });

  test('a guarded write that is refused ends the job here, too', async () => {
    const client = backend.client();
    await using session = await Session.open(client);
    await using queue = new JobQueue<number>(session, 'meddled');
    await queue.push(1, { id: 'a' });
    const job = await queue.dequeue({ timeoutMs: 5000 });
    const { signal } = job;
    await client.kv.delete({ prefix: 'meddled/.queue/todo/active/' });
    await assert.rejects(job.txn({ then: [op.put('meddled-data', 'x')] }), coded('NOT_HELD'));
    assert.equal(job.held, false);
    assert.ok(signal.aborted);
    await assert.rejects(job.ack(), coded('NOT_HELD'));
    await client.kv.delete('meddled/.queue/body/a');
  });

  test('a lane that somebody removed keeps nobody from pushing again, nor from leaving', async () => {
    const client = backend.client();
    await using session = await Session.open(client);
    await using queue = new JobQueue<number>(session, 'laneless');
    await queue.push(1);
    const worker = queue.process(never, { stopTimeoutMs: 0 });
    const finished = worker.finished.catch(() => undefined);
    await until(() => worker.running === 1);
    await client.kv.delete({ prefix: 'laneless/.queue/lane/' });
    await assert.rejects(queue.push(2), coded('NOT_HELD'));
    await queue.push(2);
    await worker.stop();
    await finished;
    const jobs = [await queue.dequeue({ timeoutMs: 5000 }), await queue.dequeue({ timeoutMs: 5000 })];
    assert.deepEqual(jobs.map((job) => job.data).sort(), [1, 2]);
    await Promise.all(jobs.map((job) => job.ack()));
  });

  test('what a listener throws, or rejects with, harms nobody', async () => {
    await using session = await Session.open(backend.client());
    await using queue = new JobQueue<number>(session, 'listeners', {
      backoff: { baseMs: 0 },
      maxAttempts: 2,
    });
    const thrown: (() => void)[] = [
      () => Promise.reject(new Error('later')),
      () => {
        throw Object.create(null);
      },
    ];
    await queue.pushMany([{ data: 0 }, { data: 1 }]);
    const worker = queue.process(
      () => {
        throw new Error('no');
      },
      { onError: (_, job) => thrown[job.data]?.() },
    );
    await queue.idle({ timeoutMs: 10_000 });
    await worker.stop();
    await worker.finished;
    assert.equal(await queue.removeDead(), 2);
  });
});

onEachBackend('JobQueue in an outage', (backend) => {
  test('limits of a dequeue and of a stop are kept', async () => {
    await withProxy(backend, 'outage', async ({ proxy, queue, session }) => {
      proxy.pause();
      const worker = queue.process(() => undefined);
      await assert.rejects(queue.dequeue({ timeoutMs: 50 }), coded('TIMEOUT'));
      await assert.rejects(queue.dequeue({ signal: AbortSignal.timeout(50) }), { name: 'TimeoutError' });
      await worker.stop({ timeoutMs: 0 });
      assert.ok(session.alive);
      proxy.resume();
    });
  });

  test('a commit with another way out, whose answer is lost, was done, and says so', async () => {
    await withProxy(backend, 'else', async ({ direct, proxy, queue }) => {
      for (const otherwise of [op.get('else-data'), op.put('else-data', 'not this')]) {
        await queue.push(1);
        const job = await queue.dequeue({ timeoutMs: 5000 });
        proxy.swallowNextReply({ method: TXN });
        const { succeeded } = await job.commit({
          else: [otherwise],
          if: [],
          then: [op.put('else-data', job.id)],
        });
        assert.ok(succeeded);
        assert.equal((await direct.kv.get('else-data'))?.string(), job.id);
        assert.equal(job.held, false);
      }
      await direct.kv.delete('else-data');
    });
  });

  test('an ack whose answer is lost is not called done if the job had been taken from us', async () => {
    await withProxy(backend, 'moved', async ({ direct, proxy, queue, straight }) => {
      await queue.push(1, { id: 'moved' });
      const job = await queue.dequeue({ timeoutMs: 5000 });
      const [entry] = (await direct.kv.range({ prefix: 'moved/.queue/todo/active/' })).kvs;
      assert.ok(entry);
      const waiting = entry.key.replace(/active\/[^/]+/, 'waiting');
      await direct.kv.txn({ then: [op.delete(entry.key), op.put(waiting, entry.string())] });
      proxy.swallowNextReply({ method: TXN });
      await assert.rejects(job.ack(), coded('NOT_HELD'));
      await (await straight.dequeue({ timeoutMs: 5000 })).ack();
    });
  });
});
