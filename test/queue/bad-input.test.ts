import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Client, hasCode, JobQueue, type PushItem, Session } from 'conclave';
import { EmbeddedServer } from 'conclave/embedded';

test('bad input is refused by name and value before anything is changed', async () => {
  await using server = await EmbeddedServer.start({ port: 0 });
  await using client = new Client({ endpoints: [server.endpoint] });
  await using session = await Session.open(client);
  const queue = new JobQueue<unknown>(session, 'q');
  const { revision } = await client.kv.range('x');
  const loop: { self?: unknown } = {};
  loop.self = loop;

  assert.throws(() => new JobQueue(session, ''), /name must not be empty/);
  assert.throws(() => new JobQueue(session, 'a/.queue/b'), /segment \.queue/);
  assert.throws(() => new JobQueue(session, 'a\0'), TypeError);
  assert.throws(() => new JobQueue(session, 'a', { maxAttempts: 0 }), /maxAttempts .* >= 1, not 0/);
  assert.throws(() => new JobQueue(session, 'a', { retries: 1 } as object), /unknown option "retries"/);

  const refusals: [() => Promise<unknown>, RegExp | typeof TypeError][] = [
    [() => queue.push(undefined), /JSON-serializable, not undefined; null is/],
    [() => queue.push(() => 1), /JSON-serializable, not function/],
    [() => queue.push(loop), /JSON-serializable: TypeError: .*circular/],
    [() => queue.push({ n: 1n }), /JSON-serializable: TypeError: .*BigInt/],
    [() => queue.push('x'.repeat(1_600_000), { id: 'big' }), /data of job "big" is too large: 16\d+ bytes/],
    [() => queue.push(1, { priority: 1.5 }), /priority must be a whole number from -32768 to 32767, not 1.5/],
    [() => queue.push(1, { priority: 40_000 }), /priority .* not 40000/],
    [() => queue.push(1, { delayMs: -1 }), /delayMs must be .* >= 0, not -1/],
    [() => queue.push(1, { delayMs: Infinity }), /delayMs must be a finite number/],
    [() => queue.push(1, { delayMs: 1e15 }), /before the year 10889/],
    [() => queue.push(1, { id: '' }), /id must not be empty/],
    [() => queue.push(1, { id: 'x'.repeat(300) }), /at most 256 characters, not 300/],
    [() => queue.push(1, { id: '\ud800' }), /must not contain a lone surrogate/],
    [() => queue.push(1, { maxAttempts: 1.5 }), /maxAttempts must be a whole number >= 1, not 1.5/],
    [() => queue.push(1, { backoff: { baseMs: -5 } }), /backoff\.baseMs .* not -5/],
    [() => queue.push(1, { prio: 1 } as object), /unknown option "prio"/],
    [() => queue.pushMany([{ data: 1 }, { data: undefined }] as PushItem[]), /not undefined/],
    [() => queue.pushMany([null] as never), /pushMany: each item must be an object with its data, not null/],
    [() => queue.dequeue({ timeoutMs: -1 }), /timeoutMs must be/],
    [() => queue.idle({ timeout: 5 } as object), /unknown option "timeout"/],
    [() => queue.retryDead({ ids: 'abc' }), /retryDead: ids must be a list of job ids, not "abc"/],
    [() => queue.removeDead({ ids: 5 as never }), /removeDead: ids must be a list of job ids, not 5/],
    [() => queue.removeDead({ ids: [''] }), /id must not be empty/],
  ];
  for (const [refused, expected] of refusals) await assert.rejects(refused, expected);
  assert.throws(() => queue.process(1 as never), /handler must be a function, not number/);
  assert.throws(
    () => queue.process(() => 1, { concurrency: 0 }),
    /concurrency must be a whole number >= 1, not 0/,
  );
  assert.throws(() => queue.process(() => 1, { concurrency: 2.5 }), /concurrency .* not 2.5/);
  assert.throws(
    () => queue.jobs('gone' as never),
    /state must be one of waiting, delayed, active, dead, done, not "gone"/,
  );

  assert.equal((await client.kv.range('x')).revision, revision, 'something was written');
  assert.deepEqual(await queue.pushMany([]), []);
  await queue.close();
});

test('data just below the limit goes through, alone and beside others', async () => {
  await using server = await EmbeddedServer.start({ port: 0 });
  await using client = new Client({ endpoints: [server.endpoint] });
  await using session = await Session.open(client);
  await using queue = new JobQueue<string>(session, 'q');
  const large = 'x'.repeat(1_500_000);
  await queue.pushMany([{ data: 'a' }, { data: large }, { data: 'b' }]);
  const sizes: number[] = [];
  queue.process((job) => void sizes.push(job.data.length), { concurrency: 3 });
  await queue.idle({ timeoutMs: 10_000 });
  assert.deepEqual(sizes.sort(), [1, 1, 1_500_000]);
});

test('a session that has ended refuses pushes and takes, at once', async () => {
  await using server = await EmbeddedServer.start({ port: 0 });
  await using client = new Client({ endpoints: [server.endpoint] });
  const session = await Session.open(client);
  const queue = new JobQueue<number>(session, 'q');
  const waiting = assert.rejects(queue.dequeue(), (error) => hasCode(error, 'CLOSED'));
  await session.close();
  await waiting;
  await assert.rejects(queue.push(1), (error) => hasCode(error, 'CLOSED'));
  assert.throws(
    () => queue.process(() => 1),
    (error) => hasCode(error, 'CLOSED'),
  );
  await queue.close();
});
