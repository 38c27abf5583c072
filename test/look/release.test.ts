import assert from 'node:assert/strict';
import { it } from 'node:test';

import { Barrier, Election, Mutex, Semaphore, Session } from 'conclave';
import { planRelease, release, type ReleasePlan, type ReleaseRequest } from '#conclave/look/release.js';
import { onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';

onEachBackend('release', (backend) => {
  const plan = async (request: ReleaseRequest): Promise<ReleasePlan> => {
    const made = await planRelease(backend.client(), request);
    assert.ok('from' in made, JSON.stringify(made));
    return made;
  };

  it('takes a lock from its holder, whose signal aborts, and gives it to the next', async () => {
    const client = backend.client();
    await using one = await Session.open(client, { label: 'one' });
    await using two = await Session.open(client, { label: 'two' });
    const held = await new Mutex(one, 'taken').lock();
    const mutex = new Mutex(two, 'taken');
    const waiting = mutex.lock();
    await until(async () => (await mutex.inspect()).waiters.length === 1);

    const made = await plan({ name: 'taken' });
    assert.deepEqual([made.from.label, made.next?.label, made.keys], ['one', 'two', [held.key]]);
    assert.equal(await release(client, made), 'done');
    const next = await waiting;
    await until(() => held.signal.aborted);
    // The next holder is another one than the plan has seen.
    assert.equal(await release(client, made), 'changed');
    assert.ok(next.held);
    await next.unlock();
    assert.deepEqual(await planRelease(client, { name: 'taken' }), { is: 'nobody' });
  });

  it('is refused when the holder has written its key since, and when its lease bears another key', async () => {
    const client = backend.client();
    await using one = await Session.open(client);
    const leader = await new Election(one, 'boss').campaign('a');
    const [byKey, byLease] = [await plan({ name: 'boss' }), await plan({ lease: true, name: 'boss' })];
    assert.equal(byKey.keys.length, 2);
    await client.kv.put('beside', 'x', { leaseId: one.leaseId });
    assert.equal(await release(client, byLease), 'changed');
    await leader.proclaim('b');
    assert.equal(await release(client, byKey), 'changed');
    assert.ok(leader.held);
    const seen = await plan({ lease: true, name: 'boss' });
    assert.ok(seen.keys.includes('beside'), seen.keys.join());
    assert.equal(await release(client, seen), 'done');
    await until(() => leader.signal.aborted);
    assert.equal((await client.lease.timeToLive(one.leaseId)).ttlSeconds, -1);
  });

  it('wants one of several holders named, takes one who waits out of the line, and opens a barrier', async () => {
    const client = backend.client();
    await using one = await Session.open(client, { label: 'one' });
    await using two = await Session.open(client, { label: 'two' });
    const [ours, theirs] = [one, two].map((each) => new Semaphore(each, 'few', { limit: 2 }));
    assert.ok(ours !== undefined && theirs !== undefined);
    const [first, second] = [await ours.acquire(), await theirs.acquire()];
    const several = await planRelease(client, { name: 'few' });
    assert.deepEqual(several, {
      is: 'several',
      of: [first, second].map(({ key }) => ({ key, kind: 'semaphore' })),
    });
    const waiting = ours.acquire();
    waiting.catch(() => undefined);
    const [waiter] = await until(async () => {
      const { waiters } = await ours.inspect();
      return waiters.length === 1 && waiters;
    });
    assert.equal(await release(client, await plan({ name: 'few', waiter: waiter?.key })), 'done');
    await assert.rejects(waiting, { code: 'TICKET_LOST' });
    assert.equal(await release(client, await plan({ holder: second.key, name: 'few' })), 'done');
    await until(() => second.signal.aborted);
    assert.ok(first.held);
    await first.release();

    const barrier = new Barrier(one, 'gate');
    await barrier.hold();
    assert.equal(await release(client, await plan({ name: 'gate' })), 'done');
    await barrier.wait();
    await client.kv.delete({ prefix: 'few' });
  });
});
