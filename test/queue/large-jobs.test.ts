// Large jobs over a slow link, and what of a job somebody meddled with.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Client, type Job, JobQueue, Session } from 'conclave';

import { Deferred } from '#conclave/util/deferred.js';

import { onBackends } from '../support/backends.js';
import { until } from '../support/until.js';
import { Throttle } from './throttle.js';

const MEGABYTE = 1_000_000;

onBackends(['etcd'], 'Large jobs of a JobQueue, over 1 MB/s', (backend) => {
  test('are listed and worked on, though no answer could carry all of them in time', async () => {
    await using link = await Throttle.start(backend.endpoints[0] ?? '', MEGABYTE);
    await using client = new Client({ endpoints: [link.endpoint], timeoutMs: 2500 });
    await using session = await Session.open(client, { ttlSeconds: 60 });
    await using near = await Session.open(backend.client(), { ttlSeconds: 60 });
    await using straight = new JobQueue<string>(near, 'large');
    await using queue = new JobQueue<string>(session, 'large');
    const sizes = [700_000, 700_001, 700_002, 700_003, 700_004, 700_005];
    for (const size of sizes) await straight.push('x'.repeat(size));
    const listed: number[] = [];
    for await (const { data } of queue.jobs('waiting')) listed.push(data.length);
    assert.deepEqual(listed, sizes);
    const seen: number[] = [];
    const worker = queue.process((job) => void seen.push(job.data.length), { concurrency: 20 });
    await straight.idle({ timeoutMs: 60_000 });
    assert.deepEqual(seen, sizes);
    await worker.stop();
  });

  test('go back to others, with a word, when not even one of them can be read in time', async () => {
    await using link = await Throttle.start(backend.endpoints[0] ?? '', MEGABYTE / 2);
    await using client = new Client({ endpoints: [link.endpoint], timeoutMs: 400 });
    await using session = await Session.open(client, { timeoutMs: 10_000, ttlSeconds: 60 });
    await using near = await Session.open(backend.client(), { ttlSeconds: 60 });
    await using straight = new JobQueue<string>(near, 'too-large');
    const queue = new JobQueue<string>(session, 'too-large');
    const warned = new Deferred<string>();
    const listen = (warning: Error): void => {
      if (warning.message.includes('does not come within')) warned.resolve(warning.message);
    };
    process.on('warning', listen);
    await straight.push('x'.repeat(1_000_000), { id: 'elephant' });
    const worker = queue.process(() => assert.fail('it was read'));
    assert.match(await warned.promise, /elephant.*1000002 bytes/);
    process.off('warning', listen);
    const taking = straight.dequeue({ timeoutMs: 60_000 });
    const job: Job<string> = await taking;
    assert.equal(job.attempt, 1);
    await job.ack();
    await worker.stop();
    await queue.close();
  });

  test('of an earlier version, whose entries do not tell their size, are claimed one by one', async () => {
    const client = backend.client();
    await using session = await Session.open(client, { ttlSeconds: 60 });
    await using queue = new JobQueue<number>(session, 'sizeless');
    await queue.pushMany([{ data: 0 }, { data: 1 }, { data: 2 }]);
    for (const kv of (await client.kv.range({ prefix: 'sizeless/.queue/todo/waiting/' })).kvs) {
      const { bytes, ...rest } = kv.json<{ bytes: unknown }>();
      assert.equal(bytes, 1);
      await client.kv.put(kv.keyBytes, JSON.stringify(rest));
    }
    const seen: number[] = [];
    const all = new Deferred<void>();
    queue.process(
      async (job) => {
        if (seen.push(job.data) === 3) all.resolve();
        await all.promise;
      },
      { concurrency: 3 },
    );
    await queue.idle({ timeoutMs: 10_000 });
    assert.deepEqual(seen, [0, 1, 2]);
  });
});

