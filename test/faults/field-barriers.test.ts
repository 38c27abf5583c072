// Fault 6 of others (README.md): a watch that dies, is closed or is compacted is never success. And no lost answer is taken for a
// no, or for a yes. On a real etcd behind the fault proxy.
import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';

import { Barrier, type Client, DoubleBarrier, hasCode, Latch } from 'conclave';
import { type FaultProxy } from 'conclave/testing';
import { etcdOfSuite, fate, LOSSES, RPC, Scene, type Stage } from './scene.js';

const coded = (code: string) => (error: unknown) => hasCode(error) && error.code === code;

/** A wait under way behind a proxy, which must end when `finish` was called, and not before. */
interface Wait {
  readonly proxy: FaultProxy;
  readonly client: Client;
  readonly scene: Scene;
  readonly waiting: Promise<unknown>;
  /** Makes the wait come true, from elsewhere. */
  readonly finish: () => Promise<unknown>;
  /** After the wait came true: gives back what was taken. */
  readonly tidy: () => Promise<unknown>;
}

type Begin = (t: TestContext, etcd: Stage) => Promise<Wait>;

/** Resolves once the wait stands on its watch: opened, and read after that. */
async function watching(proxy: FaultProxy, begin: () => Promise<unknown>): Promise<Promise<unknown>[]> {
  const before = proxy.replies(RPC.range);
  const waiting = begin();
  waiting.catch(() => undefined);
  await proxy.waitFor(() => proxy.replies(RPC.range) >= before + 2);
  return [waiting];
}

const barrierWait: Begin = async (t, etcd) => {
  const scene = new Scene(t, etcd);
  const proxy = await scene.proxy();
  const client = scene.client(proxy);
  const barrier = new Barrier(await scene.session(scene.direct), 'f6b');
  await barrier.hold();
  const [waiting] = await watching(proxy, async () => new Barrier(client, 'f6b').wait());
  scene.atEnd(() => barrier.reset());
  return {
    client,
    finish: () => barrier.release(),
    proxy,
    scene,
    tidy: async () => undefined,
    waiting: waiting as Promise<unknown>,
  };
};

const latchWait: Begin = async (t, etcd) => {
  const scene = new Scene(t, etcd);
  const proxy = await scene.proxy();
  const client = scene.client(proxy);
  const latch = new Latch(scene.direct, 'f6l', { count: 2 });
  await latch.countDown();
  const [waiting] = await watching(proxy, async () => new Latch(client, 'f6l', { count: 2 }).wait());
  scene.atEnd(() => latch.delete());
  return {
    client,
    finish: () => latch.countDown(),
    proxy,
    scene,
    tidy: async () => undefined,
    waiting: waiting as Promise<unknown>,
  };
};

const doubleEnter: Begin = async (t, etcd) => {
  const scene = new Scene(t, etcd);
  const proxy = await scene.proxy();
  const client = scene.client(proxy);
  const ours = new DoubleBarrier(await scene.session(client, { ttlSeconds: 20 }), 'f6d', { count: 2 });
  const theirs = new DoubleBarrier(await scene.session(scene.direct), 'f6d', { count: 2 });
  scene.atEnd(() => scene.direct.kv.delete({ prefix: 'f6d/' }));
  const [waiting] = await watching(proxy, async () => ours.enter());
  return {
    client,
    finish: () => theirs.enter(),
    proxy,
    scene,
    tidy: () => Promise.all([ours.leave(), theirs.leave()]),
    waiting: waiting as Promise<unknown>,
  };
};

const WAITS: Record<string, Begin> = {
  'Barrier.wait': barrierWait,
  'DoubleBarrier.enter': doubleEnter,
  'Latch.wait': latchWait,
};

