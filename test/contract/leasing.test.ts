// Keys that are owned until somebody else wants to write them, and read from memory meanwhile.
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';

import {
  Client,
  type Clock,
  compare,
  connect,
  Leasing,
  type LeasingOptions,
  op,
  Session,
  systemClock,
} from 'conclave';
import { FaultProxy } from 'conclave/testing';

import { type Backend, onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';
import { code, settlesSoon } from '../support/world.js';

const RANGE = '/etcdserverpb.KV/Range';
const TXN = '/etcdserverpb.KV/Txn';
const PREFIX = 'owned/';

/** Two leasings: `one` behind a proxy that counts and loses its requests. */
async function scene(t: TestContext, backend: Backend, options: Partial<LeasingOptions> = {}) {
  const client = backend.client();
  const proxy = await FaultProxy.start(backend.endpoints[0] ?? '', { grpc: true });
  const through = new Client({ endpoints: proxy.endpoint });
  const sessions = [await Session.open(through, { ttlSeconds: 20 }), await Session.open(client)] as const;
  const [one, two] = sessions.map((each) => new Leasing(each, { prefix: PREFIX, ...options }));
  assert.ok(one !== undefined && two !== undefined);
  t.after(async () => {
    await Promise.all([one.close(), two.close()]);
    await Promise.all(sessions.map((each) => each.close()));
    await client.kv.delete({ prefix: '' });
    await through.close();
    await proxy.close();
  });
  // Nothing is owned before the watch is there, without which nobody would be heard who asks for it.
  const owned = async (leasing: Leasing, key: string) =>
    until(async () => {
      await leasing.get(key);
      return leasing.owns(key);
    });
  const requests = () => proxy.requests(TXN) + proxy.requests(RANGE);
  return { client, one, owned, proxy, requests, sessions, two };
}

const text = async (leasing: Leasing, key: string) => (await leasing.get(key))?.string();

onEachBackend('a leasing', (backend) => {
  test('reads from memory what it owns, without a request, and what it has written itself', async (t) => {
    const { client, one, owned, requests } = await scene(t, backend);
    await client.kv.put('a', 'x');
    await owned(one, 'a');
    await owned(one, 'missing');
    const before = requests();
    for (let at = 0; at < 20; at++) assert.equal(await text(one, 'a'), 'x');
    assert.equal(await one.get('missing'), undefined);
    assert.equal(requests(), before);
    const { previous, revision } = await one.put('a', 'y', { prevKv: true });
    assert.equal(previous?.string(), 'x');
    const { deleted } = await one.delete('missing');
    assert.equal(deleted, 0n);
    assert.equal(requests(), before + 2);
    const kv = await one.get('a');
    assert.deepEqual([kv?.string(), kv?.modRevision, kv?.version], ['y', revision, 2n]);
    assert.deepEqual(await client.kv.get('a'), kv);
    assert.equal(requests(), before + 2);
    assert.equal(one.size, 2);
  });

  test('gives a key back to whoever writes it, and nobody owns it for a while', async (t) => {
    const { client, one, owned, two } = await scene(t, backend);
    await owned(one, 'a');
    assert.equal(await two.get('a'), undefined);
    assert.ok(!two.owns('a'));
    const { revision } = await two.put('a', 'x');
    assert.ok(!one.owns('a'));
    assert.equal((await one.get('a'))?.modRevision, revision);
    assert.ok(!one.owns('a') && !two.owns('a'));
    assert.equal((await client.kv.range({ prefix: PREFIX })).kvs.length, 0);
    await owned(two, 'b');
    await one.delete('b');
    assert.ok(!two.owns('b'));
  });

  test('owns it again once nobody has wanted it for a while', async (t) => {
    const { one, owned, two } = await scene(t, backend, { pauseMs: 20 });
    for (let round = 0; round < 3; round++) {
      await owned(one, 'a');
      await two.put('a', `${round}`);
      assert.equal(await text(one, 'a'), `${round}`);
    }
  });

  test('does not keep what is asked back while it is read', async (t) => {
    const { client, one, owned, proxy, two } = await scene(t, backend);
    await owned(one, 'other');
    const held = proxy.onCall(TXN, 'holdReply', { times: 1 });
    const reading = one.get('a');
    await held.hit();
    const writing = two.put('a', 'x');
    await until(async () => ((await client.kv.get(`${PREFIX}a`))?.version ?? 0n) > 1n);
    assert.ok(!(await settlesSoon(writing)));
    held.release();
    assert.equal(await reading, undefined);
    await writing;
    assert.ok(!one.owns('a'));
    assert.equal(await text(one, 'a'), 'x');
  });

  test('answers nothing from memory while its own write is under way', async (t) => {
    const { client, one, owned, proxy } = await scene(t, backend);
    await owned(one, 'a');
    const held = proxy.onCall(TXN, 'holdReply', { times: 1 });
    const writing = one.put('a', 'x');
    await held.hit();
    assert.equal((await client.kv.get('a'))?.string(), 'x');
    assert.ok(!one.owns('a'));
    assert.equal(await text(one, 'a'), 'x');
    held.release();
    await writing;
    assert.ok(one.owns('a'));
  });

  test('gives up what a write of unknown outcome may have changed', async (t) => {
    const { one, owned, proxy } = await scene(t, backend);
    await owned(one, 'a');
    proxy.onCall(TXN, 'dropReply', { then: 'reset' });
    await assert.rejects(one.put('a', 'x'), code('UNKNOWN_OUTCOME'));
    assert.ok(!one.owns('a'));
    assert.equal(await text(one, 'a'), 'x');
    await owned(one, 'a');
    // Whoever gives up while it is sent does not know either.
    const stop = new AbortController();
    const held = proxy.onCall(TXN, 'holdRequest', { times: 1 });
    const writing = one.put('a', 'y', { signal: stop.signal });
    await held.hit();
    stop.abort();
    await assert.rejects(writing, { name: 'AbortError' });
    assert.ok(!one.owns('a'));
    held.release();
  });

  test('answers nothing from memory right after a freeze, before any timer has fired', async () => {
    let frozenMs = 0;
    const clock: Clock = { ...systemClock, now: () => systemClock.now() + frozenMs };
    const client = backend.client();
    const frozen = backend.client({ clock });
    await using session = await Session.open(frozen, { ttlSeconds: 5 });
    await using one = new Leasing(session, { prefix: PREFIX });
    await until(async () => {
      await one.get('a');
      return one.owns('a');
    });
    await client.kv.put('a', 'behind its back');
    assert.equal(await one.get('a'), undefined);
    frozenMs = 5000;
    assert.ok(!one.owns('a'));
    assert.equal(await text(one, 'a'), 'behind its back');
    await client.lease.revoke(session.leaseId);
    await client.kv.delete('a');
  });

  test('lets a writer in once the lease of an owner that died is over', async (t) => {
    const { client, one, owned, sessions, two } = await scene(t, backend);
    await owned(one, 'a');
    sessions[0].orphan();
    assert.ok(!one.owns('a'));
    // Nobody gives it back: it does not ask any more.
    const writing = two.put('a', 'x');
    await client.lease.revoke(sessions[0].leaseId);
    await writing;
    assert.equal(await text(one, 'a'), 'x');
    assert.ok(!one.owns('a'));
  });

  test('waits no longer than it is told for an owner that says nothing, and writes nothing then', async (t) => {
    const { client, two } = await scene(t, backend);
    const silent = await client.lease.grant(20);
    await client.kv.put(`${PREFIX}a`, 'somebody', { leaseId: silent.id });
    await assert.rejects(two.put('a', 'x', { timeoutMs: 100 }), code('TIMEOUT'));
    const stop = new AbortController();
    const waiting = two.put('a', 'y', { signal: stop.signal });
    assert.ok(!(await settlesSoon(waiting)));
    stop.abort('enough');
    await assert.rejects(waiting, (reason) => reason === 'enough');
    assert.equal(await client.kv.get('a'), undefined);
    const last = two.put('a', 'z');
    await until(async () => ((await client.kv.get(`${PREFIX}a`))?.version ?? 0n) > 1n);
    await client.lease.revoke(silent.id);
    await last;
    assert.equal(await text(two, 'a'), 'z');
  });

  test('runs transactions on several keys, whoever owns them', async (t) => {
    const { one, owned, two } = await scene(t, backend);
    await owned(one, 'a');
    await owned(two, 'b');
    const spec = {
      if: [compare.missing('a')],
      then: [op.put('a', 'x'), op.put('b', 'x'), op.get('b')],
    } as const;
    const first = await one.txn({ ...spec, else: [op.get('a')] });
    assert.ok(first.succeeded);
    assert.equal(first.responses[2].kvs[0]?.string(), 'x');
    assert.deepEqual([one.owns('a'), one.owns('b'), two.owns('b')], [true, false, false]);
    const second = await one.txn({ ...spec, else: [op.get('a')] });
    assert.ok(!second.succeeded);
    assert.equal(second.responses[0].kvs[0]?.string(), 'x');
    assert.deepEqual(await Promise.all([text(one, 'a'), text(one, 'b'), text(two, 'b')]), ['x', 'x', 'x']);
  });

  test('does not own what is on a lease, nor more than it may', async (t) => {
    const { client, one, owned, sessions, two } = await scene(t, backend, { maxKeys: 2 });
    await owned(one, 'a');
    await one.put('a', 'x', { leaseId: sessions[1].leaseId });
    assert.ok(!one.owns('a'));
    await client.kv.put('leased', 'x', { leaseId: sessions[1].leaseId });
    await owned(two, 'other');
    assert.equal(await text(two, 'leased'), 'x');
    assert.ok(!two.owns('leased'));
    await two.close();
    for (const key of ['b', 'c', 'd']) await owned(one, key);
    assert.deepEqual(
      ['b', 'c', 'd'].map((key) => one.owns(key)),
      [false, true, true],
    );
    await until(async () => (await client.kv.range({ prefix: PREFIX })).kvs.length === 2);
  });

  test('leaves nothing when requests arrive late and answers are lost', async (t) => {
    const { client, one, owned, proxy, two } = await scene(t, backend, { pauseMs: 10 });
    const copies = proxy.lateCopies({ chance: 0.5, kind: 'first', seed: 7, withinMs: 600 });
    for (let round = 0; round < 8; round++) {
      await one.get(`k${round % 2}`);
      const value = `${round}`;
      await two.put(`k${round % 2}`, value);
      assert.equal(await text(one, `k${round % 2}`), value);
    }
    proxy.onCall(TXN, 'dropReply', { then: 'reset' });
    await owned(one, 'k2');
    await one.close();
    await two.close();
    await copies.settled();
    await until(async () => (await client.kv.range({ prefix: PREFIX })).kvs.length === 0);
  });

  test('gives back what an earlier life has left on its lease', async (t) => {
    const { client, one, owned, sessions, two } = await scene(t, backend);
    await owned(two, 'a');
    // Another leasing of the same session keeps its own.
    await using beside = new Leasing(sessions[1], { prefix: PREFIX });
    await owned(beside, 'b');
    await client.kv.put(`${PREFIX}c`, 'its mark', { leaseId: sessions[1].leaseId });
    await one.put('c', 'x');
    assert.deepEqual([two.owns('a'), beside.owns('b')], [true, true]);
  });

  test('goes on with the next session of a Conclave, and is closed with it', async (t) => {
    const client = backend.client();
    const conclave = await connect({ endpoints: backend.endpoints, ttlSeconds: 5 });
    t.after(() => conclave.close());
    const leasing = conclave.leasing({ prefix: PREFIX });
    const isOwned = async (): Promise<boolean> => {
      await leasing.get('a');
      return leasing.owns('a');
    };
    await until(isOwned);
    const lost = conclave.session;
    await client.lease.revoke(lost.leaseId);
    await until(() => !lost.alive);
    assert.ok(!leasing.owns('a'));
    await until(isOwned);
    assert.notEqual(conclave.session, lost);
    assert.equal((await client.kv.get(`${PREFIX}a`))?.leaseId, conclave.session.leaseId);
    await conclave.close();
    await assert.rejects(leasing.get('a'), code('CLOSED'));
    await assert.rejects(leasing.put('a', 'x'), code('CLOSED'));
    assert.equal(leasing.size, 0);
  });

  test('refuses what it cannot do, and says what it is', async (t) => {
    const { one, sessions } = await scene(t, backend);
    const make = (options: unknown) => () => new Leasing(sessions[0], options as LeasingOptions);
    assert.throws(make({ prefix: '' }), TypeError);
    assert.throws(make({}), TypeError);
    assert.throws(make({ maxKeys: 0, prefix: 'x/' }), RangeError);
    assert.throws(make({ prefix: 'x/', unknown: 1 }), TypeError);
    assert.throws(() => new Leasing(JSON.parse('{}') as Session, { prefix: 'x/' }), TypeError);
    await assert.rejects(one.get(''), TypeError);
    await assert.rejects(one.get(`${PREFIX}a`), RangeError);
    await assert.rejects(one.txn({ then: [op.delete({ prefix: 'a' })] }), TypeError);
    assert.deepEqual(one.toJSON(), { prefix: PREFIX, size: 0 });
  });
});
