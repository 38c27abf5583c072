// Jobs that are kept for a while when they are done, so that their ids are not used again.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { JobQueue, type JobInfo, op, Session } from 'conclave';

import { onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';
import { TXN, withProxy } from './scene.js';

async function listed<T>(queue: JobQueue<T>): Promise<JobInfo<T>[]> {
  const jobs: JobInfo<T>[] = [];
  for await (const job of queue.jobs('done')) jobs.push(job);
  return jobs;
}

onEachBackend('jobs that are kept when they are done', (backend) => {
  /** A queue; nothing is left of it at the end. */
  async function withQueue(
    name: string,
    body: (queue: JobQueue<number>, session: Session) => Promise<void>,
  ): Promise<void> {
    const client = backend.client();
    await using session = await Session.open(client, { ttlSeconds: 20 });
    try {
      await using queue = new JobQueue<number>(session, name, { backoff: { baseMs: 0 } });
      await body(queue, session);
    } finally {
      await client.kv.delete({ prefix: `${name}/` });
    }
  }

  test('one tick, pushed by five instances before and after it was done, runs once', async () => {
    await withQueue('ticks', async (queue) => {
      let runs = 0;
      const worker = queue.process(async (job) => {
        runs += job.data;
        await Promise.resolve();
      });
      const push = (): Promise<{ readonly deduplicated: boolean }> =>
        queue.push(1, { id: 'report@03:00', keepDoneMs: 60_000 });
      const first = await Promise.all(Array.from({ length: 5 }, push));
      assert.equal(first.filter(({ deduplicated }) => !deduplicated).length, 1);
      await queue.idle();
      assert.deepEqual(await queue.counts(), { active: 0, dead: 0, delayed: 0, waiting: 0 });
      assert.deepEqual(await push(), { deduplicated: true, id: 'report@03:00' });
      const all = await queue.pushMany([
        { data: 1, id: 'report@03:00' },
        { data: 10, id: 'report@04:00' },
      ]);
      assert.deepEqual(
        all.map(({ deduplicated }) => deduplicated),
        [true, false],
      );
      await queue.idle();
      assert.equal(runs, 11);
      const [job, ...others] = await listed(queue);
      assert.equal(others.length, 0, 'the one that was not to be kept is gone');
      assert.ok(job !== undefined);
      const { attempts, data, id, keptUntil, state } = job;
      assert.deepEqual(
        { attempts, data, id, state },
        { attempts: 1, data: 1, id: 'report@03:00', state: 'done' },
      );
      assert.ok(keptUntil !== undefined && Math.abs(keptUntil.getTime() - Date.now() - 60_000) < 20_000);
      await worker.stop();
    });
  });

  test('its time over, an id is free, whether or not anybody has tidied up', async () => {
    await withQueue('again', async (queue) => {
      const worker = queue.process(() => Promise.resolve(), { concurrency: 2 });
      const options = { id: 'a', keepDoneMs: 300 };
      await queue.push(1, options);
      await queue.idle();
      assert.equal((await queue.push(2, options)).deduplicated, true);
      const fresh = await until(async () => {
        const result = await queue.push(3, options);
        return result.deduplicated ? undefined : result;
      });
      assert.equal(fresh.id, 'a');
      await queue.idle();
      assert.deepEqual(
        (await listed(queue)).map(({ data, id }) => [id, data]),
        [['a', 3]],
      );
      await worker.stop();
    });
  });

  test('a worker that comes removes what was kept long enough, and nothing else', async () => {
    await withQueue('tidied', async (queue, session) => {
      const worker = queue.process((job) => job.commit({ then: [op.put('tidied/receipt', job.id)] }));
      await queue.push(1, { id: 'short', keepDoneMs: 1 });
      await queue.push(2, { id: 'long', keepDoneMs: 60_000 });
      await queue.push(3, { id: 'not at all' });
      await queue.idle();
      await worker.stop();
      await queue.close();
      await using next = new JobQueue<number>(session, 'tidied');
      const later = next.process(() => Promise.resolve());
      const ids = async (): Promise<string[]> => (await listed(next)).map(({ id }) => id);
      await until(async () => (await ids()).join() === 'long');
      assert.ok((await session.client.kv.get('tidied/.queue/body/long')) !== undefined);
      assert.equal(await session.client.kv.get('tidied/.queue/body/short'), undefined);
      await later.stop();
    });
  });

  test('only what is done is kept: a failed attempt is tried again, a dead job is dead', async () => {
    await withQueue('failed', async (queue) => {
      const worker = queue.process((job) => Promise.reject(new Error(`attempt ${job.attempt}`)));
      await queue.push(1, { id: 'a', keepDoneMs: 60_000, maxAttempts: 2 });
      await queue.idle();
      assert.equal((await queue.counts()).dead, 1);
      await worker.stop();
      const later = queue.process(() => Promise.resolve());
      assert.equal(await queue.retryDead(), 1);
      await queue.idle();
      assert.equal((await queue.push(1, { id: 'a' })).deduplicated, true);
      await later.stop();
    });
  });

  for (const how of ['ack', 'commit'] as const) {
    test(`${how}, whose answer is lost, has kept it`, async () => {
      await withProxy(backend, `lost-${how}`, async ({ direct, proxy, queue, straight }) => {
        await straight.push(7, { id: 'a', keepDoneMs: 60_000 });
        const job = await queue.dequeue();
        const fault = proxy.swallowNextReply({ method: TXN, then: 'cut' });
        const settled =
          how === 'ack' ? job.ack() : job.commit({ then: [op.put(`lost-${how}/receipt`, 'x')] });
        await fault.hit();
        await settled;
        assert.deepEqual(
          (await listed(straight)).map(({ id }) => id),
          ['a'],
        );
        assert.equal((await straight.push(7, { id: 'a' })).deduplicated, true);
        if (how === 'commit') assert.equal((await direct.kv.get('lost-commit/receipt'))?.version, 1n);
      });
      await backend.client().kv.delete({ prefix: `lost-${how}/` });
    });
  }

  test('a commit that was not done, whose answer is lost, does not pass for one that was', async () => {
    await withProxy(backend, 'declined', async ({ direct, proxy, queue, straight }) => {
      await straight.push(7, { id: 'a', keepDoneMs: 60_000 });
      const job = await queue.dequeue();
      const fault = proxy.onCall(TXN, 'dropRequest', { then: 'cut' });
      const commit = job.commit({ then: [op.put('declined/receipt', 'x')] });
      await fault.hit();
      await commit;
      assert.equal((await direct.kv.get('declined/receipt'))?.version, 1n);
      assert.equal((await listed(straight)).length, 1);
    });
    await backend.client().kv.delete({ prefix: 'declined/' });
  });

  test('data that somebody has removed frees the id', async () => {
    await withQueue('removed', async (queue, { client }) => {
      await queue.push(1, { id: 'a', keepDoneMs: 60_000 });
      const job = await queue.dequeue();
      await client.kv.delete('removed/.queue/body/a');
      await job.ack();
      const [kept] = await listed(queue);
      assert.match(kept?.spoilt ?? '', /missing/);
      assert.equal((await queue.push(2, { id: 'a' })).deduplicated, false);
      const again = await queue.dequeue();
      assert.equal(again.data, 2);
      await again.ack();
    });
  });

  test('wrong times are refused', async () => {
    await withQueue('bad', async (queue, session) => {
      for (const keepDoneMs of [-1, Number.NaN, Infinity, '5' as unknown as number])
        await assert.rejects(queue.push(1, { keepDoneMs }), /keepDoneMs/);
      assert.throws(() => new JobQueue(session, 'bad', { keepDoneMs: -1 }), /keepDoneMs/);
      await using usual = new JobQueue<number>(session, 'bad', { keepDoneMs: 60_000 });
      await usual.push(1, { id: 'a' });
      await usual.push(1, { id: 'b', keepDoneMs: 0 });
      for (let left = 2; left > 0; left--) await (await usual.dequeue()).ack();
      assert.deepEqual(
        (await listed(usual)).map(({ id }) => id),
        ['a'],
      );
    });
  });
});