describe('the faults of others: barriers and latches', () => {
  const etcd = etcdOfSuite();

  /** The client has opened its watch anew, and read, after `cut`. */
  const reconnected = async ({ proxy, client }: Wait, watches: number): Promise<void> => {
    await proxy.waitFor(() => proxy.requests(RPC.watch) > watches);
    await client.kv.get('any'); // Whatever the new watch brought at once has been taken in.
  };

  for (const [name, begin] of Object.entries(WAITS)) {
    test(`fault 6: ${name} rejects with CLOSED when its client is closed while it waits`, async (t) => {
      const wait = await begin(t, etcd);
      const rejected = assert.rejects(
        wait.waiting,
        (error) => coded('CLOSED')(error) || coded('SESSION_LOST')(error),
      );
      await wait.client.close();
      await rejected;
    });

    test(`fault 6: ${name} goes on waiting when its connection is cut, and sees what comes then`, async (t) => {
      const wait = await begin(t, etcd);
      const { state } = fateOf(wait.waiting);
      for (let cut = 0; cut < 3; cut++) {
        const watches = wait.proxy.requests(RPC.watch);
        wait.proxy.cut();
        await reconnected(wait, watches);
        assert.equal(state(), 'pending');
      }
      await Promise.all([wait.finish(), wait.waiting]);
      await wait.tidy();
    });

    test(`fault 6: ${name} goes on waiting when history was compacted while it was cut off`, async (t) => {
      const wait = await begin(t, etcd);
      const { state } = fateOf(wait.waiting);
      const watches = wait.proxy.requests(RPC.watch);
      const ranges = wait.proxy.replies(RPC.range);
      await wait.proxy.refuse();
      wait.proxy.cut();
      await compactAll(wait.scene.direct);
      await wait.proxy.accept();
      await reconnected(wait, watches);
      await wait.proxy.waitFor((proxy) => proxy.replies(RPC.range) > ranges + 1);
      assert.equal(state(), 'pending');
      await Promise.all([wait.finish(), wait.waiting]);
      await wait.tidy();
    });

    test(`fault 6: ${name} finds out what came true while it was cut off and history was compacted`, async (t) => {
      const wait = await begin(t, etcd);
      await wait.proxy.refuse();
      wait.proxy.cut();
      const finishing = wait.finish();
      // Entering waits for nobody but us, and we are counted already.
      await finishing;
      await compactAll(wait.scene.direct);
      await wait.proxy.accept();
      await wait.waiting;
      await wait.tidy();
    });

    test(`fault 6: ${name} goes on waiting when the server is killed and comes back`, async (t) => {
      const wait = await begin(t, etcd);
      const { state } = fateOf(wait.waiting);
      const watches = wait.proxy.requests(RPC.watch);
      const [member] = etcd.members;
      await member?.kill();
      await member?.restart();
      await reconnected(wait, watches);
      assert.equal(state(), 'pending');
      await Promise.all([wait.finish(), wait.waiting]);
      await wait.tidy();
    });
  }

  test('fault 6: DoubleBarrier.enter rejects with SESSION_LOST when no server comes back in time', async (t) => {
    const scene = new Scene(t, etcd);
    const proxy = await scene.proxy();
    const session = await scene.session(scene.client(proxy, { timeoutMs: 500 }), { ttlSeconds: 2 });
    const barrier = new DoubleBarrier(session, 'f6s', { count: 2 });
    const [entering] = await watching(proxy, async () => barrier.enter());
    const rejected = assert.rejects(entering as Promise<unknown>, coded('SESSION_LOST'));
    await proxy.refuse();
    proxy.cut();
    await rejected;
    await scene.untilKeys('f6s/', 0);
  });

  for (const then of LOSSES) {
    test(`a countDown whose answer is lost counts once (${then})`, async (t) => {
      const scene = new Scene(t, etcd);
      const proxy = await scene.proxy();
      const latch = new Latch(scene.client(proxy, { timeoutMs: 500 }), 'lost', { count: 5 });
      scene.atEnd(() => latch.delete());
      assert.equal(await latch.count(), 5);
      const waiting = new Latch(scene.direct, 'lost', { count: 5 }).wait();
      const { state } = fateOf(waiting);
      const fault = proxy.swallowNextReply({ method: RPC.txn, then });
      await latch.countDown();
      assert.equal(fault.hits, 1);
      assert.equal(await latch.count(), 4);
      await latch.countDown(3);
      assert.equal(await latch.count(), 1);
      // What the waiter has seen by now says the same.
      const behind = new Latch(scene.direct, 'behind', { count: 1 });
      await Promise.all([behind.wait(), behind.countDown()]);
      await behind.delete();
      assert.equal(state(), 'pending');
      await latch.countDown();
      await waiting;
    });

    test(`a hold and an enter whose answers are lost are ours, once (${then})`, async (t) => {
      const scene = new Scene(t, etcd);
      const proxy = await scene.proxy();
      const session = await scene.session(scene.client(proxy, { timeoutMs: 6000 }), { ttlSeconds: 20 });
      const slow = then === 'silence'; // Only a time limit ends silence: 5 s of it, so one of the two.
      const barrier = new Barrier(session, 'lost');
      const writing = (what: string) => ({ where: (message: Buffer) => message.includes(what) });
      const first = proxy.onCall(RPC.txn, 'dropReply', {
        ...writing('ifHolderDies'),
        then: slow ? 'cut' : then,
      });
      await barrier.hold();
      assert.equal(first.hits, 1);
      assert.equal((await barrier.inspect()).state, 'held');
      await barrier.release();
      const double = new DoubleBarrier(session, 'lost', { count: 1 });
      const second = proxy.onCall(RPC.txn, 'dropReply', {
        ...writing('"count":1'),
        then: slow ? 'reset' : then,
      });
      await double.enter();
      assert.equal(second.hits, 1);
      assert.equal((await scene.keys('lost/.double-barrier/party/')).length, 1);
      await double.leave();
      await scene.untilKeys('lost/', 0);
    });
  }

  test('a release by a holder that does not know yet that the barrier broke opens nothing, and says so', async (t) => {
    const scene = new Scene(t, etcd);
    const proxy = await scene.proxy();
    const session = await scene.session(scene.client(proxy), { ttlSeconds: 60 });
    const barrier = new Barrier(session, 'unaware');
    const hold = await barrier.hold();
    const watcher = new Barrier(scene.direct, 'unaware');
    scene.atEnd(() => watcher.reset());
    const waiting = assert.rejects(watcher.wait(), coded('BROKEN'));
    proxy.pause();
    await scene.direct.lease.revoke(session.leaseId);
    await waiting;
    assert.ok(hold.held);
    const releasing = assert.rejects(hold.release(), coded('NOT_HELD'));
    proxy.resume();
    await releasing;
    assert.equal((await watcher.inspect()).state, 'broken');
  });

  test('an enter that is given up while its answer is lost leaves nothing', async (t) => {
    const scene = new Scene(t, etcd);
    const proxy = await scene.proxy();
    const session = await scene.session(scene.client(proxy, { timeoutMs: 1000 }), { ttlSeconds: 20 });
    const where = (message: Buffer): boolean => message.includes('"count":1');
    const fault = proxy.onCall(RPC.txn, 'dropReply', { then: 'silence', where });
    const double = new DoubleBarrier(session, 'given-up', { count: 1 });
    const stop = new AbortController();
    const entering = double.enter({ signal: stop.signal });
    const rejected = assert.rejects(entering, /never mind/);
    await fault.hit();
    await scene.untilKeys('given-up/', 1);
    stop.abort(new Error('never mind'));
    await rejected;
    await scene.untilKeys('given-up/', 0);
  });
});

/** How the promise stands, asked when it is asked. */
function fateOf(promise: Promise<unknown>): { state: () => string } {
  const known = fate(promise);
  return { state: () => known.state };
}

/** Two writes and a compaction up to the last one: no watch can go on from before. */
async function compactAll(client: Client): Promise<void> {
  await client.kv.put('compacting', '1');
  const { revision } = await client.kv.delete('compacting');
  await client.kv.compact(revision, { physical: true });
}
