// Jobs that come back, when many workers could take them: what that costs, and that none is forgotten.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { Client, type Job, JobQueue, Session } from 'conclave';
import { FaultProxy } from 'conclave/testing';

import { Deferred } from '#conclave/util/deferred.js';

import { onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';
import { TXN } from './scene.js';

const JOBS = 1000;
const WORKERS = 64;

/** Resolves when the workers have done with what they looked for before: nothing comes for a while. */
async function untilQuiet(proxy: FaultProxy): Promise<void> {
  let seen: number;
  do {
    seen = proxy.requests(TXN);
    await sleep(300);
  } while (proxy.requests(TXN) !== seen);
}

onEachBackend('Jobs that come back', (backend) => {
  /** How many transactions each of a lost worker's jobs costs. */
  const costOfEach = async (name: string): Promise<number> => {
    await using proxy = await FaultProxy.start(backend.endpoints[0] ?? '', { grpc: true });
    await using client = new Client({ endpoints: [proxy.endpoint] });
    const direct = backend.client();
    const victim = await Session.open(direct, { ttlSeconds: 600 });
    const slow = new JobQueue<number>(victim, name);
    await slow.pushMany(Array.from({ length: JOBS }, (_, data) => ({ data })));
    const lost = slow.process(() => new Promise<never>(() => undefined), {
      concurrency: JOBS,
      stopTimeoutMs: 0,
    });
    const ended = assert.rejects(lost.finished);
    await until(() => lost.running === JOBS, { timeoutMs: 30_000 });

    const sessions = await Promise.all(
      Array.from({ length: WORKERS }, () => Session.open(client, { ttlSeconds: 60 })),
    );
    const queues = sessions.map((session) => new JobQueue<number>(session, name));
    const ready = new Deferred<void>();
    const all = new Deferred<void>();
    let waiting = 0;
    let done = 0;
    const workers = queues.map((queue) =>
      queue.process(async (job) => {
        if (job.data === -1) {
          if (++waiting === WORKERS) ready.resolve();
          await ready.promise;
        } else if (++done === JOBS) all.resolve();
      }),
    );
    // Each has had a job, so each has read past those that the victim has.
    await slow.pushMany(Array.from({ length: WORKERS }, () => ({ data: -1 })));
    await ready.promise;
    await until(async () => (await slow.counts()).active === JOBS);
    await untilQuiet(proxy);
    const before = proxy.requests(TXN);
    await direct.lease.revoke(victim.leaseId);
    await all.promise;
    const each = (proxy.requests(TXN) - before) / JOBS;
    assert.equal(done, JOBS);
    await ended;
    await Promise.all(workers.map((worker) => worker.stop()));
    await Promise.all(queues.map((queue) => queue.close()));
    await slow.close();
    await Promise.all(sessions.map((session) => session.close()));
    return each;
  };

  test('a lost worker’s jobs cost little more than a transaction each, though 64 workers hear of them', async (t) => {
    // A worker's first look and its last hand-in are 0.13 of that. Who is kept waiting by a busy machine looks again, so that
    // such a machine only ever adds to it.
    const seen: number[] = [];
    while (seen.length < 3 && !seen.some((each) => each <= 1.2))
      seen.push(await costOfEach(`shared-${seen.length}`));
    t.diagnostic(`${seen.join(', ')} transactions each`);
    assert.ok(Math.min(...seen) <= 1.2, `${seen.join(', ')} transactions each`);
  });

  test('a job that comes back while the worker whose turn it is does something else is taken by another', async () => {
    const client = backend.client();
    const sessions = await Promise.all([1, 2, 3].map(() => Session.open(client, { ttlSeconds: 60 })));
    const queues = sessions.map((session) => new JobQueue<number>(session, 'helped'));
    const [first, second, third] = queues;
    assert.ok(first && second && third);
    const long = new Deferred<void>();
    const busy = first.process(() => long.promise);
    await second.push(0);
    await until(() => busy.running === 1);
    // Whoever’s turn it is: of several in a row, the busy worker’s as well.
    for (let data = 1; data <= 6; data++) {
      await second.push(data);
      await (await third.dequeue({ timeoutMs: 10_000 })).nack('again', { delayMs: 0 });
      const job: Job<number> = await second.dequeue({ timeoutMs: 10_000 });
      assert.equal(job.data, data);
      await job.ack();
    }
    long.resolve();
    await second.idle({ timeoutMs: 10_000 });
    await Promise.all(queues.map((queue) => queue.close()));
    await Promise.all(sessions.map((session) => session.close()));
  });
});
