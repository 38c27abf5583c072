// Upgrades and downgrades that lose one of their two keys, or whose answer is late.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { type ReadLock, RWLock } from 'conclave';
import { services } from '#conclave/proto/services.js';

import { onEachBackend } from '../support/backends.js';
import { code } from '../support/world.js';
import { deletes, fate, RPC, Scene } from './scene.js';

/** A test that hangs without what it tests. */
const LIMIT = { timeout: 60_000 } as const;

onEachBackend('upgrades that lose a key', (backend) => {
  /** The lock on a session of its own, that no fault strikes. */
  async function lockOf(scene: Scene): Promise<RWLock> {
    return new RWLock(await scene.session(scene.direct, { ttlSeconds: 60 }), 'x/up');
  }

  /** The lock behind a proxy. */
  async function farLock(scene: Scene) {
    const proxy = await scene.proxy();
    const session = await scene.session(scene.client(proxy), { ttlSeconds: 60 });
    return { lock: new RWLock(session, 'x/up'), proxy };
  }

  async function nothingLeft(scene: Scene, ...holds: readonly ReadLock[]): Promise<void> {
    for (const hold of holds) await hold.unlock();
    assert.deepEqual(await scene.keys('x/'), []);
  }

  test(
    'an upgrade whose request is removed from outside says so, and the reader reads on',
    LIMIT,
    async (t) => {
      const scene = new Scene(t, backend);
      const [one, two] = [await lockOf(scene), await lockOf(scene)];
      const [first, second] = [await one.readLock(), await two.readLock()];
      const refused = assert.rejects(first.upgrade(), code('TICKET_LOST'));
      await scene.untilKeys('x/up.~upgrade', 1);
      await scene.direct.kv.delete('x/up.~upgrade');
      await refused;
      assert.ok(first.held && !first.wasLost);
      assert.equal((await first.txn({ then: [] })).succeeded, true);
      // And neither is in the way of the other's next one.
      const upgrading = second.upgrade();
      await scene.untilKeys('x/up.~upgrade', 1);
      await first.unlock();
      await (await upgrading).unlock();
      await nothingLeft(scene);
    },
  );

  test(
    'a request that is removed while the grant is under way grants nothing, and another reader’s is granted alone',
    LIMIT,
    async (t) => {
      const scene = new Scene(t, backend);
      const [{ lock, proxy }, other] = [await farLock(scene), await lockOf(scene)];
      const first = await lock.readLock();
      const grant = proxy.onCall(RPC.txn, 'holdRequest', { times: 1, where: deletes });
      const refused = assert.rejects(first.upgrade(), code('TICKET_LOST'));
      await grant.hit();
      await scene.direct.kv.delete('x/up.~upgrade');
      const second = await other.readLock();
      const upgrading = second.upgrade();
      await scene.untilKeys('x/up.~upgrade', 1);
      grant.release();
      await refused;
      assert.ok(first.held);
      const { holders } = await other.inspect();
      assert.deepEqual(
        [holders.map(({ mode }) => mode), fate(upgrading).state],
        [['read', 'read'], 'pending'],
      );
      await first.unlock();
      await (await upgrading).unlock();
      await nothingLeft(scene);
    },
  );

  test(
    'a transaction through a reader that is the writer by now, unknown to us, loses nothing',
    LIMIT,
    async (t) => {
      const scene = new Scene(t, backend);
      const { lock, proxy } = await farLock(scene);
      const read = await lock.readLock();
      const late = proxy.onCall(RPC.txn, 'holdReply', { times: 1, where: hasDeleted });
      const upgrading = read.upgrade();
      await late.hit();
      const answered = proxy.replies(RPC.txn);
      const refused = assert.rejects(read.txn({ then: [] }), code('NOT_HELD'));
      await proxy.waitFor(() => proxy.replies(RPC.txn) > answered);
      await lock.inspect(); // On the same connection: what was answered before is here.
      late.release();
      const write = await upgrading;
      await refused;
      assert.deepEqual([write.held, read.held, read.wasLost], [true, false, false]);
      assert.equal((await write.txn({ then: [] })).succeeded, true);
      await write.unlock();
      await nothingLeft(scene);
    },
  );

  test(
    'a reader that is unlocked while its grant is not answered yet leaves no writer behind',
    LIMIT,
    async (t) => {
      const scene = new Scene(t, backend);
      const { lock, proxy } = await farLock(scene);
      const read = await lock.readLock();
      const late = proxy.onCall(RPC.txn, 'holdReply', { times: 1, where: hasDeleted });
      const refused = assert.rejects(read.upgrade(), code('NOT_HELD'));
      await late.hit();
      const unlocking = read.unlock();
      late.release();
      await refused;
      await unlocking;
      await nothingLeft(scene);
    },
  );

  test('writers that come after the request and go again do not hold its grant up', LIMIT, async (t) => {
    const scene = new Scene(t, backend);
    const [{ lock, proxy }, other] = [await farLock(scene), await lockOf(scene)];
    const read = await lock.readLock();
    const beside = await other.readLock();
    const upgrading = read.upgrade();
    await scene.untilKeys('x/up.~upgrade', 1);
    const stop = new AbortController();
    const enough = assert.rejects(other.writeLock({ signal: stop.signal }), /enough/);
    await scene.untilKeys('x/', 4);
    const grants = proxy.onCall(RPC.txn, 'holdRequest', { where: deletes });
    await beside.unlock();
    await grants.hit();
    const sent = proxy.requests(RPC.txn);
    stop.abort(new Error('enough'));
    await enough;
    grants.release();
    const write = await upgrading;
    assert.ok(write.held);
    assert.equal(proxy.requests(RPC.txn), sent + 1, 'granted at the first try');
    await write.unlock();
    await nothingLeft(scene);
  });

  test('a downgrade ends the write hold before a reader that waits is let in', LIMIT, async (t) => {
    const scene = new Scene(t, backend);
    const [{ lock, proxy }, other] = [await farLock(scene), await lockOf(scene)];
    const write = await lock.writeLock();
    const reading = other.readLock();
    await scene.untilKeys('x/', 2);
    const late = proxy.onCall(RPC.txn, 'holdReply', { times: 1 });
    const downgrading = write.downgrade();
    const beside = await reading;
    assert.deepEqual([write.held, fate(downgrading).state], [false, 'pending']);
    late.release();
    await nothingLeft(scene, await downgrading, beside);
  });
});

/** Whether a transaction, as answered, has deleted something. */
function hasDeleted(message: Buffer): boolean {
  const { responses } = services.KV.Txn.responseDeserialize(message);
  return responses.some((response) => response.responseDeleteRange != null);
}
