// A worker that is none any more: its lease revoked, its key removed by hand, its session resumed elsewhere.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { type Client, hasCode, type Job, JobQueue, op, Session } from 'conclave';

import { Deferred } from '#conclave/util/deferred.js';

import { onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';
import { TXN, withProxy } from './scene.js';

const coded = (code: string) => (error: unknown) => hasCode(error) && error.code === code;

/** Resolves with the reason when the job is lost. */
function lossOf(job: Job): Promise<unknown> {
  return new Promise((resolve) => {
    job.signal.addEventListener('abort', () => resolve(job.signal.reason), { once: true });
  });
}

/** Removes the keys of all workers of a queue, as an operator might. */
async function removeWorkers(client: Client, name: string): Promise<void> {
  await client.kv.delete({ prefix: `${name}/.queue/control/worker/` });
}

onEachBackend('JobQueue when a worker is removed from outside', (backend) => {
  test('a job is told at once that its lease was revoked', async () => {
    const client = backend.client();
    // So long a TTL that no keepalive can be what tells it.
    const session = await Session.open(client, { ttlSeconds: 600 });
    await using other = await Session.open(client);
    await using rest = new JobQueue<number>(other, 'revoked');
    const queue = new JobQueue<number>(session, 'revoked');
    await rest.push(1);
    const job = await queue.dequeue({ timeoutMs: 5000 });
    const lost = lossOf(job);
    await client.lease.revoke(session.leaseId);
    assert.ok(coded('SESSION_LOST')(await lost));
    assert.equal(job.held, false);
    await assert.rejects(job.ack(), coded('NOT_HELD'));
    const again = await rest.dequeue({ timeoutMs: 5000 });
    assert.equal(again.attempt, 2);
    await again.ack();
  });

  test('a job whose worker was removed by hand is lost, others get it, and the queue can go on', async () => {
    const client = backend.client();
    await using session = await Session.open(client);
    await using other = await Session.open(client);
    await using rest = new JobQueue<number>(other, 'removed');
    await using queue = new JobQueue<number>(session, 'removed');
    await queue.push(1);
    const errors: unknown[] = [];
    const worker = queue.process((held) => lossOf(held), { onError: (error) => errors.push(error) });
    const finished = assert.rejects(worker.finished, coded('NOT_HELD'));
    await until(() => worker.running === 1);
    await queue.push(2);
    const job = await queue.dequeue({ timeoutMs: 5000 });
    const lost = lossOf(job);
    const waiting = assert.rejects(queue.dequeue(), coded('NOT_HELD'));
    await removeWorkers(client, 'removed');
    assert.ok(coded('NOT_HELD')(await lost));
    await waiting;
    assert.equal(job.held, false);
    await assert.rejects(job.ack(), coded('NOT_HELD'));
    await assert.rejects(job.txn({ then: [op.put('removed-data', 'x')] }), coded('NOT_HELD'));
    await finished;
    assert.equal(errors.length, 1);
    assert.ok(coded('NOT_HELD')(errors[0]));
    // The queue object joins anew, and what it had is there for the next.
    const first = await rest.dequeue({ timeoutMs: 5000 });
    const second = await queue.dequeue({ timeoutMs: 5000 });
    assert.deepEqual([first.data, second.data].sort(), [1, 2]);
    await Promise.all([first.ack(), second.ack()]);
  });

  test('a commit that was lost is not called done because somebody else has done the job since', async () => {
    await withProxy(backend, 'taken-over', async ({ direct, proxy, queue, straight }) => {
      await straight.push(1);
      const job = await queue.dequeue({ timeoutMs: 5000 });
      const deaf = proxy.onCall('/etcdserverpb.Watch/Watch', 'holdReply');
      const lost = proxy.onCall(TXN, 'dropRequest', { then: 'silence' });
      const committing = assert.rejects(
        job.commit({ then: [op.put('taken-over-data', 'x')] }),
        coded('UNKNOWN_OUTCOME'),
      );
      await lost.hit();
      await removeWorkers(direct, 'taken-over');
      await (await straight.dequeue({ timeoutMs: 5000 })).ack();
      proxy.cut();
      await committing;
      deaf.release();
      assert.equal(await direct.kv.get('taken-over-data'), undefined);
    });
  });

  test('a commit that was lost is called done although a job of the same id was pushed since', async () => {
    await withProxy(backend, 'same-id', async ({ direct, proxy, queue, straight }) => {
      await straight.push(1, { id: 'daily' });
      const job = await queue.dequeue({ timeoutMs: 5000 });
      const lost = proxy.swallowNextReply({ method: TXN, then: 'silence' });
      const committing = job.commit({ then: [op.put('same-id-data', 'x')] });
      await lost.hit();
      assert.equal((await straight.push(2, { id: 'daily' })).deduplicated, false);
      proxy.cut();
      assert.equal((await committing).succeeded, true);
      await (await straight.dequeue({ timeoutMs: 5000 })).ack();
      await direct.kv.delete('same-id-data');
    });
  });
});

onEachBackend('JobQueue when the cluster has no leader for a while', (backend) => {
  test('workers and an idle wait go on once there is one, however long it took', async () => {
    await withProxy(
      backend,
      'headless',
      async ({ proxy, queue, straight }) => {
        const seen: number[] = [];
        const started = new Deferred<void>();
        const goOn = new Deferred<void>();
        const errors: unknown[] = [];
        const worker = queue.process(
          async (job) => {
            seen.push(job.data);
            started.resolve();
            await goOn.promise;
          },
          { onError: (error) => errors.push(error) },
        );
        const idle = queue.push(1).then(() => queue.idle());
        await started.promise;
        const status = { code: 14, message: 'etcdserver: no leader' };
        const down = proxy.onCall(TXN, 'fail', { status, times: Infinity });
        await straight.push(2);
        goOn.resolve();
        // Longer than a call of this client may take.
        await down.hit(30, { timeoutMs: 20_000 });
        down.release();
        await idle;
        assert.deepEqual(seen, [1, 2]);
        assert.deepEqual(errors, []);
        await worker.stop();
        await worker.finished;
      },
      { timeoutMs: 300 },
    );
  });
});
