// Pushes that are large, and pushes whose answer is lost and cannot be found out at once.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { hasCode, JobQueue, Session } from 'conclave';

import { onEachBackend } from '../support/backends.js';
import { TXN, withProxy } from './scene.js';

const RANGE = '/etcdserverpb.KV/Range';

onEachBackend('JobQueue.push', (backend) => {
  test('what is not refused as too large fits into a request, however long the names are', async () => {
    await using session = await Session.open(backend.client());
    const name = `push-large/${'n'.repeat(1000)}`;
    await using queue = new JobQueue<string>(session, name);
    const id = '漢'.repeat(256);
    const push = (length: number): Promise<unknown> =>
      queue.push('x'.repeat(length), { delayMs: 60_000, id });
    const refused = await push(1_572_000).catch((error: unknown) => error);
    assert.ok(refused instanceof RangeError);
    const [, bytes, most] =
      /(\d+) bytes as JSON, with the job's keys; at most (\d+)/.exec(refused.message) ?? [];
    await push(1_572_000 - (Number(bytes) - Number(most)));
    assert.equal((await queue.counts()).delayed, 1);
    await session.client.kv.delete({ prefix: 'push-large/' });
  });

  test('many jobs whose characters take three bytes each fit into their requests', async () => {
    await using session = await Session.open(backend.client());
    await using queue = new JobQueue<string>(session, 'push-bytes');
    await queue.pushMany(Array.from({ length: 6 }, () => ({ data: '漢'.repeat(131_000) })));
    assert.equal((await queue.counts()).waiting, 6);
    await session.client.kv.delete({ prefix: 'push-bytes/' });
  });

  test('when the answer is lost it asks until it knows what came of it', async () => {
    await withProxy(
      backend,
      'push-asks',
      async ({ proxy, queue }) => {
        await queue.push(0, { id: 'there' });
        for (const [id, deduplicated] of [
          ['new', false],
          ['there', true],
        ] as const) {
          proxy.swallowNextReply({ method: TXN, then: 'reset' });
          const asked = proxy.onCall(RANGE, 'fail', { times: 1000 });
          const pushing = queue.push(1, { id });
          await proxy.waitFor(() => asked.hits >= 12);
          asked.release();
          assert.deepEqual(await pushing, { deduplicated, id });
        }
      },
      { timeoutMs: 300 },
    );
    await backend.client().kv.delete({ prefix: 'push-asks/' });
  });

  test('when history is compacted before it knows, it does not claim to', async () => {
    await withProxy(backend, 'push-unsure', async ({ direct, proxy, queue }) => {
      await queue.push(0, { id: 'x' });
      const job = await queue.dequeue({ timeoutMs: 5000 });
      const asks = proxy.onCall(RANGE, 'holdRequest', { where: (message) => message.includes('body/x') });
      const where = (message: Buffer): boolean => message.includes('/push') && message.includes('body/x');
      proxy.onCall(TXN, 'dropReply', { then: 'reset', where });
      const pushing = assert.rejects(queue.push(1, { id: 'x' }), (error) =>
        hasCode(error, 'UNKNOWN_OUTCOME'),
      );
      await asks.hit();
      await job.ack();
      const { revision } = await direct.kv.put('push-unsure/x', '');
      await direct.kv.compact(revision);
      asks.release();
      await pushing;
      await direct.kv.delete('push-unsure/x');
    });
  });

  test('a first backoff longer than a minute is not cut', async () => {
    await using session = await Session.open(backend.client());
    await using queue = new JobQueue<number>(session, 'push-backoff', { backoff: { baseMs: 240_000 } });
    await queue.push(1);
    const job = await queue.dequeue({ timeoutMs: 5000 });
    const fromMs = session.client.clock.wall();
    await job.nack('no');
    for await (const { dueAt } of queue.jobs('delayed'))
      assert.ok((dueAt?.getTime() ?? 0) >= fromMs + 120_000);
    assert.equal((await queue.counts()).delayed, 1);
    await session.client.kv.delete({ prefix: 'push-backoff/.queue/body/' });
    await session.client.kv.delete({ prefix: 'push-backoff/.queue/todo/' });
  });
});
