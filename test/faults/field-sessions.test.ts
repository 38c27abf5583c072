// The faults of others (README.md) that are about leases and sessions, on a real etcd behind the fault proxy.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { type Client, Election, hasCode, Mutex, op, type Session } from 'conclave';
import { answersForRevokedLeases } from '#conclave/session/server-faults.js';
import { services } from '#conclave/proto/services.js';
import { until } from '../support/until.js';
import { Random } from './random.js';
import { etcdOfSuite, RPC, Scene } from './scene.js';

/** When etcd itself ends the lease: the time at which a key bound to it is seen to be deleted. */
async function whenExpired(client: Client, leaseId: bigint): Promise<{ readonly at: Promise<number> }> {
  const key = `expiry/${leaseId}`;
  const watch = client.watch(key, { filter: 'noput' });
  await watch.created;
  await client.kv.put(key, '', { leaseId });
  const at = watch.next().then(() => {
    watch.close();
    return performance.now();
  });
  return { at };
}

/** When the session tells its loss. */
function whenTold(session: Session): Promise<number> {
  return new Promise((resolve) => {
    session.signal.addEventListener('abort', () => resolve(performance.now()), { once: true });
  });
}

const leaseOf = (message: Buffer): bigint => services.Lease.LeaseKeepAlive.requestDeserialize(message).ID;

