// Lost and late requests of everything that is held, on a real etcd.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { hasCode, MultiMutex, RWLock, Semaphore } from 'conclave';
import { etcdOfSuite, LOSSES, RPC, Scene, timed } from './scene.js';
import { TAKES } from './takes.js';
import { Tape } from './tape.js';

describe('lost and late requests of locks', () => {
  const etcd = etcdOfSuite();

  for (const [what, take] of Object.entries(TAKES)) {
    // Silence takes 5 s each time: a mutex has it as fault 5, and the simulation all.
    for (const then of LOSSES.filter((loss) => loss !== 'silence' || what === 'a leadership')) {
      test(`the answer to taking ${what} is lost (${then}): it is had, or nothing is left`, async (t) => {
        const scene = new Scene(t, etcd);
        const proxy = await scene.proxy();
        const session = await scene.session(scene.client(proxy), { ttlSeconds: 20 });
        const fault = proxy.swallowNextReply({ method: RPC.txn, then });
        const { value: taken, error } = await timed(take(session));
        assert.equal(fault.hits, 1);
        if (then === 'silence') assert.ok(hasCode(error, 'UNKNOWN_OUTCOME'), String(error));
        else await (taken ?? assert.fail(String(error))).giveBack();
        await scene.untilKeys('x/', 0);
        assert.equal(session.state, 'active');
      });
    }

    test(`a request to take ${what} that was sent twice and arrives after it was given back leaves nothing`, async (t) => {
      const scene = new Scene(t, etcd);
      const proxy = await scene.proxy();
      const session = await scene.session(scene.client(proxy), { ttlSeconds: 20 });
      const tape = new Tape(proxy, RPC.txn);
      proxy.swallowNextReply({ method: RPC.txn, then: 'cut' });
      const { giveBack } = await take(session);
      tape.stop();
      await giveBack();
      assert.deepEqual(await scene.keys('x/'), []);
      await tape.replay(etcd);
      assert.notDeepEqual(await scene.keys('x/'), [], 'it has arrived');
      await scene.untilKeys('x/', 0);
      assert.equal(session.state, 'active');
    });

    test(`the answer to giving ${what} back is lost: it is given back all the same`, async (t) => {
      const scene = new Scene(t, etcd);
      const proxy = await scene.proxy();
      const session = await scene.session(scene.client(proxy), { ttlSeconds: 20 });
      const { giveBack } = await take(session);
      const fault = proxy.swallowNextReply({ method: RPC.txn, then: 'cut' });
      await giveBack();
      assert.equal(fault.hits, 1);
      assert.deepEqual(await scene.keys('x/'), []);
    });
  }

  test('a holder cut off from etcd is told before another can hold, whatever it holds', async (t) => {
    const scene = new Scene(t, etcd);
    const proxy = await scene.proxy();
    const session = await scene.session(scene.client(proxy), { ttlSeconds: 2 });
    const holds = [
      await new RWLock(session, 'x/rw').writeLock(),
      await new MultiMutex(session, ['x/a', 'x/b']).lock(),
      await new Semaphore(session, 'x/sem', { limit: 1 }).acquire(),
    ];
    const rival = await scene.session(scene.direct, { ttlSeconds: 20 });
    proxy.drop();
    const semaphore = new Semaphore(rival, 'x/sem', { limit: 1 });
    const asked = [
      new RWLock(rival, 'x/rw').writeLock(),
      new MultiMutex(rival, ['x/b', 'x/a']).lock(),
      semaphore.acquire(),
    ].map(async (asking) => {
      const won = await asking;
      assert.ok(holds.every((hold) => !hold.held && hold.signal.aborted));
      return won;
    });
    for (const won of await Promise.all(asked)) await won[Symbol.asyncDispose]();
    await scene.untilKeys('x/', 0);
    assert.deepEqual(await scene.keys('x/sem.'), [], 'the limit is gone with its last user');
  });
});
