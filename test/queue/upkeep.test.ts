// What any worker's client does for a queue: due jobs are appended by one of them, lost workers' jobs put back, pauses kept.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { type Client, JobQueue, type KeyValue, Session } from 'conclave';

import { leaseHex } from '#conclave/etcd/lease/lease.js';
import { controlWatchOf } from '#conclave/queue/store/control-watch.js';
import { QueueKeys } from '#conclave/queue/store/keys.js';
import { reaperOf } from '#conclave/queue/upkeep/reaper.js';
import { Deferred } from '#conclave/util/deferred.js';

import { onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';
import { RPC } from '../faults/scene.js';
import { Tape } from '../faults/tape.js';
import { withProxy } from './scene.js';

onEachBackend('JobQueue and its upkeep', (backend) => {
  const schedulerOf = (client: Client, name: string): Promise<KeyValue | undefined> =>
    client.kv.get(`${name}/.queue/control/scheduler`);
  const isOf = (kv: KeyValue | undefined, session: Session): boolean =>
    kv?.leaseId === session.leaseId && kv.string().includes(`"${leaseHex(session.leaseId)}.`);

  test('one client appends due jobs, each batch once, and another takes over at once when it is gone', async () => {
    const sessions = await Promise.all(
      Array.from({ length: 4 }, () => Session.open(backend.client(), { ttlSeconds: 600 })),
    );
    const client = backend.client();
    let ran = 0;
    const queues = sessions.map((session) => new JobQueue<number>(session, 'due'));
    const workers = queues.map((queue) => queue.process(() => void (ran += 1), { concurrency: 20 }));
    const ends = workers.map((worker) => worker.finished.catch(() => undefined));
    await until(async () => (await schedulerOf(client, 'due')) !== undefined);
    const first = await schedulerOf(client, 'due');
    const at = sessions.findIndex((session) => isOf(first, session));
    const [rest] = queues.filter((_, each) => each !== at);
    assert.ok(rest);
    const appends = async (): Promise<number> =>
      Number((await client.kv.get('due/.queue/control/tail-sequence/7fff'))?.version ?? 0);
    await rest.pushMany(Array.from({ length: 300 }, (_, data) => ({ data, delayMs: 200 })));
    const pushed = await appends();
    await rest.idle({ timeoutMs: 30_000 });
    assert.equal(ran, 300);
    assert.ok((await appends()) - pushed <= 4, `${(await appends()) - pushed} transactions for 300 jobs`);

    await client.lease.revoke(sessions[at]?.leaseId ?? 0n);
    await until(async () => {
      const now = await schedulerOf(client, 'due');
      return now !== undefined && now.modRevision !== first?.modRevision;
    });
    await rest.push(300, { delayMs: 20 });
    await rest.idle({ timeoutMs: 30_000 });
    assert.equal(ran, 301);
    for (const queue of queues) await queue.close();
    for (const session of sessions) await session.close();
    await Promise.all(ends);
    assert.deepEqual((await client.kv.range({ prefix: 'due/' })).kvs, []);
  });

  test('the scheduler of an earlier life of a session is nobody: its next life takes over', async () => {
    const early = await Session.open(backend.client(), { ttlSeconds: 600 });
    const before = new JobQueue<number>(early, 'lives').process(() => undefined);
    before.finished.catch(() => undefined);
    const client = backend.client();
    await until(async () => (await schedulerOf(client, 'lives')) !== undefined);
    const { leaseId } = early;
    early.orphan();
    await using session = await Session.open(client, { leaseId });
    await using queue = new JobQueue<number>(session, 'lives');
    await queue.push(1, { delayMs: 1 });
    const job = await queue.dequeue({ timeoutMs: 20_000 });
    await job.ack();
  });

  test('a delayed job is told of to a scheduler that waits for a later one', async () => {
    await using session = await Session.open(backend.client());
    await using queue = new JobQueue<string>(session, 'earlier');
    const seen: string[] = [];
    await queue.push('late', { delayMs: 3_600_000 });
    await using worker = queue.process((job) => void seen.push(job.data));
    await queue.push('first', { delayMs: 1 });
    await until(() => seen.length === 1);
    // The scheduler has nothing to do for half an hour now.
    await queue.push('sooner', { delayMs: 1_800_000 });
    await queue.push('soon', { delayMs: 20 });
    await until(() => seen.length === 2);
    assert.deepEqual(seen, ['first', 'soon']);
    await worker.stop();
    await backend.client().kv.delete({ prefix: 'earlier/' });
  });

  test('a job stays with a worker that is there, whoever joins and looks after lost ones', async () => {
    const client = backend.client();
    await using session = await Session.open(backend.client());
    await using queue = new JobQueue<number>(session, 'kept');
    await queue.push(1);
    const going = new Deferred<void>();
    const began = new Deferred<string>();
    let attempts = 0;
    await using worker = queue.process(async (job) => {
      attempts += 1;
      began.resolve(job.id);
      await going.promise;
      await job.commit({ then: [] });
    });
    await began.promise;
    // Another client joins, and has looked when it may take jobs.
    await using joining = await Session.open(client);
    await using other = new JobQueue<number>(joining, 'kept');
    await assert.rejects(other.dequeue({ timeoutMs: 200 }));
    assert.equal((await queue.counts()).active, 1);
    // And if its view of the workers is old, the worker's key is what counts.
    const control = controlWatchOf(client, new QueueKeys('kept'));
    const stop = control.use(() => undefined);
    await control.ready;
    const [workerId = ''] = [...control.workers].filter((id) => id.startsWith(leaseHex(session.leaseId)));
    await reaperOf(control).reap(workerId);
    assert.equal((await queue.counts()).active, 1);
    stop();
    going.resolve();
    await queue.idle({ timeoutMs: 10_000 });
    assert.equal(attempts, 1);
    await worker.stop();
  });

  test('a pause or its end that arrives late changes nothing', async () => {
    await withProxy(backend, 'pauses', async ({ proxy, queue, straight }) => {
      const late = proxy.lateCopies({ seed: 7, withinMs: 100 });
      for (let at = 0; at < 10; at++) {
        await queue.pause();
        assert.equal(await straight.isPaused(), true);
        await straight.resume();
        assert.equal(await straight.isPaused(), false);
      }
      assert.ok(late.taken >= 10);
      await late.settled();
      assert.equal(await straight.isPaused(), false);
      for (let at = 0; at < 10; at++) {
        await straight.pause();
        await queue.resume();
      }
      await straight.pause();
      await late.settled();
      assert.equal(await straight.isPaused(), true);
      await straight.push(1);
      await assert.rejects(queue.dequeue({ timeoutMs: 200 }));
      late.stop();
      await straight.resume();
      await (await queue.dequeue({ timeoutMs: 5000 })).ack();
    });
    await backend.client().kv.delete({ prefix: 'pauses/' });
  });

  test('a pause that was sent twice, whose first request comes when the queue is over, leaves nothing', async () => {
    await withProxy(backend, 'late-pause', async ({ proxy, queue, straight }) => {
      const tape = new Tape(proxy, RPC.txn);
      const lost = proxy.swallowNextReply({ method: RPC.txn, then: 'reset' });
      await queue.pause();
      assert.equal(lost.hits, 1);
      tape.stop();
      await straight.resume();
      await straight.close();
      await queue.close();
      const left = async (): Promise<number> =>
        (await backend.client().kv.range({ prefix: 'late-pause/' }, { keysOnly: true })).kvs.length;
      assert.equal(await left(), 0);
      await tape.replay(backend);
      await until(async () => (await left()) === 0, { timeoutMs: 30_000, what: 'it is found' });
    });
  });

  test('many that pause and resume at once all end, and the last one who does alone decides', async () => {
    await using session = await Session.open(backend.client());
    await using queue = new JobQueue<number>(session, 'toggled');
    for (let round = 0; round < 5; round++) {
      await Promise.all(
        Array.from({ length: 20 }, (_, at) => (at % 2 === 0 ? queue.pause() : queue.resume())),
      );
      await queue.pause();
      assert.equal(await queue.isPaused(), true);
      await queue.resume();
      assert.equal(await queue.isPaused(), false);
    }
  });

  test('what the earlier layout left in etcd is done, in order, before what is pushed now; its pause is kept', async () => {
    const client = backend.client();
    const keys = new QueueKeys('old');
    const entry = (attempts?: number): string =>
      JSON.stringify({ attempts, backoffMs: [0, 0], maxAttempts: 3, pushedAt: 1 });
    // As it numbered them: without gaps, the tail counted by whoever pushed.
    for (const [number, id] of ['a', 'b', 'c'].entries()) {
      await client.kv.put(keys.body(id), JSON.stringify(id));
      await client.kv.put(keys.waiting({ id, number: 9_997 + number, priority: 2 }), entry());
    }
    await client.kv.put(keys.tail(2), '10000');
    await client.kv.put(keys.body('d'), JSON.stringify('d'));
    await client.kv.put(keys.delayed(1, { id: 'd', number: 3, priority: 2 }), entry());
    await client.kv.put(keys.body('e'), JSON.stringify('e'));
    await client.kv.put(keys.active('1234.gone', { id: 'e', number: 9, priority: 2 }), entry(1));
    await client.kv.put(keys.paused, '{"host":"somewhere"}');

    await using session = await Session.open(client);
    await using queue = new JobQueue<string>(session, 'old');
    assert.equal(await queue.isPaused(), true);
    await queue.push('f', { priority: 2 });
    const seen: string[] = [];
    await using worker = queue.process((job) => void seen.push(job.data));
    // What is due, and what its worker lost, are put where they belong, although nobody may claim.
    await until(async () => {
      const { active, delayed } = await queue.counts();
      return active + delayed === 0;
    });
    await queue.push('g', { priority: 2 });
    assert.deepEqual(seen, []);
    await queue.resume();
    await queue.idle({ timeoutMs: 10_000 });
    assert.deepEqual(seen, ['e', 'a', 'b', 'c', 'f', 'd', 'g']);
    await worker.stop();
  });

  test('priorities go by their value, whatever their digits, and whoever looks', async () => {
    const priorities = [99, -1, 32_767, 4, 0, 10, -1000, 3, 100, 2, 11, 9];
    const inOrder = [...priorities].sort((a, b) => b - a);
    await using session = await Session.open(backend.client());
    await using queue = new JobQueue<number>(session, 'values');
    // Before it has read anything, and when it hears of them.
    for (const known of [false, true]) {
      if (known) {
        await queue.push(0);
        await (await queue.dequeue({ timeoutMs: 5000 })).ack();
      }
      for (const priority of priorities) await queue.push(priority, { priority });
      const seen: number[] = [];
      for (const _ of priorities) {
        const job = await queue.dequeue({ timeoutMs: 5000 });
        seen.push(job.data);
        await job.ack();
      }
      assert.deepEqual(seen, inOrder);
    }
  });
});