describe('the faults of others: leases and sessions', { concurrency: 4 }, () => {
  const warnings: Error[] = [];
  const onWarning = (warning: Error): unknown => warnings.push(warning);
  before(() => process.on('warning', onWarning));
  after(() => process.off('warning', onWarning));
  const etcd = etcdOfSuite();

  test('fault 3: the loss is told before etcd ends the lease, when keepalives go unanswered', async (t) => {
    const scene = new Scene(t, etcd);
    const proxy = await scene.proxy();
    const session = await scene.session(scene.client(proxy), { ttlSeconds: 2 });
    const expired = await whenExpired(scene.direct, session.leaseId);
    await proxy.waitFor((each) => each.replies(RPC.keepAlive) >= 2);
    const told = whenTold(session);
    proxy.drop();
    const early = (await expired.at) - (await told);
    assert.ok(early > 0, `told ${-early} ms too late`);
    assert.ok(hasCode(session.signal.reason, 'SESSION_LOST'));
  });

  test('fault 3: the deadline counts from when a keepalive was sent, not from when its answer came', async (t) => {
    const scene = new Scene(t, etcd);
    const proxy = await scene.proxy();
    const session = await scene.session(scene.client(proxy), { marginMs: 100, ttlSeconds: 3 });
    const expired = await whenExpired(scene.direct, session.leaseId);
    const told = whenTold(session);
    // The answer is on its way for a third of the time to live; nothing is answered afterwards.
    const fault = proxy.onCall(RPC.keepAlive, 'holdReply');
    await fault.hit();
    const silence = proxy.onCall(RPC.keepAlive, 'holdRequest');
    await new Promise((resolve) => setTimeout(resolve, 1100));
    fault.release();
    await proxy.waitFor((each) => each.replies(RPC.keepAlive) >= 1);
    await silence.hit();
    const early = (await expired.at) - (await told);
    assert.ok(early > 0, `told ${-early} ms too late`);
  });

  test('fault 3: there are never two holders, whichever way the first is cut off', async (t) => {
    const scene = new Scene(t, etcd);
    const proxy = await scene.proxy();
    for (const direction of ['both', 'toServer', 'toClient'] as const) {
      const session = await scene.session(scene.client(proxy), { ttlSeconds: 2 });
      const lock = await new Mutex(session, 'f3').lock();
      const rival = new Mutex(await scene.session(scene.direct), 'f3').lock();
      await scene.untilKeys('f3/', 2);
      let lostAt = Infinity;
      lock.signal.addEventListener('abort', () => (lostAt = performance.now()), { once: true });
      proxy.drop(direction);
      const next = await rival;
      assert.ok(lostAt < performance.now(), `${direction}: the first holder was not told`);
      assert.equal(lock.held, false);
      assert.ok(next.fencingToken > lock.fencingToken);
      await next.unlock();
      await proxy.heal();
    }
  });

  test('fault 3: whatever happens to keepalives and their answers, no loss is told after the lease has ended', async (t) => {
    const random = new Random(t);
    const scene = new Scene(t, etcd);
    const one = async (): Promise<number> => {
      const proxy = await scene.proxy();
      const session = await scene.session(scene.client(proxy), { ttlSeconds: 2 + random.below(2) });
      const expired = await whenExpired(scene.direct, session.leaseId);
      const told = whenTold(session);
      while (session.alive) {
        const waitMs = random.below(700);
        const strike = random.below(5);
        if (strike === 0) proxy.delay(random.below(700), random.pick(['toServer', 'toClient', 'both']));
        else if (strike === 1) proxy.pause(random.pick(['toServer', 'toClient', 'both']));
        else if (strike === 2) proxy.onCall(RPC.keepAlive, 'holdReply', { times: 1 });
        else if (strike === 3)
          proxy.onCall(RPC.keepAlive, 'dropReply', { then: random.pick(['cut', 'reset', 'silence']) });
        else if (random.below(3) === 0) await proxy.heal();
        await new Promise((resolve) => setTimeout(resolve, waitMs));
        if (random.below(12) === 0) proxy.drop();
      }
      const toldAt = await told;
      await proxy.heal();
      return (await expired.at) - toldAt;
    };
    const early = await Promise.all(Array.from({ length: 12 }, one));
    assert.ok(Math.min(...early) > 0, `told ${Math.min(...early)} ms before the end of the lease`);
  });

  test('fault 12: the loss is told as early before the end of the lease as the margin says', async (t) => {
    const scene = new Scene(t, etcd);
    const proxy = await scene.proxy();
    const session = await scene.session(scene.client(proxy), { marginMs: 1500, ttlSeconds: 4 });
    const expired = await whenExpired(scene.direct, session.leaseId);
    const told = whenTold(session);
    proxy.drop();
    const early = (await expired.at) - (await told);
    assert.ok(early >= 1500, `told ${early} ms before the end`);
  });

  test('fault 13: a server that can answer for a revoked lease is named in a warning', async (t) => {
    const scene = new Scene(t, etcd);
    await scene.session(scene.direct);
    const about = (): Error | undefined => warnings.find(({ message }) => message.includes(etcd.version));
    if (answersForRevokedLeases(etcd.version)) {
      const warning = await until(about, { what: `a warning about etcd ${etcd.version}` });
      assert.equal((warning as NodeJS.ErrnoException).code, 'CONCLAVE_ETCD_KEEPALIVE');
      assert.match(warning.message, /upgrade to 3\.4\.38, 3\.5\.23, 3\.6\.5 or later/);
    } else {
      assert.equal(about(), undefined);
    }
  });

  test('fault 13: a revoked lease whose keepalive is answered with success is noticed at once', async (t) => {
    if (!answersForRevokedLeases(etcd.version)) {
      t.diagnostic(`etcd ${etcd.version} does not do it`);
      return;
    }
    const scene = new Scene(t, etcd);
    const proxy = await scene.proxy();
    const client = scene.client(proxy);
    // Its next keepalive is 20 s away.
    const session = await scene.session(client, { ttlSeconds: 60 });
    await until(() => warnings.length > 0, { what: 'the server is known to do so' });
    // Success for a lease that has been revoked: the answer is held until the lease is gone.
    const fault = proxy.onCall(RPC.keepAlive, 'holdReply');
    const renewal = client.lease.keepAliveOnce(session.leaseId);
    await fault.hit();
    await scene.direct.lease.revoke(session.leaseId);
    fault.release();
    assert.equal((await renewal).ttlSeconds, 60);
    await until(() => !session.alive, { timeoutMs: 3000, what: 'the loss is noticed' });
    assert.ok(hasCode(session.signal.reason, 'SESSION_LOST'));
  });

  test('fault 14: one lease whose answer is overdue costs no other lease of the client its life', async (t) => {
    const scene = new Scene(t, etcd);
    const proxy = await scene.proxy();
    const client = scene.client(proxy);
    // The server works on one keepalive of a stream at a time, and gets stuck on those of the first two.
    const dying = [await client.lease.grant(60), await client.lease.grant(60)];
    const stuck = new Set(dying.map(({ id }) => id));
    proxy.onCall(RPC.keepAlive, 'holdRequest', { where: (message) => stuck.has(leaseOf(message)) });
    const terms = dying.map(({ id }) => client.lease.keepAlive(id));
    const sessions: Session[] = [];
    for (let at = 0; at < 5; at++) sessions.push(await scene.session(client, { ttlSeconds: 2 }));
    // Three times to live later.
    await proxy.waitFor((each) => each.replies(RPC.keepAlive) >= 5 * 9, { timeoutMs: 15_000 });
    assert.deepEqual(
      sessions.map((session) => session.alive),
      sessions.map(() => true),
    );
    for (const each of terms) await each.return?.();
    await Promise.all(dying.map(({ id }) => scene.direct.lease.revoke(id)));
  });

  test('fault 14: a lease that etcd is busy ending does not end a leadership on the same client', async (t) => {
    const scene = new Scene(t, etcd);
    const client = scene.client(etcd.endpoint);
    const leadership = await new Election(await scene.session(client, { ttlSeconds: 2 }), 'f14').campaign(
      'x',
    );
    // Many leases that run out while they are asked for: etcd answers each once it has ended it.
    for (let round = 0; round < 3; round++) {
      const terms = await Promise.all(Array.from({ length: 100 }, () => scene.direct.lease.grant(1)));
      await until(async () => (await scene.direct.lease.timeToLive(terms[0]?.id ?? 0n)).ttlSeconds <= 0);
      await Promise.allSettled(terms.map(({ id }) => client.lease.keepAliveOnce(id)));
      await leadership.txn({ then: [op.put('f14-data', String(round))] });
    }
    await leadership.resign();
    await scene.direct.kv.delete('f14-data');
  });
});
