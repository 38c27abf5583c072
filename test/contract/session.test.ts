import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Client, Mutex, Session } from 'conclave';
import { FaultProxy, ManualClock } from 'conclave/testing';
import { onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';
import { exactly, withCode } from './support/rejections.js';

const KEEP_ALIVE = '/etcdserverpb.Lease/LeaseKeepAlive';
const GRANT = '/etcdserverpb.Lease/LeaseGrant';

onEachBackend('session', (backend) => {
  let client: Client;
  let running: NodeJS.Timeout;
  before(() => {
    client = backend.client();
    // gRPC's sockets do not keep a process running, and a manual clock has no timer that would.
    running = setInterval(() => undefined, 1000);
  });
  after(() => clearInterval(running));

  const leaseLives = async (id: bigint): Promise<boolean> =>
    (await client.lease.timeToLive(id)).ttlSeconds >= 0;

  test('is active with a lease of its TTL; close revokes it and the keys with it', async () => {
    const session = await Session.open(client, { label: 'worker 7', ttlSeconds: 5 });
    assert.deepEqual([session.state, session.alive, session.reason], ['active', true, undefined]);
    assert.deepEqual([session.ttlSeconds, session.label], [5, 'worker 7']);
    assert.ok(session.remainingMs > 3000 && session.remainingMs <= 4500);
    await client.kv.put('bound', '', { leaseId: session.leaseId });
    const closing = session.close();
    assert.equal(session.close(), closing);
    // Nothing may be believed to be held once the revocation is on its way.
    assert.deepEqual([session.state, session.alive, session.signal.aborted], ['closed', false, true]);
    await closing;
    withCode('CLOSED')(session.signal.reason);
    withCode('CLOSED')(session.reason);
    assert.throws(() => session.throwIfEnded(), withCode('CLOSED'));
    assert.equal(await client.kv.get('bound'), undefined);
    assert.equal(await leaseLives(session.leaseId), false);
  });

  test('is disposed like a resource', async () => {
    const use = async (): Promise<bigint> => {
      await using session = await Session.open(client, { ttlSeconds: 5 });
      assert.ok(await leaseLives(session.leaseId));
      return session.leaseId;
    };
    assert.equal(await leaseLives(await use()), false);
  });

  test('orphan leaves the lease, and another session resumes it by its id', async () => {
    const first = await Session.open(client, { ttlSeconds: 7 });
    first.orphan();
    first.orphan();
    assert.deepEqual([first.state, first.signal.aborted], ['closed', true]);
    assert.ok(await leaseLives(first.leaseId));
    const second = await Session.open(client, { leaseId: first.leaseId });
    assert.deepEqual([second.leaseId, second.ttlSeconds, second.state], [first.leaseId, 7, 'active']);
    await second.close();
    await first.close();
    await assert.rejects(Session.open(client, { leaseId: first.leaseId }), withCode('LEASE_NOT_FOUND'));
  });

  test('an orphaned lease runs out, since nobody keeps it alive', async () => {
    const session = await Session.open(client, { ttlSeconds: 2 });
    session.orphan();
    await until(async () => !(await leaseLives(session.leaseId)), { what: 'the lease has run out' });
  });

  test('the margin of a resumed session must be less than the TTL that its lease has', async () => {
    const { id } = await client.lease.grant(3);
    await assert.rejects(Session.open(client, { leaseId: id, marginMs: 4000 }), (error) => {
      assert.ok(error instanceof RangeError);
      return /less than the TTL of 3 s, not 4000/.test(error.message);
    });
    const long = await client.lease.grant(60);
    const session = await Session.open(client, { leaseId: long.id, marginMs: 20_000 });
    assert.ok(session.remainingMs > 20_000 && session.remainingMs <= 40_000);
    await session.close();
    await client.lease.revoke(id);
  });

  test('a TTL below the server’s least is raised to it, and the session says so', async () => {
    await using session = await Session.open(client, { ttlSeconds: 1 });
    assert.equal(session.ttlSeconds, 2);
  });

  test('lives on beyond its TTL, by keepalives', async () => {
    await using session = await Session.open(client, { ttlSeconds: 2 });
    const end = performance.now() + 2600;
    await until(() => performance.now() > end);
    assert.equal(session.state, 'active');
    assert.ok(await leaseLives(session.leaseId));
  });

  test('is lost within its TTL when its lease is revoked from outside, and says why', async () => {
    const session = await Session.open(client, { label: 'revoked', ttlSeconds: 2 });
    const mutex = await new Mutex(session, 'revoked').lock();
    await client.lease.revoke(session.leaseId);
    const end = performance.now() + 2000;
    await until(() => session.signal.aborted, { timeoutMs: 2500 });
    assert.ok(performance.now() < end);
    assert.deepEqual([session.state, mutex.held], ['lost', false]);
    withCode('SESSION_LOST')(session.reason);
    assert.match(String(session.reason), /revoked\) is lost: .*expired or was revoked/);
    await session.close();
    assert.throws(() => session.throwIfEnded(), exactly(session.reason));
    await mutex.unlock();
  });

  test('the client’s close ends it with SESSION_LOST, and leaves the lease', async () => {
    const own = new Client({ endpoints: backend.endpoints });
    const session = await Session.open(own, { ttlSeconds: 5 });
    await own.close();
    assert.equal(session.state, 'lost');
    assert.match(String(session.reason), /client was closed/);
    assert.ok(await leaseLives(session.leaseId));
    await client.lease.revoke(session.leaseId);
  });

  test('an abort while opening rejects with the signal’s reason', async () => {
    await assert.rejects(Session.open(client, { signal: AbortSignal.abort('no') }), exactly('no'));
    const abort = new AbortController();
    const opening = Session.open(client, { signal: abort.signal, ttlSeconds: 2 });
    abort.abort('too late');
    await assert.rejects(opening, exactly('too late'));
    // The grant may have been carried out; nobody keeps that lease alive.
    await until(async () => (await client.lease.list()).length === 0);
  });

  test('by the clock: jeopardy at half the TTL, lost a margin before the TTL, without a timer', async () => {
    const clock = new ManualClock();
    const own = backend.client({ clock });
    const session = await Session.open(own, { marginMs: 1000, ttlSeconds: 60 });
    assert.deepEqual([session.state, session.remainingMs], ['active', 59_000]);
    clock.jump(29_999);
    assert.equal(session.state, 'active');
    clock.jump(1);
    assert.equal(session.state, 'jeopardy');
    const mutex = await new Mutex(session, 'clock').lock();
    clock.jump(28_999);
    assert.deepEqual([session.state, mutex.held, session.signal.aborted], ['jeopardy', true, false]);
    // No timer fires, as in a process that was stopped: looking is enough.
    clock.jump(1);
    assert.deepEqual([mutex.held, session.state, session.signal.aborted], [false, 'lost', true]);
    withCode('SESSION_LOST')(mutex.signal.reason);
    assert.match(String(session.reason), /no keepalive sent in the last 60000 ms|in the last 59000 ms/);
    await client.lease.revoke(session.leaseId);
    await own.close();
  });

  test('by the clock: its signal aborts when the deadline comes, if nobody looks', async () => {
    await using proxy = await FaultProxy.start(backend.endpoints[0] ?? '', { grpc: true });
    const clock = new ManualClock();
    const own = new Client({ clock, endpoints: proxy.endpoint });
    const session = await Session.open(own, { marginMs: 1000, ttlSeconds: 60 });
    proxy.onCall(KEEP_ALIVE, 'holdReply');
    await clock.advance(58_999);
    assert.equal(session.signal.aborted, false);
    await clock.advance(1);
    assert.equal(session.signal.aborted, true);
    await own.close();
    await client.lease.revoke(session.leaseId);
  });

  test('nothing remains of a session that has ended, whatever its lease still has', async () => {
    const sessions = await Promise.all(
      Array.from({ length: 3 }, () => Session.open(client, { ttlSeconds: 60 })),
    );
    const [lost, orphaned, closed] = sessions;
    assert.ok(sessions.every(({ remainingMs }) => remainingMs > 50_000));
    lost?.leaseIsGone();
    orphaned?.orphan();
    const closing = closed?.close();
    assert.deepEqual(
      sessions.map(({ remainingMs, state }) => [remainingMs, state]),
      [
        [0, 'lost'],
        [0, 'closed'],
        [0, 'closed'],
      ],
    );
    await closing;
    for (const { leaseId } of sessions) await client.lease.revoke(leaseId);
  });

  test('the deadline counts from when a request was sent, not from when it was answered', async () => {
    await using proxy = await FaultProxy.start(backend.endpoints[0] ?? '', { grpc: true });
    const clock = new ManualClock();
    const own = new Client({ clock, endpoints: proxy.endpoint, timeoutMs: 60_000 });
    const grant = proxy.onCall(GRANT, 'holdReply');
    const opening = Session.open(own, { marginMs: 0, ttlSeconds: 30 });
    await grant.hit();
    clock.jump(4000);
    grant.release();
    const session = await opening;
    assert.equal(session.remainingMs, 26_000);

    const renewal = proxy.onCall(KEEP_ALIVE, 'holdReply');
    await clock.advance(6000); // A third of the TTL after the grant was sent.
    await renewal.hit();
    clock.jump(500);
    renewal.release();
    await until(() => session.remainingMs > 26_000);
    assert.equal(session.remainingMs, 29_500);
    await session.close();
    await own.close();
  });

  test('a session whose keepalives are lost is lost, not closed, and keeps the failure as the cause', async () => {
    await using proxy = await FaultProxy.start(backend.endpoints[0] ?? '', { grpc: true });
    const own = new Client({ endpoints: proxy.endpoint });
    const session = await Session.open(own, { ttlSeconds: 2 });
    const opened = performance.now();
    proxy.drop('both', 'all');
    await until(() => session.signal.aborted, { timeoutMs: 4000 });
    // Not before it had to be, and before the server ends the lease.
    const afterMs = performance.now() - opened;
    assert.ok(afterMs > 1500 && afterMs < 2000, `${afterMs} ms`);
    withCode('SESSION_LOST')(session.reason);
    await own.close();
    await client.lease.revoke(session.leaseId);
  });
});
