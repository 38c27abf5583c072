/** Names that lie beside or below one another: what one primitive keeps there stands in no line of another. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Election, Mutex, RWLock, Semaphore } from 'conclave';
import { onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';
import { keysBelow, Sessions } from './support/sessions.js';

onEachBackend('names', (backend) => {
  test('what lies beside the line of a longer name is not in the line of a shorter one', async () => {
    const client = backend.client();
    await using sessions = new Sessions(client);
    const [one, two] = await sessions.many(2);
    assert.ok(one !== undefined && two !== undefined);
    // Both keep a key beside their line, directly below `a/`; the upgrade's is bound to a lease, as a ticket is.
    const read = await new RWLock(one, 'a/b').readLock();
    const other = await new RWLock(two, 'a/b').readLock();
    const permit = await new Semaphore(one, 'a/c', { limit: 1 }).acquire();
    const upgrading = read.upgrade();
    await until(async () => (await keysBelow(client, 'a')).includes('a/b.~upgrade'));
    assert.ok((await keysBelow(client, 'a')).includes('a/c.~limit'));

    const mutex = new Mutex(two, 'a');
    for (const take of [() => mutex.tryLock(), () => mutex.lock({ timeoutMs: 5000 })]) {
      const lock = await take();
      assert.ok(lock?.held);
      const { holders, waiters } = await mutex.inspect();
      assert.deepEqual([holders.map(({ key }) => key), waiters], [[lock.key], []]);
      await lock.unlock();
    }
    const elected = await new Election(two, 'a').tryCampaign('me');
    assert.equal((await new Election(one, 'a').leader())?.key, elected?.key);
    await elected?.resign();

    await Promise.all([other.unlock(), permit.release()]);
    await (await upgrading).unlock();
    assert.deepEqual(await keysBelow(client, 'a'), []);
  });
});
