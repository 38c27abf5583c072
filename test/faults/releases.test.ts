// Releases that the server refuses: nothing is lost by asking again, and nobody is let in beside anybody.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { onEachBackend } from '../support/backends.js';
import { deletes, RPC, Scene } from './scene.js';
import { TAKES } from './takes.js';

/** What a server can answer that does not pass by itself, and what is told then: etcd may have applied what it has no space for. */
const REFUSALS = {
  NO_SPACE: {
    code: 'UNKNOWN_OUTCOME',
    status: { code: 8, message: 'etcdserver: mvcc: database space exceeded' },
  },
  PERMISSION_DENIED: {
    code: 'PERMISSION_DENIED',
    status: { code: 7, message: 'etcdserver: permission denied' },
  },
} as const;

onEachBackend('refused releases', (backend) => {
  for (const [what, take] of Object.entries(TAKES)) {
    for (const [refusal, { code, status }] of Object.entries(REFUSALS)) {
      test(`giving ${what} back is refused with ${refusal}: asked again, it is given back`, async (t) => {
        const scene = new Scene(t, backend);
        const proxy = await scene.proxy();
        const session = await scene.session(scene.client(proxy), { ttlSeconds: 60 });
        const { giveBack, hold } = await take(session);
        const keys = await scene.keys('x/');
        const fault = proxy.onCall(RPC.txn, 'fail', { status, times: 2, where: deletes });
        await assert.rejects(giveBack(), { code });
        assert.equal(hold.held, false, 'it is over for whoever relies on it');
        assert.deepEqual(await scene.keys('x/'), keys);
        await assert.rejects(giveBack(), { code });
        assert.equal(fault.hits, 2, 'each asks once');
        await giveBack();
        assert.deepEqual(await scene.keys('x/'), []);
        const other = await take(await scene.session(scene.direct));
        await other.giveBack();
        await giveBack();
        assert.equal(session.state, 'active');
      });
    }
  }

  for (const what of ['a leadership', 'a mutex'] as const) {
    test(`${what} that could not be given back is asked to go once more: the next task's hold of the same key stays`, async (t) => {
      const scene = new Scene(t, backend);
      const proxy = await scene.proxy();
      const session = await scene.session(scene.client(proxy), { ttlSeconds: 60 });
      const take = TAKES[what] ?? assert.fail();
      const first = await take(session);
      proxy.onCall(RPC.txn, 'fail', { status: REFUSALS.NO_SPACE.status, where: deletes });
      await assert.rejects(first.giveBack(), { code: REFUSALS.NO_SPACE.code });
      const second = await take(session);
      assert.equal(second.hold.key, first.hold.key);
      assert.ok(second.hold.fencingToken > first.hold.fencingToken);
      await first.giveBack();
      assert.ok((await second.hold.txn({ then: [] })).succeeded && second.hold.held);
      await second.giveBack();
      assert.deepEqual(await scene.keys('x/'), []);
      assert.equal(session.state, 'active');
    });
  }
});
