// Holds that lose a key, above all several locks at once: while others are waited for, at the last moment, and while they are held.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { MultiMutex, Mutex } from 'conclave';
import { services } from '#conclave/proto/services.js';

import { onEachBackend } from '../support/backends.js';
import { code } from '../support/world.js';
import { RPC, Scene } from './scene.js';
import { TAKES } from './takes.js';

/** A test that hangs without what it tests. */
const LIMIT = { timeout: 60_000 } as const;

onEachBackend('several locks under faults', (backend) => {
  test('who waits for one name hears at once that the key below another is gone', LIMIT, async (t) => {
    const scene = new Scene(t, backend);
    const other = await scene.session(scene.direct, { ttlSeconds: 60 });
    const session = await scene.session(scene.client(backend.endpoints), { ttlSeconds: 60 });
    const busy = await new Mutex(other, 'x/b').lock();
    const locking = new MultiMutex(session, ['x/a', 'x/b', 'x/c']).lock();
    const refused = assert.rejects(locking, code('TICKET_LOST'));
    await scene.untilKeys('x/', 4);
    await scene.direct.kv.delete({ prefix: 'x/a/' });
    await refused;
    assert.ok(busy.held);
    assert.deepEqual(await scene.keys('x/'), [busy.key], 'and it has left all the others');
    await busy.unlock();
  });

  test('proof that is old when the last name comes free is no proof', LIMIT, async (t) => {
    const scene = new Scene(t, backend);
    const proxy = await scene.proxy();
    const other = await scene.session(scene.direct, { ttlSeconds: 60 });
    const session = await scene.session(scene.client(proxy), { ttlSeconds: 60 });
    const busy = await new Mutex(other, 'x/b').lock();
    const locking = new MultiMutex(session, ['x/a', 'x/b']).lock();
    locking.catch(() => undefined); // It may reject before it is waited for.
    await scene.untilKeys('x/', 3);
    const proof = proxy.onCall(RPC.txn, 'holdRequest', { where: onlyLooks });
    await busy.unlock();
    await proof.hit();
    // From now on, no line is told anything.
    const events = proxy.onCall(RPC.watch, 'holdReply');
    await scene.direct.kv.delete({ prefix: 'x/a/' });
    const taken = await new Mutex(other, 'x/a').lock();
    const refused = assert.rejects(locking, code('TICKET_LOST'));
    proof.release();
    await refused;
    events.release();
    assert.ok(taken.held);
    await taken.unlock();
    await scene.untilKeys('x/', 0);
  });

  test('locks of which one is lost give the others back by themselves', LIMIT, async (t) => {
    const scene = new Scene(t, backend);
    const other = await scene.session(scene.direct, { ttlSeconds: 60 });
    const session = await scene.session(scene.client(backend.endpoints), { ttlSeconds: 60 });
    const lock = await new MultiMutex(session, ['x/a', 'x/b']).lock();
    const waiting = new Mutex(other, 'x/b').lock();
    await scene.untilKeys('x/', 3);
    const [gone = ''] = lock.keys;
    await scene.direct.kv.delete(gone);
    const next = await waiting;
    assert.deepEqual([lock.held, lock.wasLost], [false, true]);
    await lock.unlock();
    assert.ok(next.held);
    await next.unlock();
    assert.deepEqual(await scene.keys('x/'), []);
  });

  for (const what of ['a permit', 'a read lock', 'a write lock']) {
    test(
      `${what} whose key a stranger has written to is lost, and what is left goes by itself`,
      LIMIT,
      async (t) => {
        const scene = new Scene(t, backend);
        const session = await scene.session(scene.client(backend.endpoints), { ttlSeconds: 60 });
        const { hold } = (await TAKES[what]?.(session)) ?? {};
        assert.ok(hold?.held);
        await scene.direct.kv.put(hold.key, 'stranger', { leaseId: session.leaseId });
        await assert.rejects(hold.txn({ then: [] }), code('NOT_HELD'));
        assert.ok(hold.wasLost);
        await scene.untilKeys('x/', 0);
      },
    );
  }
});

/** Whether a transaction, as sent, writes nothing and compares something. */
function onlyLooks(message: Buffer): boolean {
  const { compare, failure, success } = services.KV.Txn.requestDeserialize(message);
  return compare.length > 0 && [...success, ...failure].every((each) => each.requestRange != null);
}
