// The faults of others (README.md) that are about locks and elections, on a real etcd.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { ConclaveError, Election, hasCode, Mutex, op, Session } from 'conclave';
import { assertRising } from '../support/tokens.js';
import { until } from '../support/until.js';
import { etcdOfSuite, fate, LOSSES, RPC, Scene, timed } from './scene.js';
import { Tape } from './tape.js';

describe('the faults of others: locks and elections', () => {
  const etcd = etcdOfSuite();

  test('fault 1: a candidate whose lease dies while it waits rejects at once, and never leads', async (t) => {
    const scene = new Scene(t, etcd);
    const leader = await new Election(await scene.session(scene.direct), 'f1').campaign('first');
    // Its next keepalive is 20 s away.
    const session = await scene.session(scene.direct, { ttlSeconds: 60 });
    const campaign = timed(new Election(session, 'f1').campaign('second'));
    await scene.untilKeys('f1/', 2);
    await scene.direct.lease.revoke(session.leaseId);
    const { error, ms } = await campaign;
    assert.ok(hasCode(error, 'TICKET_LOST', 'SESSION_LOST'), String(error));
    assert.ok(ms < 5000, `${ms} ms`);
    await leader.resign();
    assert.deepEqual(await scene.keys('f1/'), []);
  });

  test('fault 1: a candidate cut off while it waits rejects when its session ends, and leaves no candidacy', async (t) => {
    const scene = new Scene(t, etcd);
    const proxy = await scene.proxy();
    const leader = await new Election(await scene.session(scene.direct), 'f1cut').campaign('first');
    const session = await scene.session(scene.client(proxy), { ttlSeconds: 2 });
    const campaign = new Election(session, 'f1cut').campaign('second');
    campaign.catch(() => undefined); // It may reject before it is waited for.
    await scene.untilKeys('f1cut/', 2);
    proxy.drop();
    await assert.rejects(campaign, { code: 'SESSION_LOST' });
    await scene.untilKeys('f1cut/', 1);
    await leader.resign();
    assert.equal(await new Election(await scene.session(scene.direct), 'f1cut').leader(), undefined);
  });

  test('fault 1: a campaign that fails for another reason than an abort leaves no zombie candidate', async (t) => {
    const scene = new Scene(t, etcd);
    const proxy = await scene.proxy();
    const leader = await new Election(await scene.session(scene.direct), 'f1err').campaign('first');
    const session = await scene.session(scene.client(proxy));
    proxy.onCall(RPC.watch, 'fail', {
      status: { code: 7, message: 'etcdserver: permission denied' },
      times: 100,
    });
    await assert.rejects(new Election(session, 'f1err').campaign('second'), { code: 'PERMISSION_DENIED' });
    assert.equal((await scene.keys('f1err/')).length, 1);
    await leader.resign();
    assert.deepEqual(await scene.keys('f1err/'), []);
  });

  test('fault 2: a resumed leadership is the one leader: its key keeps the name, the slash and its place', async (t) => {
    const scene = new Scene(t, etcd);
    const first = await scene.session(scene.direct);
    const before = await new Election(first, 'f2').campaign('life 1');
    const waiting = new Election(await scene.session(scene.direct), 'f2').campaign('other');
    await scene.untilKeys('f2/', 2);
    first.orphan();
    const second = await Session.open(scene.direct, { leaseId: first.leaseId });
    scene.atEnd(() => second.close().catch(() => undefined));
    const resumed = await new Election(second, 'f2').campaign('life 2');
    assert.equal(before.held, false);
    assert.equal(resumed.key, before.key);
    assert.equal(resumed.createRevision, before.createRevision);
    assert.ok(resumed.fencingToken > before.fencingToken);
    const keys = await scene.keys('f2');
    assert.equal(keys.filter((key) => !key.startsWith('f2.~who/')).length, 2);
    await resumed.proclaim('still');
    assert.equal(fate(waiting).state, 'pending');
    await resumed.resign();
    const next = await waiting;
    assert.ok(next.fencingToken > resumed.fencingToken);
    await assert.rejects(resumed.proclaim('late'), { code: 'NOT_HELD' });
    await next.resign();
  });

  test('fault 4: two tasks of one process on one session exclude each other', async (t) => {
    const scene = new Scene(t, etcd);
    const session = await scene.session(scene.direct);
    let inside = 0;
    const tokens: bigint[] = [];
    const task = (): Promise<void> =>
      new Mutex(session, 'f4').run(async (lock) => {
        inside += 1;
        assert.equal(inside, 1);
        tokens.push(lock.fencingToken);
        await lock.txn({ then: [op.put('f4-data', 'x')] });
        inside -= 1;
      });
    await Promise.all(Array.from({ length: 20 }, task));
    assert.equal(tokens.length, 20);
    assertRising(tokens);
    await scene.direct.kv.delete('f4-data');
  });

  test("fault 4: a sibling's tryLock leaves the key of a sibling that waits alone", async (t) => {
    const scene = new Scene(t, etcd);
    const session = await scene.session(scene.direct);
    const holder = await new Mutex(await scene.session(scene.direct), 'f4try').lock();
    const waiting = new Mutex(session, 'f4try').lock();
    await scene.untilKeys('f4try/', 2);
    assert.equal(await new Mutex(session, 'f4try').tryLock(), undefined);
    assert.equal((await scene.keys('f4try/')).length, 2);
    await holder.unlock();
    await (await waiting).unlock();
  });

  for (const then of LOSSES) {
    test(`fault 5: a reply lost after the commit leaves no ghost waiter (${then})`, async (t) => {
      const scene = new Scene(t, etcd);
      const proxy = await scene.proxy();
      const session = await scene.session(scene.client(proxy));
      const fault = proxy.swallowNextReply({ method: RPC.txn, then });
      const { ms, error, value } = await timed(new Mutex(session, 'f5').lock());
      assert.equal(fault.hits, 1);
      if (then === 'silence') {
        // Nobody can tell the caller what came of it; but what came of it has been undone.
        assert.ok(hasCode(error, 'UNKNOWN_OUTCOME'), String(error));
        assert.ok(ms < 9000, `${ms} ms`);
        assert.deepEqual(await scene.keys('f5/'), []);
      } else {
        assert.ok(value?.held, String(error));
        assert.equal((await scene.keys('f5/')).length, 1);
        await value.unlock();
      }
      const other = await new Mutex(await scene.session(scene.direct), 'f5').lock({ timeoutMs: 3000 });
      await other.unlock();
    });
  }

  test('fault 5: a candidate that gives up while its reply is lost leaves no ghost', async (t) => {
    const scene = new Scene(t, etcd);
    const proxy = await scene.proxy();
    const session = await scene.session(scene.client(proxy), { ttlSeconds: 20 });
    const fault = proxy.swallowNextReply({ method: RPC.txn, then: 'silence' });
    const { ms, error } = await timed(new Election(session, 'f5e').campaign('x', { timeoutMs: 300 }));
    assert.ok(hasCode(error, 'TIMEOUT'), String(error));
    assert.ok(ms < 4000, `${ms} ms`);
    assert.equal(fault.hits, 1);
    await scene.untilKeys('f5e/', 0);
    assert.equal(session.state, 'active');
  });

  test('fault 7: an unlock that arrives late does not end a newer hold of the same session', async (t) => {
    const scene = new Scene(t, etcd);
    const proxy = await scene.proxy();
    const session = await scene.session(scene.client(proxy));
    const mutex = new Mutex(session, 'f7');
    const tape = new Tape(proxy, RPC.txn);
    await (await mutex.lock()).unlock();
    const newer = await mutex.lock();
    // Every request of the earlier hold, its unlock among them, arrives once more.
    await tape.replay(etcd);
    assert.deepEqual(await scene.keys('f7/'), [newer.key]);
    await newer.txn({ then: [op.put('f7-data', 'guarded')] });
    assert.ok(newer.held);
    await newer.unlock();
    await scene.direct.kv.delete('f7-data');
  });

  test('fault 7: an unlock that could not be confirmed can be called again', async (t) => {
    const scene = new Scene(t, etcd);
    const proxy = await scene.proxy();
    const session = await scene.session(scene.client(proxy, { timeoutMs: 400 }), { ttlSeconds: 20 });
    const lock = await new Mutex(session, 'f7again').lock();
    proxy.drop();
    await assert.rejects(lock.unlock(), (error) => hasCode(error, 'UNKNOWN_OUTCOME', 'UNAVAILABLE'));
    assert.equal(lock.held, false);
    await proxy.heal();
    await lock.unlock();
    await lock.unlock();
    assert.deepEqual(await scene.keys('f7again/'), []);
  });

  test('fault 7: a resign that could not be confirmed can be called again, and spares a newer candidacy', async (t) => {
    const scene = new Scene(t, etcd);
    const proxy = await scene.proxy();
    const session = await scene.session(scene.client(proxy, { timeoutMs: 400 }), { ttlSeconds: 20 });
    const tape = new Tape(proxy, RPC.txn);
    const leadership = await new Election(session, 'f7e').campaign('x');
    const fault = proxy.onCall(RPC.txn, 'dropRequest', { then: 'silence' });
    await assert.rejects(leadership.resign(), (error) => hasCode(error, 'UNKNOWN_OUTCOME', 'UNAVAILABLE'));
    assert.equal(fault.hits, 1);
    await leadership.resign();
    assert.deepEqual(await scene.keys('f7e/'), []);
    const newer = await new Election(session, 'f7e').campaign('y');
    await tape.replay(etcd);
    assert.deepEqual(await scene.keys('f7e/'), [newer.key]);
    await newer.resign();
  });

  test('fault 8: observe says "no leader", goes on after a cut with the leader there is, and ends with a reason', async (t) => {
    const scene = new Scene(t, etcd);
    const proxy = await scene.proxy();
    const [one, two] = [await scene.session(scene.direct), await scene.session(scene.direct)];
    const client = scene.client(proxy);
    const watching = new Election(await scene.session(client), 'f8').observe();
    const next = async (): Promise<string | undefined> => {
      const { value } = (await watching.next()) as { value: { string(): string } | undefined };
      return value?.string();
    };
    assert.equal(await next(), undefined);
    const first = await new Election(one, 'f8').campaign('one');
    assert.equal(await next(), 'one');
    await first.proclaim('one again');
    assert.equal(await next(), 'one again');
    await first.resign();
    assert.equal(await next(), undefined);
    // The leader changes while nobody listens: the observer must not stay on the wrong one.
    const second = await new Election(one, 'f8').campaign('two');
    assert.equal(await next(), 'two');
    await proxy.refuse();
    proxy.cut();
    await second.resign();
    const third = await new Election(two, 'f8').campaign('three');
    await proxy.accept();
    await until(async () => (await next()) === 'three');
    await third.resign();
    assert.equal(await next(), undefined);
    const end = watching.next();
    end.catch(() => undefined); // It may reject before it is waited for.
    await client.close();
    await assert.rejects(end, { code: 'CLOSED' });
  });

  test('fault 10: the loss of the predecessor alone makes nobody leader', async (t) => {
    const scene = new Scene(t, etcd);
    const proxy = await scene.proxy();
    const leader = await new Election(await scene.session(scene.direct), 'f10').campaign('a');
    const between = await scene.session(scene.direct);
    const second = new Election(between, 'f10').campaign('b');
    second.catch(() => undefined); // It may reject before it is waited for.
    await scene.untilKeys('f10/', 2);
    const third = new Election(await scene.session(scene.client(proxy)), 'f10').campaign('c');
    await scene.untilKeys('f10/', 3);
    const settled = fate(third);
    // The predecessor goes while the third candidate cannot see how.
    await proxy.refuse();
    proxy.cut();
    await scene.direct.lease.revoke(between.leaseId);
    await assert.rejects(second, ConclaveError);
    const before = proxy.replies(RPC.watch);
    await proxy.accept();
    await proxy.waitFor((each) => each.replies(RPC.watch) > before);
    assert.equal((await scene.keys('f10/')).length, 2);
    assert.equal(settled.state, 'pending');
    const value = await new Election(between, 'f10').leader();
    assert.equal(value?.string(), 'a');
    await leader.resign();
    const won = await third;
    assert.ok(won.fencingToken > leader.fencingToken);
    await won.resign();
  });

  test('fault 10: nothing of a lost session counts for the next one of the same process', async (t) => {
    const scene = new Scene(t, etcd);
    const proxy = await scene.proxy();
    const client = scene.client(proxy);
    const old = await new Election(await scene.session(client, { ttlSeconds: 2 }), 'f10old').campaign('old');
    const rival = new Election(await scene.session(scene.direct), 'f10old').campaign('rival');
    proxy.drop();
    await until(() => old.signal.aborted, { what: 'the loss is told' });
    const won = await rival;
    await proxy.heal();
    const again = new Election(await scene.session(client), 'f10old').campaign('again');
    await scene.untilKeys('f10old/', 2);
    assert.equal(old.held, false);
    assert.equal(fate(again).state, 'pending');
    await assert.rejects(old.txn({ then: [op.put('f10-data', 'late')] }), { code: 'NOT_HELD' });
    await won.resign();
    await (await again).resign();
    assert.equal(await scene.direct.kv.get('f10-data'), undefined);
  });

  test('fault 11: a holder is told that it lost the lock, whether its lease is revoked or its key deleted', async (t) => {
    const scene = new Scene(t, etcd);
    const session = await scene.session(scene.direct, { ttlSeconds: 60 });
    const one = await new Mutex(session, 'f11a').lock();
    const two = await new Mutex(session, 'f11b').lock();
    await scene.direct.kv.delete(one.key);
    await until(() => one.signal.aborted, { what: 'the first is told' });
    assert.ok(hasCode(one.signal.reason, 'TICKET_LOST'));
    assert.ok(two.held);
    await scene.direct.lease.revoke(session.leaseId);
    await until(() => two.signal.aborted, { what: 'the second is told' });
    assert.equal(two.held, false);
  });
});
