import assert from 'node:assert/strict';
import { it } from 'node:test';

import {
  Barrier,
  type Client,
  DoubleBarrier,
  Election,
  JobQueue,
  Latch,
  MultiMutex,
  Mutex,
  op,
  RWLock,
  Semaphore,
  Session,
} from 'conclave';
import { survey } from '#conclave/look/survey.js';
import type { Name } from '#conclave/look/names.js';
import { onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';
import { countReads } from './reads.js';

/** A place in line as Go's `concurrency` package makes it, on a lease of its own. */
async function foreign(client: Client, name: string, value = ''): Promise<bigint> {
  const { id } = await client.lease.grant(60);
  await client.kv.put(`${name}/${id.toString(16)}`, value, { leaseId: id });
  return id;
}

onEachBackend('survey', (backend) => {
  it('finds every kind of name by its keys, who holds it and how many wait', async () => {
    const client = backend.client();
    await using one = await Session.open(client, { label: 'one' });
    await using two = await Session.open(client, { label: 'two' });
    await using mutex = await new Mutex(one, 'all/lock').lock();
    const waiting = new Mutex(two, 'all/lock').lock();
    await using _several = await new MultiMutex(one, ['all/multi']).lock();
    await using _reader = await new RWLock(one, 'all/rw').readLock();
    await using _other = await new RWLock(two, 'all/rw').readLock();
    await using _permit = await new Semaphore(one, 'all/sem', { limit: 3 }).acquire();
    await using _leader = await new Election(one, 'all/boss').campaign('secret');
    await using _closed = await new Barrier(one, 'all/gate').hold();
    const latch = new Latch(one, 'all/latch', { count: 5 });
    await latch.countDown();
    await latch.countDown(2);
    const entering = new DoubleBarrier(one, 'all/meeting', { count: 2 }).enter({ timeoutMs: 60_000 });
    entering.catch(() => undefined);
    await using queue = new JobQueue(one, 'all/jobs');
    await queue.push({ n: 1 }, { priority: 3 });
    await queue.push({ n: 2 }, { delayMs: 60_000 });
    await queue.pause();
    const goLease = await foreign(client, 'all/go');
    const goLeader = await foreign(client, 'all/go-boss', 'me');
    // What is no line: the last segment is not the lease.
    await client.kv.put('all/cache/a1b2', 'x', { leaseId: goLease });
    await client.kv.put('all/go/without-lease', 'x');

    let names: readonly Name[] = [];
    const found = (wanted: string): Name | undefined => names.find(({ name }) => name === `all/${wanted}`);
    await until(async () => {
      names = (await survey(client, { prefix: 'all/' })).names;
      return found('lock')?.waiting === 1 && found('meeting') !== undefined;
    });
    const rows = names.map(({ kind, name, holders, waiting: wait }) => {
      return [name, kind, holders.map((each) => each.label ?? each.lease), wait];
    });
    assert.deepEqual(rows, [
      ['all/boss', 'election', ['one'], 0],
      ['all/gate', 'barrier', ['one'], 0],
      ['all/go', 'lock', [goLease.toString(16)], 0],
      ['all/go-boss', 'election', [goLeader.toString(16)], 0],
      ['all/jobs', 'queue', [], 2],
      ['all/latch', 'latch', [], 0],
      ['all/lock', 'lock', ['one'], 1],
      ['all/meeting', 'double-barrier', [], 1],
      ['all/multi', 'lock', ['one'], 0],
      ['all/rw', 'rw-lock', ['one', 'two'], 0],
      ['all/sem', 'semaphore', ['one'], 0],
    ]);
    assert.equal(found('lock')?.oldestWait?.slice(0, 10), new Date().toISOString().slice(0, 10));
    assert.ok((found('lock')?.holders[0]?.leaseLeftSeconds ?? 0) > 0);
    assert.ok(!JSON.stringify(names).includes('secret'));
    assert.equal(found('sem')?.limit, 3);
    assert.deepEqual([found('latch')?.count, found('latch')?.remaining], [5, 2]);
    assert.deepEqual(found('jobs')?.jobs, { waiting: 1, delayed: 1, active: 0, dead: 0 });
    assert.equal(found('jobs')?.state, 'paused');
    assert.ok(found('jobs')?.oldestWait !== undefined);
    assert.equal(found('gate')?.state, 'held');
    assert.equal(found('meeting')?.count, 2);

    const named = async (options: Parameters<typeof survey>[1]): Promise<string[]> =>
      (await survey(client, { prefix: 'all/', ...options })).names.map(({ name }) => name);
    assert.deepEqual(await named({ kinds: ['semaphore', 'queue'] }), ['all/jobs', 'all/sem']);
    assert.deepEqual(await named({ waiting: true }), ['all/jobs', 'all/lock', 'all/meeting']);
    assert.deepEqual(await named({ heldBy: 'nowhere' }), []);
    const host = (await survey(client, { prefix: 'all/lock' })).names[0]?.holders[0]?.host ?? '';
    assert.ok((await named({ heldBy: `${host}:${process.pid}` })).includes('all/rw'));
    assert.deepEqual(await named({ prefix: 'all/l' }), ['all/latch', 'all/lock']);

    await Promise.all([mutex.unlock(), (await waiting).unlock(), one.client.lease.revoke(goLease)]);
    await client.lease.revoke(goLeader);
    await client.kv.delete({ prefix: 'all/' });
  });

  it('passes over jobs and reads few keys: 3,000 jobs and 300 waiters cost a few requests', async () => {
    const client = backend.client();
    const { id } = await client.lease.grant(60);
    const body = 'b'.repeat(100);
    const put = async (keys: readonly string[], value: string, leaseId?: bigint): Promise<void> => {
      for (let at = 0; at < keys.length; at += 100) {
        const puts = keys.slice(at, at + 100).map((key) => op.put(key, value, { leaseId }));
        await client.kv.txn({ then: puts });
      }
    };
    const numbers = [...Array(3000).keys()].map((n) => n.toString(16).padStart(12, '0'));
    await put(
      numbers.map((n) => `many/a/.queue/body/${n}`),
      body,
    );
    await put(
      numbers.map((n) => `many/a/.queue/todo/waiting/7fff/${n}/${n}`),
      '{"pushedAt":5}',
    );
    const owner = JSON.stringify({ host: 'h', pid: 7, since: '2026-01-01T00:00:00.000Z' });
    await put(
      numbers.slice(0, 300).map((n) => `many/lock/${id.toString(16)}-${n}`),
      owner,
      id,
    );

    const reads = countReads(client);
    const { names } = await survey(client, { prefix: 'many/' });
    assert.deepEqual(
      names.map(({ name, waiting }) => [name, waiting]),
      [
        ['many/a', 3000],
        ['many/lock', 299],
      ],
    );
    assert.equal(names[0]?.oldestWait, '1970-01-01T00:00:00.005Z');
    assert.ok(reads.requests <= 10, `${String(reads.requests)} requests`);
    assert.ok(reads.kvs.length < 1000, `${String(reads.kvs.length)} keys`);
    const values = reads.kvs.filter(({ value }) => value.length > 0).map(({ key }) => key);
    // The first job, the holder and the first who waits.
    assert.equal(values.length, 3, values.join());

    await client.kv.delete({ prefix: 'many/' });
    await client.lease.revoke(id);
  });
});
