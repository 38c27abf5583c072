// What leaders and semaphores wrote arrives a second time, after other things were written: nothing comes back.
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';

import { Election, Semaphore, type Session } from 'conclave';
import { type FaultProxy } from 'conclave/testing';
import { services } from '#conclave/proto/services.js';

import { onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';
import { fate, RPC, Scene } from './scene.js';
import { Tape } from './tape.js';

interface Recorded {
  readonly proxy: FaultProxy;
  readonly scene: Scene;
  readonly session: Session;
  /** All transactions of the session's client. */
  readonly tape: Tape;
}

onEachBackend('writes that arrive late', (backend) => {
  async function record(t: TestContext): Promise<Recorded> {
    const scene = new Scene(t, backend);
    const proxy = await scene.proxy();
    const session = await scene.session(scene.client(proxy), { ttlSeconds: 60 });
    return { proxy, scene, session, tape: new Tape(proxy, RPC.txn) };
  }

  test('a value that was proclaimed does not come back over a newer one', async (t) => {
    const { scene, session, tape } = await record(t);
    const election = new Election(session, 'x/e');
    const leads = await election.campaign('first');
    for (const value of ['second', 'third', 'second', 'last']) await leads.proclaim(value);
    const before = await election.leader();
    await tape.replay(backend);
    const after = await election.leader();
    assert.deepEqual([after?.string(), after?.modRevision], ['last', before?.modRevision]);
    assert.ok(leads.held);
    await leads.resign();
    assert.deepEqual(await scene.keys('x/'), []);
  });

  test('proclaims made at once are made in order, each once, with answers lost and strangers writing', async (t) => {
    const { proxy, scene, session } = await record(t);
    const election = new Election(session, 'x/e');
    const leads = await election.campaign('0');
    const seen: string[] = [];
    const observing = (async () => {
      for await (const leader of election.observe()) {
        if (leader === undefined) return;
        seen.push(leader.string());
      }
    })();
    await until(() => seen.length === 1);
    const lost = proxy.onCall(RPC.txn, 'dropReply', { times: 2 });
    await Promise.all(['1', '2', '3'].map((value) => leads.proclaim(value)));
    assert.equal(lost.hits, 2);
    await scene.direct.kv.put(leads.key, 'stranger', { leaseId: session.leaseId });
    await leads.proclaim('4');
    await leads.resign();
    await observing;
    assert.deepEqual(seen, ['0', '1', '2', '3', 'stranger', '4']);
  });

  test('a limit that was deleted, and one that was resized since, stay so', async (t) => {
    const { scene, session, tape } = await record(t);
    const semaphore = new Semaphore(session, 'x/sem', { limit: 2 });
    const replay = async (): Promise<void> => {
      // A request that makes a ticket has a copy only when it was sent again, and is looked for then.
      tape.requests.splice(0, Infinity, ...tape.requests.filter((each) => !takes(each)));
      await tape.replay(backend);
    };
    await semaphore.resize(4);
    await semaphore.delete();
    await semaphore.resize(8);
    await replay();
    assert.equal((await semaphore.inspect()).limit, 8);
    await semaphore.resize(6);
    await semaphore.resize(8);
    await semaphore.resize(7);
    await replay();
    assert.equal((await semaphore.inspect()).limit, 7);
    await semaphore.resize(2); // Back as declared: nothing is left of it.
    assert.deepEqual(await scene.keys('x/sem'), []);
  });

  test('a resize is done at the fourth try at the latest, however often users make and remove the limit', async (t) => {
    const { proxy, scene, session } = await record(t);
    const users = new Semaphore(await scene.session(scene.direct, { ttlSeconds: 60 }), 'x/sem', { limit: 2 });
    let permit = await users.acquire();
    const resizing = new Semaphore(session, 'x/sem', { limit: 2 }).resize(5);
    const resized = fate(resizing);
    for (let tries = 0; resized.state === 'pending'; tries++) {
      assert.ok(tries <= 4, 'tried for ever');
      const write = proxy.onCall(RPC.txn, 'holdRequest', { times: 1, where: writesLimit });
      await until(() => write.hits > 0 || resized.state !== 'pending');
      await permit.release();
      permit = await users.acquire();
      write.release();
    }
    await resizing;
    assert.equal((await users.inspect()).limit, 5);
    await permit.release();
    assert.equal(await users.delete(), true);
    assert.deepEqual(await scene.keys('x/sem'), []);
  });
});

/** Whether a transaction, as sent, makes a key that is bound to a lease. */
function takes(message: Buffer): boolean {
  const { success } = services.KV.Txn.requestDeserialize(message);
  return success.some(({ requestPut }) => (requestPut?.lease ?? 0n) !== 0n);
}

/** Whether a transaction, as sent, writes a semaphore's limit and takes nothing. */
function writesLimit(message: Buffer): boolean {
  const { success } = services.KV.Txn.requestDeserialize(message);
  return !takes(message) && success.some(({ requestPut }) => requestPut != null);
}
