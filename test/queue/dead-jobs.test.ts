// Looking at dead jobs, lining them up again and removing them: lost answers, compaction, spoilt jobs, long errors.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { type Client, type JobInfo, JobQueue, Session } from 'conclave';

import { QueueKeys } from '#conclave/queue/store/keys.js';
import { encodeRecord } from '#conclave/queue/store/record.js';

import { onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';
import { TXN, withProxy } from './scene.js';

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) found.push(item);
  return found;
}

/** Puts dead jobs there, each with one error of this text for each of its attempts. */
async function bury(client: Client, name: string, count: number, message: string): Promise<void> {
  const layout = new QueueKeys(name);
  const errors = Array.from({ length: 10 }, (_, at) => ({ at: '2026-01-01', attempt: at + 1, message }));
  const record = { attempts: 10, backoff: { baseMs: 0, maxMs: 0 }, errors, maxAttempts: 10, pushedAt: 1 };
  for (let number = 0; number < count; number++) {
    const place = { id: `j${number}`, number, priority: 0 };
    await client.kv.put(layout.body(place.id), '1');
    await client.kv.put(layout.dead(place), encodeRecord(record));
  }
}

onEachBackend('Dead jobs of a JobQueue', (backend) => {
  test('the count is right when the answer is lost', async () => {
    await withProxy(backend, 'dead-lost', async ({ direct, proxy, queue }) => {
      await bury(direct, 'dead-lost', 10, 'no');
      const where = (message: Buffer): boolean => message.includes('dead-lost/.queue/dead/');
      const first = proxy.onCall(TXN, 'dropReply', { then: 'reset', where });
      assert.equal(await queue.retryDead({ ids: ['j1', 'j2', 'none'] }), 2);
      const second = proxy.onCall(TXN, 'dropReply', { then: 'reset', where });
      assert.equal(await queue.removeDead(), 8);
      assert.deepEqual([first.hits, second.hits], [1, 1]);
      assert.deepEqual(await queue.counts(), { active: 0, dead: 0, delayed: 0, waiting: 2 });
      await direct.kv.delete({ prefix: 'dead-lost/.queue/body/' });
      await direct.kv.delete({ prefix: 'dead-lost/.queue/todo/' });
    });
  });

  test('any number of them with long errors is lined up again', async () => {
    await using session = await Session.open(backend.client());
    await using queue = new JobQueue<number>(session, 'dead-long');
    await bury(session.client, 'dead-long', 60, '\u0001'.repeat(500));
    assert.equal(await queue.retryDead(), 60);
    assert.equal((await queue.counts()).waiting, 60);
    await session.client.kv.delete({ prefix: 'dead-long/' });
  });

  test('a list goes on behind the last job when history is compacted', async () => {
    await using session = await Session.open(backend.client());
    await using queue = new JobQueue<number>(session, 'dead-compacted');
    const { kv } = session.client;
    await bury(session.client, 'dead-compacted', 300, 'no');
    const ids: string[] = [];
    for await (const { id } of queue.jobs('dead')) {
      if (ids.push(id) !== 5) continue;
      const { revision } = await kv.delete('dead-compacted/none');
      await kv.put('dead-compacted/x', '1');
      await kv.compact(revision + 1n);
    }
    assert.deepEqual(
      ids,
      Array.from({ length: 300 }, (_, at) => `j${at}`),
    );
    await kv.delete({ prefix: 'dead-compacted/' });
  });

  test('a job whose data was removed or changed by hand is listed, and says why it cannot be read', async () => {
    await using session = await Session.open(backend.client());
    await using queue = new JobQueue<number>(session, 'dead-spoilt');
    const { kv } = session.client;
    await bury(session.client, 'dead-spoilt', 3, 'no');
    await kv.delete('dead-spoilt/.queue/body/j0');
    await kv.put('dead-spoilt/.queue/body/j1', '{oops');
    const shown = ({ id, data, spoilt }: JobInfo): unknown[] => [id, data, spoilt?.slice(0, 20)];
    assert.deepEqual((await all(queue.jobs('dead'))).map(shown), [
      ['j0', undefined, 'the key with its dat'],
      ['j1', undefined, 'its data is not JSON'],
      ['j2', 1, undefined],
    ]);
    await kv.delete({ prefix: 'dead-spoilt/' });
  });

  test('a later job of the same id keeps its data when the dead one is retried or removed', async () => {
    await using session = await Session.open(backend.client());
    await using queue = new JobQueue<number>(session, 'dead-again');
    const { kv } = session.client;
    await bury(session.client, 'dead-again', 1, 'no');
    await kv.delete('dead-again/.queue/body/j0');
    assert.equal((await queue.push(9, { id: 'j0' })).deduplicated, false);
    const [dead] = await all(queue.jobs('dead'));
    assert.match(dead?.spoilt ?? '', /belongs to a later job/);
    assert.equal(await queue.retryDead(), 0);
    assert.equal(await queue.removeDead(), 1);
    await using job = await queue.dequeue({ timeoutMs: 5000 });
    assert.equal(job.data, 9);
    await job.ack();
    await queue.close();
    assert.deepEqual((await kv.range({ prefix: 'dead-again/' })).kvs, []);
  });

  test('what somebody else wrote as an entry is a job that may be tried once, or is passed over', async () => {
    await using session = await Session.open(backend.client());
    await using queue = new JobQueue<number>(session, 'foreign');
    const { kv } = session.client;
    const layout = new QueueKeys('foreign');
    await queue.push(0, { priority: 3 });
    await kv.put(layout.body('f'), '7');
    await kv.put(
      layout.waiting({ id: 'f', number: 1, priority: 3 }),
      '{"backoffMs":5,"errors":1,"attempts":"x"}',
    );
    await kv.put(layout.tail(3), '2');
    await kv.put(`${layout.prefixOf('delayed')}000000000001-foreign`, '');
    await queue.push(8, { delayMs: 1 });
    const seen: number[] = [];
    const worker = queue.process((job) => void seen.push(job.data));
    await until(() => seen.length === 3, { what: 'three jobs' });
    assert.deepEqual(seen.sort(), [0, 7, 8]);
    await worker.stop();
    await kv.delete({ prefix: 'foreign/' });
  });

  test('more due jobs than are read at once all line up, each once', async () => {
    await using session = await Session.open(backend.client());
    await using queue = new JobQueue<number>(session, 'due-many');
    await queue.pushMany(Array.from({ length: 1100 }, (_, data) => ({ data, delayMs: 1 + data / 1000 })));
    const seen: number[] = [];
    queue.process((job) => void seen.push(job.data), { concurrency: 20 });
    await queue.idle({ timeoutMs: 30_000 });
    assert.deepEqual(
      seen.sort((a, b) => a - b),
      Array.from({ length: 1100 }, (_, at) => at),
    );
  });
});