onBackends(['etcd'], 'Jobs whose data somebody removed', (backend) => {
  test('a job never gets the data of a later one of its id, nor removes it', async () => {
    const client = backend.client();
    await using session = await Session.open(client);
    await using queue = new JobQueue<string>(session, 'same-id');
    const body = 'same-id/.queue/body/a';
    await queue.push('first', { id: 'a' });
    await client.kv.delete(body);
    await queue.push('second', { id: 'a' });
    const second = await queue.dequeue({ timeoutMs: 5000 });
    assert.equal(second.data, 'second');
    await until(async () => (await queue.counts()).dead === 1);
    const { value: dead } = await queue.jobs('dead').next();
    assert.ok(dead);
    assert.match(dead.errors[0]?.message ?? '', /later job of the same id/);
    // While the second is at work, its data is removed as well, and a third takes the id.
    await client.kv.delete(body);
    await queue.push('third', { id: 'a' });
    await second.ack();
    const third = await queue.dequeue({ timeoutMs: 5000 });
    assert.equal(third.data, 'third');
    await third.ack();
    assert.equal(await client.kv.get(body), undefined);
    assert.equal(await queue.removeDead({ ids: ['b'] }), 0);
    assert.equal(await queue.removeDead({ ids: ['a', 'b'] }), 1);
  });

  for (const how of ['the last one has left', 'somebody removed its counter'] as const) {
    test(`a lost worker's job is found where nothing is known of its priority, since ${how}`, async () => {
      const client = backend.client();
      const victim = await Session.open(client, { ttlSeconds: 600 });
      await using session = await Session.open(client);
      const pushing = new JobQueue<string>(session, 'alone');
      await pushing.push('first', { id: 'a', priority: 1 });
      await new JobQueue<string>(victim, 'alone').dequeue({ timeoutMs: 5000 });
      await client.kv.delete('alone/.queue/body/a');
      const hasLeft = how === 'the last one has left';
      if (hasLeft) await client.lease.revoke(victim.leaseId);
      else await client.kv.delete({ prefix: 'alone/.queue/control/tail-sequence/' });
      await pushing.close();
      await using queue = new JobQueue<string>(session, 'alone');
      const worker = queue.process(() => undefined);
      const workers = { prefix: 'alone/.queue/control/worker/' };
      await until(async () => (await client.kv.range(workers)).count === (hasLeft ? 1n : 2n));
      if (!hasLeft) await client.lease.revoke(victim.leaseId);
      await until(async () => (await queue.counts()).dead === 1);
      assert.equal(await queue.removeDead(), 1);
      await worker.stop();
    });
  }

  for (const how of ['its worker is lost', 'it is due'] as const) {
    test(`nor when it is put back to its place since ${how}`, async () => {
      const client = backend.client();
      const victim = await Session.open(client, { ttlSeconds: 600 });
      const losing = new JobQueue<string>(victim, 'moved');
      await using session = await Session.open(client);
      await using queue = new JobQueue<string>(session, 'moved');
      await queue.push('first', { delayMs: how === 'it is due' ? 1000 : 0, id: 'a' });
      if (how === 'its worker is lost') await losing.dequeue({ timeoutMs: 5000 });
      await client.kv.delete('moved/.queue/body/a');
      await queue.push('second', { id: 'a' });
      await client.lease.revoke(victim.leaseId);
      const seen: string[] = [];
      const tried = new Deferred<void>();
      const worker = queue.process(
        async ({ data }) => {
          seen.push(data);
          await tried.promise;
        },
        { concurrency: 2 },
      );
      // The second is at work until the first has been tried, and has found data that is not its own.
      await until(async () => (await queue.counts()).dead === 1 || seen.length > 1);
      tried.resolve();
      await queue.idle({ timeoutMs: 10_000 });
      assert.deepEqual(seen, ['second']);
      const { value: dead } = await queue.jobs('dead').next();
      assert.match(dead?.errors.at(-1)?.message ?? '', /later job of the same id/);
      assert.equal(await client.kv.get('moved/.queue/body/a'), undefined);
      assert.equal(await queue.removeDead(), 1);
      await worker.stop();
      await losing.close();
      await victim.close();
    });
  }
});
