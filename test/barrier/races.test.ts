// Barriers, held up at one request by a fault proxy, so that others come in between; on both backends.
import assert from 'node:assert/strict';
import { it } from 'node:test';

import { Barrier, DoubleBarrier } from 'conclave';
import { services } from '#conclave/proto/services.js';

import { RPC, Scene } from '../faults/scene.js';
import { onEachBackend } from '../support/backends.js';
import { code, settlesSoon } from '../support/world.js';

const isHold = (message: Buffer): boolean => message.includes('ifHolderDies');

/** A transaction that says that a round is full. */
function declares(message: Buffer): boolean {
  const { success } = services.KV.Txn.requestDeserialize(message);
  return success.some((op) => op.requestPut?.key.toString().endsWith('/ready') === true);
}

onEachBackend('Barriers, others in between', (backend) => {
  it('ends a wait that began before it was opened, and was held again before the wait could watch', async (t) => {
    const scene = new Scene(t, backend);
    const proxy = await scene.proxy();
    const barrier = new Barrier(scene.direct, 'again');
    await barrier.hold({ ifHolderDies: 'stay' });
    const watching = proxy.onCall(RPC.watch, 'holdRequest');
    const waiting = new Barrier(scene.client(proxy), 'again').wait({ timeoutMs: 20_000 });
    await watching.hit();
    await barrier.release();
    await barrier.hold({ ifHolderDies: 'stay' });
    watching.release();
    await waiting;
    await barrier.release();
  });

  it('lets one of two take over a broken barrier that both have seen broken', async (t) => {
    const scene = new Scene(t, backend);
    const proxy = await scene.proxy();
    const dying = await scene.session(scene.direct);
    await new Barrier(dying, 'broken').hold();
    await scene.direct.lease.revoke(dying.leaseId);
    const holding = proxy.onCall(RPC.txn, 'holdRequest', { where: isHold });
    const barriers = [1, 2].map(() => new Barrier(scene.client(proxy), 'broken'));
    const holds = barriers.map((barrier) => barrier.hold({ ifHolderDies: 'stay' }));
    const outcomes = Promise.allSettled(holds);
    await holding.hit(2);
    holding.release();
    const failed = (await outcomes).filter((outcome) => outcome.status === 'rejected');
    assert.equal(failed.length, 1);
    assert.ok(code('ALREADY_HELD')(failed[0]?.reason));
    assert.equal(await new Barrier(scene.direct, 'broken').reset(), true);
  });

  it('declares no round full with a party that has given up since it was counted', async (t) => {
    const scene = new Scene(t, backend);
    const proxy = await scene.proxy();
    const [near, far] = [await scene.session(scene.direct), await scene.session(scene.client(proxy))];
    const stop = new AbortController();
    const entering = new DoubleBarrier(near, 'counted', { count: 2 }).enter({ signal: stop.signal });
    const gaveUp = assert.rejects(entering, /enough/);
    await scene.untilKeys('counted/.double-barrier/party/', 1);
    const declaring = proxy.onCall(RPC.txn, 'holdRequest', { times: 1, where: declares });
    const last = new DoubleBarrier(far, 'counted', { count: 2 });
    const alone = last.enter();
    await declaring.hit();
    stop.abort(new Error('enough'));
    await gaveUp;
    declaring.release();
    assert.equal(await settlesSoon(alone), false);
    // The next one makes it full.
    const other = new DoubleBarrier(near, 'counted', { count: 2 });
    assert.equal(await other.enter(), await alone);
    await Promise.all([last.leave(), other.leave()]);
  });
});
