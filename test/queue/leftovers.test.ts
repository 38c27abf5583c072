// What stays, or is asked for, beside the work itself: names of writers, answers of an idle wait, halves of an answer.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { type Client, hasCode, JobQueue, Session } from 'conclave';

import { clientIdsOf, isEarlierLife } from '#conclave/queue/store/client-id.js';
import { Deferred } from '#conclave/util/deferred.js';

import { onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';
import { TXN, WATCH, withProxy } from './scene.js';

const RANGE = '/etcdserverpb.KV/Range';

onEachBackend('a queue does not keep, or ask for, more than it needs', (backend) => {
  test('the name of each writer that is gone is forgotten', async () => {
    const client = backend.client();
    await using session = await Session.open(client, { ttlSeconds: 20 });
    const queue = new JobQueue<number>(session, 'names');
    const seen = new Set<string>();
    await using watcher = client.watch({ prefix: 'names/.queue/' });
    await watcher.created;
    const collecting = (async (): Promise<void> => {
      for await (const { events } of watcher)
        for (const part of events.flatMap(({ kv }) => kv.key.split('/')))
          if (part === 'end' || part.startsWith(clientIdsOf(session))) seen.add(part);
    })();
    const worker = queue.process(() => Promise.reject(new Error('no')), { onError: () => undefined });
    for (let at = 0; at < 10; at++) {
      await queue.push(0, { id: String(at), maxAttempts: 1 });
      await until(async () => (await queue.counts()).dead === 1);
      assert.equal(await queue.removeDead({ ids: [String(at)] }), 1);
    }
    await worker.stop();
    await queue.close();
    await client.kv.put('names/.queue/end', '');
    await until(() => seen.delete('end'));
    watcher.close();
    await collecting;
    await client.kv.delete('names/.queue/end');
    assert.ok(seen.size > 10, `${seen.size} writers`);
    assert.deepEqual(
      [...seen].filter((id) => !isEarlierLife(session, id)),
      [],
    );
  });

  test('an idle wait whose history is compacted away counts anew, and reads no entry', async () => {
    await withProxy(backend, 'counted', async ({ direct, proxy, queue, straight }) => {
      await queue.pushMany(Array.from({ length: 50 }, (_, data) => ({ data })));
      const looked = proxy.requests(TXN);
      const idle = queue.idle();
      await until(() => proxy.replies(TXN) > looked); // The first count.
      const ranges = proxy.requests(RANGE);
      const deaf = proxy.onCall(WATCH, 'holdRequest');
      proxy.cut();
      await deaf.hit();
      for (let at = 0; at < 20; at++) await (await straight.dequeue({ timeoutMs: 5000 })).ack();
      const { revision } = await direct.kv.put('counted-now', '');
      await direct.kv.compact(revision);
      deaf.release();
      for (let at = 0; at < 30; at++) await (await straight.dequeue({ timeoutMs: 5000 })).ack();
      await idle;
      assert.equal(proxy.requests(RANGE), ranges);
      await direct.kv.delete('counted-now');
    });
  });

  test('jobs whose claim is not answered are worked on, though nobody may say what became of the one handed in with it', async () => {
    await withProxy(backend, 'halves', async ({ direct, proxy, queue, straight }) => {
      await queue.pushMany([{ data: 1 }, { data: 2 }]);
      const seen: number[] = [];
      const errors: unknown[] = [];
      const goOn = new Deferred<void>();
      const worker = queue.process(
        async (job) => {
          seen.push(job.data);
          if (job.data === 1) await goOn.promise;
        },
        { onError: (error) => errors.push(error) },
      );
      await until(() => seen.length === 1);
      const lost = proxy.onCall(TXN, 'dropReply', {
        then: 'reset',
        where: (sent) => sent.includes('/active/'),
      });
      const status = { code: 7, message: 'etcdserver: permission denied' };
      // The look at what became of the first job: it reads the past, and nothing else of a worker does.
      const refused = proxy.onCall(TXN, 'fail', { status, where: (sent) => isLook(sent) });
      goOn.resolve();
      await lost.hit();
      await refused.hit();
      await until(() => seen.length === 2);
      assert.deepEqual(seen, [1, 2]);
      await until(() => errors.length > 0);
      assert.ok(hasCode(errors[0], 'UNKNOWN_OUTCOME'), String(errors[0]));
      await straight.idle({ timeoutMs: 5000 });
      await worker.stop();
      assert.equal(await countOf(direct, 'halves/.queue/todo/'), 0);
    });
  });

  test('a claim that comes when its worker’s key was removed claims nothing', async () => {
    await withProxy(backend, 'unkeyed', async ({ direct, proxy, queue, straight }) => {
      const errors: unknown[] = [];
      let done = 0;
      const worker = queue.process(() => void (done += 1), { onError: (error) => errors.push(error) });
      const finished = worker.finished.catch((error: unknown) => errors.push(error));
      await queue.push(0);
      await until(() => done === 1);
      await straight.idle({ timeoutMs: 5000 });
      const claims = proxy.onCall(TXN, 'holdRequest', { where: (sent) => sent.includes('/active/') });
      const deaf = proxy.onCall(WATCH, 'holdReply');
      await queue.push(1);
      await claims.hit();
      await direct.kv.delete({ prefix: 'unkeyed/.queue/control/worker/' });
      claims.release();
      await until(() => proxy.replies(TXN) > 0);
      const job = await straight.dequeue({ timeoutMs: 5000 });
      assert.equal(job.attempt, 1, 'nobody had claimed it');
      await job.ack();
      deaf.release();
      await finished;
      const active = await countOf(direct, 'unkeyed/.queue/todo/active/');
      assert.equal(active, 0);
    });
  });
});

/** Whether a transaction looks at several keys of active jobs as they were, and writes nothing. */
function isLook(sent: Buffer): boolean {
  return sent.includes('/active/') && !sent.includes('/waiting/') && !sent.includes('/control/');
}

async function countOf(client: Client, prefix: string): Promise<number> {
  return (await client.kv.range({ prefix }, { keysOnly: true })).kvs.length;
}
