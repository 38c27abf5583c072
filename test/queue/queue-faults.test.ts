import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Client, compare, hasCode, JobQueue, op, Session } from 'conclave';
import { FaultProxy } from 'conclave/testing';

import { Deferred } from '#conclave/util/deferred.js';

import { onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';
import { TXN, WATCH, withProxy } from './scene.js';

onEachBackend('JobQueue when answers are lost', (backend) => {
  test('a push whose answer is lost has pushed the job once, even when it was done meanwhile', async () => {
    await withProxy(backend, 'push', async ({ proxy, queue, straight }) => {
      await queue.push(0);
      await (await straight.dequeue({ timeoutMs: 5000 })).ack();
      let handled = 0;
      straight.process(() => void (handled += 1));
      for (const id of [undefined, 'named']) {
        const fault = proxy.swallowNextReply({ method: TXN });
        const pushing = queue.push(1, { id });
        await fault.hit();
        await straight.idle({ timeoutMs: 5000 });
        proxy.cut();
        assert.equal((await pushing).deduplicated, false);
      }
      await straight.idle({ timeoutMs: 5000 });
      assert.equal(handled, 2);
    });
  });

  test('a worker hears of what its own client has pushed, though the watch is silent', async () => {
    await withProxy(backend, 'own', async ({ proxy, queue }) => {
      await queue.pushMany([{ data: 1 }, { data: 2 }]);
      const seen: number[] = [];
      const worker = queue.process(async (job) => {
        seen.push(job.data);
        if (job.data !== 1) return;
        proxy.onCall(WATCH, 'holdReply');
        await queue.push(3, { priority: 9 });
      });
      await until(() => seen.length === 3);
      assert.deepEqual(seen, [1, 3, 2]);
      await queue.push(4);
      await until(() => seen.length === 4);
      await worker.stop();
    });
  });

  test('a push whose answer is lost, and whose lease is gone when it is sent again, is unknown', async () => {
    await using proxy = await FaultProxy.start(backend.endpoints[0] ?? '', { grpc: true });
    await using client = new Client({ endpoints: [proxy.endpoint] });
    await using straight = await Session.open(backend.client(), { ttlSeconds: 20 });
    await using rest = new JobQueue<number>(straight, 'unknown');
    const session = await Session.open(client, { ttlSeconds: 20 });
    const queue = new JobQueue<number>(session, 'unknown');
    await queue.push(0);
    const lost = proxy.onCall(TXN, 'dropReply', { then: 'reset' });
    const again = proxy.onCall(TXN, 'holdRequest');
    const pushing = queue.push(1);
    const unknown = assert.rejects(pushing, (error) => hasCode(error, 'UNKNOWN_OUTCOME'));
    await lost.hit();
    await again.hit();
    await straight.client.lease.revoke(session.leaseId);
    again.release();
    await unknown;
    assert.equal((await rest.counts()).waiting, 2);
    for (const data of [0, 1]) {
      const job = await rest.dequeue({ timeoutMs: 5000 });
      assert.equal(job.data, data);
      await job.ack();
    }
  });

  test('a commit whose answer is lost was done once, and says so', async () => {
    await withProxy(backend, 'commit', async ({ direct, proxy, queue }) => {
      await queue.push(1);
      const job = await queue.dequeue({ timeoutMs: 5000 });
      const fault = proxy.swallowNextReply({ method: TXN, then: 'cut' });
      const result = await job.commit({ then: [op.put('commit/r', 'x')] });
      assert.ok(fault.hits > 0);
      assert.equal(result.succeeded, true);
      assert.equal((await direct.kv.get('commit/r'))?.version, 1n);
      assert.ok(!job.held);
      await direct.kv.delete('commit/r');
    });
  });

  test('a commit that never reached etcd is sent again, and done once', async () => {
    await withProxy(backend, 'commit2', async ({ direct, proxy, queue }) => {
      await queue.push(1);
      const job = await queue.dequeue({ timeoutMs: 5000 });
      const fault = proxy.onCall(TXN, 'dropRequest', { then: 'cut' });
      await job.commit({ then: [op.put('commit2/r', 'x')] });
      assert.ok(fault.hits > 0);
      assert.equal((await direct.kv.get('commit2/r'))?.version, 1n);
      await direct.kv.delete('commit2/r');
    });
  });

  test('a commit that was sent twice and declined is not done by its first copy, which comes when its condition holds', async () => {
    await withProxy(backend, 'late-commit', async ({ direct, proxy, queue, straight }) => {
      await straight.push(1);
      const job = await queue.dequeue({ timeoutMs: 5000 });
      const late = proxy.lateCopies({ kind: 'first', seed: 37, withinMs: 4000 });
      const spec = { if: [compare.exists('late-commit/gate')], then: [op.put('late-commit/effect', '1')] };
      assert.equal((await job.commit(spec)).succeeded, false);
      late.stop();
      assert.ok(late.taken > 0);
      await direct.kv.put('late-commit/gate', '');
      await late.settled();
      assert.equal(await direct.kv.get('late-commit/effect'), undefined);
      assert.equal((await straight.counts()).active, 1);
      // It is ours as before: the same commit is let through now.
      assert.equal((await job.commit(spec)).succeeded, true);
      await direct.kv.delete({ prefix: 'late-commit/' });
    });
  });

  test('with every seventh answer lost, each job is handled once and acknowledged', async () => {
    await withProxy(backend, 'lossy', async ({ proxy, queue, straight }) => {
      const times = new Map<number, number>();
      const errors: unknown[] = [];
      let calls = 0;
      const seventh = (): boolean => ++calls % 7 === 0;
      const fault = proxy.onCall(TXN, 'dropReply', { then: 'reset', times: 30, where: seventh });
      queue.process(
        (job) => {
          times.set(job.data, (times.get(job.data) ?? 0) + 1);
          assert.equal(job.attempt, 1);
        },
        { concurrency: 3, onError: (error) => errors.push(error) },
      );
      for (let at = 0; at < 120; at++) await queue.push(at);
      await straight.idle({ timeoutMs: 30_000 });
      assert.deepEqual(errors, []);
      assert.equal(times.size, 120);
      assert.ok([...times.values()].every((count) => count === 1));
      assert.ok(fault.hits > 10, `${fault.hits} answers were lost`);
    });
  });

  test('a worker whose connection is cut again and again misses no job', async () => {
    await withProxy(backend, 'cut', async ({ proxy, queue, straight }) => {
      const seen = new Set<number>();
      const worker = queue.process((job) => void seen.add(job.data));
      for (let at = 0; at < 60; at++) {
        if (at % 6 === 3) proxy.cut();
        await straight.push(at, { delayMs: at % 10 === 0 ? 20 : 0 });
        if (at % 6 === 0) await until(() => seen.has(at), { what: `job ${at}` });
      }
      await straight.idle({ timeoutMs: 20_000 });
      assert.equal(seen.size, 60);
      await worker.stop();
    });
  });

  test('a worker that has not heard of a pause claims nothing either', async () => {
    await withProxy(backend, 'unheard', async ({ proxy, queue, straight }) => {
      const gate = new Deferred<void>();
      const seen: number[] = [];
      const worker = queue.process(async (job) => {
        seen.push(job.data);
        await gate.promise;
      });
      await straight.pushMany([{ data: 1 }, { data: 2 }, { data: 3 }]);
      await until(() => worker.running === 1);
      const deaf = proxy.onCall('/etcdserverpb.Watch/Watch', 'holdReply');
      await straight.pause();
      const before = proxy.requests(TXN);
      gate.resolve();
      // It hands in the first job, and tries for the next one at least twice.
      await proxy.waitFor(() => proxy.requests(TXN) >= before + 4);
      assert.deepEqual(seen, [1]);
      assert.equal((await straight.counts()).active, 0);
      await straight.resume();
      deaf.release();
      await straight.idle({ timeoutMs: 10_000 });
      assert.deepEqual(seen, [1, 2, 3]);
    });
  });

  test('history compacted while a worker was cut off costs it no job', async () => {
    await withProxy(backend, 'compacted', async ({ direct, proxy, queue, straight }) => {
      const seen = new Set<number>();
      queue.process((job) => void seen.add(job.data));
      await straight.push(0);
      await until(() => seen.has(0));
      await proxy.refuse();
      proxy.cut();
      await straight.push(1, { priority: 3 });
      await straight.push(2, { delayMs: 10 });
      const { revision } = await direct.kv.range('compacted/none');
      await direct.kv.compact(revision);
      await proxy.accept();
      await straight.idle({ timeoutMs: 20_000 });
      assert.deepEqual(seen, new Set([0, 1, 2]));
    });
  });
});
