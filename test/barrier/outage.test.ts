// Barrier and Latch while etcd cannot be reached, or its answers are lost; on both backends.
import assert from 'node:assert/strict';
import { it, type TestContext } from 'node:test';

import { Barrier, type Client, Latch } from 'conclave';
import type { FaultProxy } from 'conclave/testing';

import { fate, RPC, Scene } from '../faults/scene.js';
import { onBackends } from '../support/backends.js';
import { code } from '../support/world.js';

onBackends(['etcd'], 'Barrier and Latch in an outage', (backend) => {
  const far = async (
    t: TestContext,
    timeoutMs: number,
  ): Promise<{ scene: Scene; proxy: FaultProxy; client: Client }> => {
    const scene = new Scene(t, backend);
    const proxy = await scene.proxy();
    return { client: scene.client(proxy, { timeoutMs }), proxy, scene };
  };

  it('goes on with a wait that has a limit of its own and was begun in an outage; others end as calls do', async (t) => {
    const { scene, proxy, client } = await far(t, 300);
    const latch = new Latch(scene.direct, 'begun', { count: 1 });
    await proxy.refuse();
    const stop = new AbortController();
    const limits = [{ timeoutMs: 60_000 }, { signal: stop.signal }];
    const waits = limits.flatMap((limit) => [
      new Barrier(client, 'begun').wait(limit),
      new Latch(client, 'begun', { count: 1 }).wait(limit),
    ]);
    const fates = waits.map(fate);
    await assert.rejects(new Barrier(client, 'begun').wait(), code('UNAVAILABLE'));
    await assert.rejects(new Latch(client, 'begun', { count: 1 }).wait(), code('UNAVAILABLE'));
    await assert.rejects(new Barrier(client, 'begun').wait({ timeoutMs: 400 }), code('TIMEOUT'));
    assert.deepEqual(
      fates.map(({ state }) => state),
      ['pending', 'pending', 'pending', 'pending'],
    );
    await proxy.accept();
    await latch.countDown();
    await Promise.all(waits);
    await latch.delete();
  });

  it('finds out, when it is called again, that a release whose answers were lost has opened the barrier', async (t) => {
    const { scene, proxy, client } = await far(t, 400);
    const session = await scene.session(client, { ttlSeconds: 600 });
    for (const ifHolderDies of ['break', 'open', 'stay'] as const) {
      const barrier = new Barrier(session, 'found-out');
      const hold = await barrier.hold({ ifHolderDies });
      const lost = proxy.onCall(RPC.txn, 'dropReply', { then: 'silence', times: 1000 });
      await assert.rejects(barrier.release(), code('UNKNOWN_OUTCOME'));
      lost.release();
      await proxy.heal();
      // Somebody else may hold it by now.
      const next = await new Barrier(session, 'found-out').hold();
      await hold.release();
      await assert.rejects(barrier.release(), code('NOT_HELD'));
      assert.ok(next.held);
      await next.release();
    }
  });

  it('says that a barrier broke, when a release whose request was lost is called again after that', async (t) => {
    const { scene, proxy, client } = await far(t, 400);
    const session = await scene.session(client, { ttlSeconds: 600 });
    const barrier = new Barrier(session, 'broke');
    await barrier.hold();
    const lost = proxy.onCall(RPC.txn, 'dropRequest', { then: 'silence', times: 1000 });
    await assert.rejects(barrier.release(), code('UNKNOWN_OUTCOME'));
    lost.release();
    await proxy.heal();
    await scene.direct.lease.revoke(session.leaseId);
    await assert.rejects(barrier.release(), code('NOT_HELD'));
    const seen = new Barrier(scene.direct, 'broke');
    assert.equal((await seen.inspect()).state, 'broken');
    await seen.reset();
  });

  it('goes on opening a barrier whose holding was given up in an outage, also when its session is over', async (t) => {
    const { scene, proxy, client } = await far(t, 500);
    const session = await scene.session(client, { ttlSeconds: 600 });
    const swallowed = proxy.onCall(RPC.txn, 'dropReply', {
      then: 'silence',
      where: (message) => message.includes('ifHolderDies'),
    });
    const holding = assert.rejects(
      new Barrier(session, 'cut-off').hold({ timeoutMs: 60_000 }),
      code('CLOSED'),
    );
    await swallowed.hit();
    await proxy.refuse();
    proxy.cut();
    await Promise.all([holding, session.close().catch(() => undefined)]);
    assert.equal((await new Barrier(scene.direct, 'cut-off').inspect()).state, 'held');
    await proxy.accept();
    await new Barrier(scene.direct, 'cut-off').wait({ timeoutMs: 10_000 });
  });

  it('makes a latch and counts it down once, when three answers on the way are lost', async (t) => {
    const { scene, proxy, client } = await far(t, 300);
    const latch = new Latch(client, 'thrice', { count: 3 });
    const lost = proxy.onCall(RPC.txn, 'dropReply', { then: 'silence', times: 3 });
    await latch.countDown();
    assert.equal(lost.hits, 3);
    const seen = new Latch(scene.direct, 'thrice', { count: 3 });
    assert.equal(await seen.count(), 2);
    await seen.delete();
  });

  it('never says for certain that a count whose answer was lost did not go through', async (t) => {
    const { scene, proxy, client } = await far(t, 300);
    const latch = new Latch(client, 'unsure', { count: 3 });
    await latch.count();
    const lost = proxy.onCall(RPC.txn, 'dropReply', { then: 'silence' });
    const rejected = assert.rejects(latch.countDown(), code('UNKNOWN_OUTCOME'));
    await lost.hit();
    // From now on nothing leaves: each further try would say so of itself.
    await proxy.refuse();
    proxy.cut();
    await rejected;
    await assert.rejects(latch.countDown(), code('UNAVAILABLE'));
    const seen = new Latch(scene.direct, 'unsure', { count: 3 });
    assert.equal(await seen.count(), 2);
    await seen.delete();
  });
});
