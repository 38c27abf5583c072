// Upgrades under faults: of the request, of the write that grants it, and of those who wait behind.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { hasCode, op, type ReadLock, RWLock, type WriteLock } from 'conclave';
import { ManualClock } from 'conclave/testing';
import { services } from '#conclave/proto/services.js';

import { onEachBackend } from '../support/backends.js';
import { deletes, fate, RPC, Scene, timed } from './scene.js';

interface Overtaken {
  readonly read: ReadLock;
  readonly upgrading: Promise<WriteLock>;
  /** The reader that was let in, and the lock as its session has it. */
  readonly beside: ReadLock;
  readonly others: RWLock;
}

onEachBackend('upgrades under faults', (backend) => {
  test('the answers to an upgrade are lost: the request, and the write that grants it', async (t) => {
    const scene = new Scene(t, backend);
    const proxy = await scene.proxy();
    const session = await scene.session(scene.client(proxy), { ttlSeconds: 20 });
    const read = await new RWLock(session, 'x/up').readLock();
    const fault = proxy.onCall(RPC.txn, 'dropReply', { then: 'cut', times: 2 });
    const write = await read.upgrade();
    assert.equal(fault.hits, 2);
    assert.ok(write.held && write.fencingToken > read.fencingToken);
    const lost = proxy.swallowNextReply({ method: RPC.txn, then: 'cut' });
    const again = await write.downgrade();
    assert.equal(lost.hits, 1);
    assert.ok(again.held && again.fencingToken > write.fencingToken);
    assert.equal((await again.txn({ then: [] })).succeeded, true);
    await again.unlock();
    assert.deepEqual(await scene.keys('x/'), []);
  });

  test('an upgrade whose key is removed while the write that grants it is under way holds nothing', async (t) => {
    const scene = new Scene(t, backend);
    const proxy = await scene.proxy();
    const session = await scene.session(scene.client(proxy), { ttlSeconds: 20 });
    const read = await new RWLock(session, 'x/up').readLock();
    const other = await new RWLock(await scene.session(scene.direct), 'x/up').readLock();
    const upgrading = read.upgrade();
    upgrading.catch(() => undefined); // It may reject before it is waited for.
    await scene.untilKeys('x/', 3);
    const held = proxy.onCall(RPC.txn, 'holdRequest');
    await other.unlock();
    await proxy.waitFor(() => held.hits > 0);
    await scene.direct.kv.delete(read.key);
    const refused = assert.rejects(upgrading, (error) => hasCode(error, 'NOT_HELD', 'TICKET_LOST'));
    held.release();
    await refused;
    assert.equal(read.held, false);
    await scene.untilKeys('x/', 0);
  });

  test('an upgrade whose request is lost in silence is withdrawn, and the read hold goes on', async (t) => {
    const scene = new Scene(t, backend);
    const proxy = await scene.proxy();
    const session = await scene.session(scene.client(proxy), { ttlSeconds: 20 });
    const read = await new RWLock(session, 'x/up').readLock();
    proxy.swallowNextReply({ method: RPC.txn, then: 'silence' });
    const { error } = await timed(read.upgrade());
    assert.ok(hasCode(error, 'UNKNOWN_OUTCOME'), String(error));
    assert.ok(read.held);
    await scene.untilKeys('x/', 1);
    await read.unlock();
    assert.deepEqual(await scene.keys('x/'), []);
  });

  /**
   * A reader's upgrade, refused at the last moment: the writer behind it left while the write that grants the upgrade was
   * on its way, so that the reader behind that writer was let in.
   */
  async function overtaken(scene: Scene, signal?: AbortSignal): Promise<Overtaken> {
    const proxy = await scene.proxy();
    const session = await scene.session(scene.client(proxy), { ttlSeconds: 20 });
    const read = await new RWLock(session, 'x/up').readLock();
    const others = new RWLock(await scene.session(scene.direct), 'x/up');
    const stop = new AbortController();
    const writing = timed(others.writeLock({ signal: stop.signal }));
    await scene.untilKeys('x/', 2);
    const reading = others.readLock();
    await scene.untilKeys('x/', 3);
    // The one reader that holds: the other waits behind the writer.
    const grant = proxy.onCall(RPC.txn, 'holdRequest', { times: 1, where: deletes });
    const upgrading = read.upgrade({ signal });
    upgrading.catch(() => undefined); // It may reject before it is waited for.
    await grant.hit();
    stop.abort(new Error('enough'));
    assert.match(String((await writing).error), /enough/);
    const beside = await reading;
    const answered = proxy.replies(RPC.txn);
    grant.release();
    // Refused, and it has looked why; or granted.
    await Promise.race([upgrading, proxy.waitFor(() => proxy.replies(RPC.txn) > answered + 1)]);
    return { beside, others, read, upgrading };
  }

  test('a reader that waits behind a writer is let in when that one leaves, and never beside the upgraded writer', async (t) => {
    const scene = new Scene(t, backend);
    const { beside, others, read, upgrading } = await overtaken(scene);
    const { holders } = await others.inspect();
    assert.deepEqual([holders.map(({ mode }) => mode), fate(upgrading).state], [['read', 'read'], 'pending']);
    assert.ok(beside.held && read.held);
    assert.equal((await beside.txn({ then: [] })).succeeded, true);
    await beside.unlock();
    const write = await upgrading;
    assert.ok(write.held && write.fencingToken > beside.fencingToken);
    await write.txn({ then: [] });
    await write.unlock();
    assert.deepEqual(await scene.keys('x/'), []);
  });

  test('an upgrade that is aborted while it waits once more, for who was let in, leaves the read hold as it was', async (t) => {
    const scene = new Scene(t, backend);
    const stop = new AbortController();
    const { beside, read, upgrading } = await overtaken(scene, stop.signal);
    stop.abort(new Error('changed my mind'));
    await assert.rejects(upgrading, /changed my mind/);
    assert.ok(read.held && beside.held);
    assert.equal((await read.txn({ then: [] })).succeeded, true);
    assert.deepEqual(await scene.keys('x/'), [read.key, beside.key], 'the request is gone');
    await beside.unlock();
    await (await read.upgrade()).unlock();
    assert.deepEqual(await scene.keys('x/'), []);
  });

  test('a downgrade of which nobody can tell what came of it gives the lock up', async (t) => {
    const scene = new Scene(t, backend);
    const proxy = await scene.proxy();
    const session = await scene.session(scene.client(proxy, { timeoutMs: 500 }), { ttlSeconds: 20 });
    const write = await new RWLock(session, 'x/up').writeLock();
    const fault = proxy.onCall(RPC.txn, 'dropReply', { then: 'silence', times: 2 });
    await assert.rejects(write.downgrade(), { code: 'UNKNOWN_OUTCOME' });
    assert.ok(fault.hits > 0);
    assert.equal(write.held, false);
    await scene.untilKeys('x/', 0);
    assert.equal(session.state, 'active');
  });

  test('an upgrade whose answer is overdue is not taken for a stranger’s write by who follows the key', async (t) => {
    const scene = new Scene(t, backend);
    const proxy = await scene.proxy();
    const clock = new ManualClock();
    const client = scene.client(proxy, { clock });
    const read = await new RWLock(await scene.session(client, { ttlSeconds: 20 }), 'x/up').readLock();
    await clock.advance(1000); // From now on, the hold is followed.
    const overdue = proxy.onCall(RPC.txn, 'holdReply', { times: 1, where: hasDeleted });
    const upgrading = read.upgrade();
    await overdue.hit();
    const seen = proxy.replies(RPC.watch);
    await client.kv.put('x/up/data/1', 'moves the line on');
    await proxy.waitFor(() => proxy.replies(RPC.watch) > seen);
    await client.kv.txn({ then: [op.delete('x/up/data/1')] });
    assert.ok(read.held);
    overdue.release();
    const write = await upgrading;
    assert.ok(write.held);
    await write.unlock();
    assert.deepEqual(await scene.keys('x/'), []);
  });
});

/** Whether a transaction, as answered, has deleted something. */
function hasDeleted(message: Buffer): boolean {
  const { responses } = services.KV.Txn.responseDeserialize(message);
  return responses.some((response) => response.responseDeleteRange != null);
}
