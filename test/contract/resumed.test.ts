/** A session that is resumed by its lease: what the earlier life left, and nobody can take up again, blocks nobody. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { type Client, Election, MultiMutex, Mutex, RWLock, Semaphore } from 'conclave';
import { onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';
import { Sessions, untilKeysBelow } from './support/sessions.js';

onEachBackend('a resumed lease', (backend) => {
  let client: Client;
  before(() => {
    client = backend.client();
  });

  test('read and write locks, permits, several locks and waits of the earlier life are given back', async () => {
    await using sessions = new Sessions(client);
    const earlier = await sessions.open();
    await new RWLock(earlier, 'r/rw').writeLock();
    await new Semaphore(earlier, 'r/sem', { limit: 1 }).acquire();
    await new MultiMutex(earlier, ['r/a', 'r/b']).lock();
    const reads = new RWLock(earlier, 'r/up');
    const [read] = [await reads.readLock(), await reads.readLock()];
    const waits = [new RWLock(earlier, 'r/rw').readLock(), read.upgrade()];
    await until(async () => (await client.kv.get('r/up.~upgrade')) !== undefined);
    await untilKeysBelow(client, 'r/rw', 2);
    earlier.orphan();
    await Promise.allSettled(waits);

    const later = await sessions.open({ leaseId: earlier.leaseId });
    const others = await sessions.open();
    for (const session of [others, later]) {
      const limits = { timeoutMs: 10_000 };
      const holds = [
        await new RWLock(session, 'r/rw').writeLock(limits),
        await new Semaphore(session, 'r/sem', { limit: 1 }).acquire(limits),
        await new MultiMutex(session, ['r/b', 'r/a']).lock(limits),
        await (await new RWLock(session, 'r/up').readLock(limits)).upgrade(limits),
      ];
      for (const hold of holds) await hold[Symbol.asyncDispose]();
    }
    const { kvs } = await client.kv.range({ prefix: 'r/' });
    assert.deepEqual(
      kvs.map((kv) => kv.key),
      [],
    );
  });

  test('what can be taken up again, and what is somebody’s own, stays', async () => {
    await using sessions = new Sessions(client);
    const earlier = await sessions.open();
    const { leaseId } = earlier;
    const lock = await new Mutex(earlier, 'r/mutex').lock();
    const led = await new Election(earlier, 'r/election').campaign('me');
    const mine = ['r/own', `r/${leaseId.toString(16)}-x`, 'r/own.~upgrade', 'r/.~', 'r/own.~json'];
    for (const key of mine)
      await client.kv.put(key, key.endsWith('json') ? '{"ticket":1}' : 'x', { leaseId });
    const foreign = await new RWLock(await sessions.open(), 'r/rw').readLock();
    earlier.orphan();
    await sessions.open({ leaseId });
    for (const key of [...mine, lock.key, led.key, foreign.key]) {
      assert.ok((await client.kv.get(key)) !== undefined, key);
    }
    await foreign.unlock();
  });

  test('more keys than fit into one transaction are given back', async () => {
    await using sessions = new Sessions(client);
    const earlier = await sessions.open();
    const locks = Array.from({ length: 300 }, (_, at) => new RWLock(earlier, `r/${at}`).readLock());
    await Promise.all(locks);
    earlier.orphan();
    await sessions.open({ leaseId: earlier.leaseId });
    assert.equal((await client.kv.range({ prefix: 'r/' })).count, 0n);
  });
});
