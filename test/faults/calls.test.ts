// Calls under faults: deadlines hold, nothing is applied twice, and what is not known is said to be unknown.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { type Client, compare, ConclaveError, hasCode, op } from 'conclave';
import { type FaultProxy } from 'conclave/testing';
import { until } from '../support/until.js';
import { Random } from './random.js';
import { etcdOfSuite, LOSSES, nextOf, RPC, Scene, timed } from './scene.js';

/** Writes of every kind, and how often etcd has carried each out on a key that nothing else writes. */
const WRITES: Readonly<
  Record<string, { path: string; send: (client: Client, key: string) => Promise<unknown> }>
> = {
  delete: { path: RPC.delete, send: (client, key) => client.kv.delete(key) },
  'plain txn': { path: RPC.txn, send: (client, key) => client.kv.txn({ then: [op.put(key, 'new')] }) },
  put: { path: RPC.put, send: (client, key) => client.kv.put(key, 'new') },
};

describe('calls under faults', { concurrency: 4 }, () => {
  const etcd = etcdOfSuite();

  for (const [kind, { path, send }] of Object.entries(WRITES)) {
    for (const then of LOSSES) {
      test(`a ${kind} whose answer is lost is UNKNOWN_OUTCOME and is not sent again (${then})`, async (t) => {
        const scene = new Scene(t, etcd);
        const proxies = [await scene.proxy(), await scene.proxy()];
        const client = scene.client(proxies, { timeoutMs: 700 });
        const key = `lost-${kind}-${then}`;
        await client.kv.put(key, 'old');
        for (const proxy of proxies) proxy.swallowNextReply({ method: path, then });
        const sent = (): number => proxies.reduce((sum, proxy) => sum + proxy.requests(path), 0);
        const before = sent();
        const { error, ms } = await timed(send(client, key));
        assert.ok(hasCode(error, 'UNKNOWN_OUTCOME'), String(error));
        assert.ok(ms < 1500, `${ms} ms`);
        assert.equal(sent() - before, 1);
        await until(async () => (await scene.direct.kv.get(key))?.string() !== 'old');
        await scene.direct.kv.delete(key);
      });
    }
  }

  for (const then of LOSSES) {
    test(`a guarded write whose answer is lost is found to have been applied (${then})`, async (t) => {
      const scene = new Scene(t, etcd);
      const proxies = [await scene.proxy(), await scene.proxy()];
      const client = scene.client(proxies);
      const key = `guarded-${then}`;
      await client.kv.get(key);
      for (const proxy of proxies) proxy.swallowNextReply({ method: RPC.txn, then });
      const spec = { else: [op.get(key)], if: [compare.missing(key)], then: [op.put(key, 'x')] };
      const { succeeded, responses } = await client.kv.txn(spec, { idempotent: true });
      assert.equal(succeeded, false);
      assert.ok(responses[0]?.type === 'get' && responses[0].kvs[0]?.version === 1n);
      await scene.direct.kv.delete(key);
    });
  }

  test('a guarded write that may have been applied is never said to have failed for sure', async (t) => {
    const scene = new Scene(t, etcd);
    const proxy = await scene.proxy();
    const client = scene.client(proxy);
    for (const status of [
      { code: 7, message: 'etcdserver: permission denied' },
      { code: 12, message: 'unknown service' },
      { code: 9, message: 'etcdserver: some new error' },
    ]) {
      await client.kv.get('sure');
      proxy.swallowNextReply({ method: RPC.txn });
      const refused = proxy.onCall(RPC.txn, 'fail', { status });
      const spec = { if: [compare.missing('sure')], then: [op.put('sure', 'x')] };
      const { error } = await timed(client.kv.txn(spec, { idempotent: true }));
      assert.equal(refused.hits, 1);
      assert.ok(hasCode(error, 'UNKNOWN_OUTCOME'), String(error));
      assert.ok(error.cause instanceof ConclaveError);
      await scene.direct.kv.delete('sure');
    }
  });

  test('a lease granted under an id of the caller is granted, although its answer was lost', async (t) => {
    const scene = new Scene(t, etcd);
    const proxy = await scene.proxy();
    const client = scene.client(proxy);
    await client.kv.get('x');
    proxy.swallowNextReply({ method: RPC.grant });
    const term = await client.lease.grant(30, { id: 4711n });
    assert.deepEqual([term.id, term.ttlSeconds], [4711n, 30]);
    await assert.rejects(client.lease.grant(30, { id: 4711n }), { code: 'LEASE_EXISTS' });
    proxy.swallowNextReply({ method: RPC.revoke });
    await client.lease.revoke(4711n);
    assert.equal((await client.lease.timeToLive(4711n)).ttlSeconds, -1);
  });

  test('every call settles within its deadline, whatever the outage', async (t) => {
    const scene = new Scene(t, etcd);
    const strikes: Readonly<Record<string, (proxy: FaultProxy) => unknown>> = {
      dropped: (proxy) => proxy.drop(),
      held: (proxy) => proxy.pause(),
      muted: (proxy) => proxy.drop('toClient'),
      refused: async (proxy) => {
        await proxy.refuse();
        proxy.cut();
      },
    };
    await Promise.all(
      Object.entries(strikes).flatMap(([name, strike]) =>
        [1, 2].map(async (places) => {
          const proxies = await Promise.all(Array.from({ length: places }, () => scene.proxy()));
          const client = scene.client(proxies, { timeoutMs: 600 });
          const { id } = await client.lease.grant(30);
          for (const proxy of proxies) await strike(proxy);
          const calls: Readonly<Record<string, () => Promise<unknown>>> = {
            delete: () => client.kv.delete(`all-${name}`),
            get: () => client.kv.get('x'),
            grant: () => client.lease.grant(5, { id: 815n }),
            keepAliveOnce: () => client.lease.keepAliveOnce(id),
            leases: () => client.lease.list(),
            members: () => client.cluster.memberList(),
            put: () => client.kv.put(`all-${name}`, 'x', { leaseId: id }),
            revoke: () => client.lease.revoke(id),
            status: () => client.maintenance.status(),
            txn: () => client.kv.txn({ then: [op.put(`all-${name}`, 'x', { leaseId: id })] }),
          };
          for (let round = 0; round < 2; round++) {
            await Promise.all(
              Object.entries(calls).map(async ([call, send]) => {
                const { error, ms } = await timed(send());
                const where = `${call}, ${name}, ${places}`;
                assert.ok(hasCode(error, 'UNAVAILABLE', 'DEADLINE_EXCEEDED', 'UNKNOWN_OUTCOME'), where);
                assert.ok(ms < 1400, `${where}: ${ms} ms`);
              }),
            );
          }
          for (const proxy of proxies) await proxy.heal();
          await client.kv.get('x', { timeoutMs: 5000 });
          await scene.direct.lease.revoke(id);
          await scene.direct.lease.revoke(815n);
          await scene.direct.kv.delete(`all-${name}`);
        }),
      ),
    );
  });

  test('a session and a watch go on when the other endpoint neither answers nor fails', async (t) => {
    const scene = new Scene(t, etcd);
    const [good, silent] = [await scene.proxy(), await scene.proxy()];
    silent.drop();
    const client = scene.client([good, silent], { timeoutMs: 2000 });
    const session = await scene.session(client, { ttlSeconds: 3 });
    const watch = client.watch('beside');
    await watch.created;
    for (let round = 0; round < 3; round++) {
      // Both streams look for another endpoint, and must come back to the one there is.
      const replies = good.replies(RPC.keepAlive);
      good.cut();
      await scene.direct.kv.put('beside', String(round));
      const batch = await nextOf(watch);
      assert.equal(batch.events[0]?.kv.string(), String(round));
      await good.waitFor((each) => each.replies(RPC.keepAlive) > replies);
    }
    assert.ok(session.alive);
    watch.close();
    await scene.direct.kv.delete('beside');
  });

  test('a client that is closed while it connects opens no connection afterwards', async (t) => {
    const scene = new Scene(t, etcd);
    const proxies = [await scene.proxy(), await scene.proxy()];
    for (const proxy of proxies) proxy.drop();
    const client = scene.client(proxies);
    const calls = [client.kv.get('x'), client.kv.put('x', 'y'), client.lease.keepAliveOnce(1n)].map((call) =>
      timed<unknown>(call),
    );
    const watch = client.watch('x');
    await Promise.all(proxies.map((proxy) => proxy.waitFor((each) => each.accepted >= 1)));
    const accepted = proxies.map((proxy) => proxy.accepted);
    await client.close();
    for (const { error } of await Promise.all(calls)) assert.ok(hasCode(error, 'CLOSED'), String(error));
    await assert.rejects(watch.next(), { code: 'CLOSED' });
    await assert.rejects(client.kv.get('x'), { code: 'CLOSED' });
    // Another client's connections are the only ones since.
    for (const proxy of proxies) {
      await proxy.heal();
      await scene.client(proxy).kv.get('x');
    }
    assert.deepEqual(
      proxies.map((proxy) => proxy.accepted),
      accepted.map((count) => count + 1),
    );
  });

  test('writes through random cuts, silences and resets: none is applied twice, none is lost that was confirmed', async (t) => {
    const random = new Random(t);
    const scene = new Scene(t, etcd);
    const proxies = [await scene.proxy(), await scene.proxy(), await scene.proxy()];
    const client = scene.client(proxies, { timeoutMs: 1000 });
    const outcomes = new Map<string, string>();
    let writing = true;
    let written = 0;
    const write = async (): Promise<void> => {
      while (writing) {
        const guarded = random.fraction() < 0.5;
        const key = `random/${guarded ? 'guarded' : 'plain'}/${written++}`;
        const call = guarded
          ? client.kv.txn(
              { else: [op.get(key)], if: [compare.missing(key)], then: [op.put(key, 'x')] },
              { idempotent: true },
            )
          : client.kv.put(key, 'x');
        const { error, ms } = await timed<unknown>(call);
        assert.ok(ms < 2000, `${key}: ${ms} ms`);
        outcomes.set(
          key,
          error === undefined ? 'done' : error instanceof ConclaveError ? error.code : 'strange',
        );
      }
    };
    const writers = Array.from({ length: 30 }, write);
    for (let round = 0; round < 25; round++) {
      const proxy = random.pick(proxies);
      const strike = random.below(5);
      if (strike === 0) proxy.cut();
      else if (strike === 1) proxy.drop('toClient');
      else if (strike === 2) proxy.swallowNextReply({ then: random.pick(LOSSES) });
      else if (strike === 3) proxy.onCall('*', 'dropRequest', { then: 'reset', times: 5 });
      else proxy.delay(random.below(50));
      const enough = written + 100;
      await until(() => written >= enough, { what: 'writes go on' });
      await proxy.heal();
    }
    writing = false;
    await Promise.all(writers);
    const { kvs } = await scene.direct.kv.range({ prefix: 'random/' });
    const versions = new Map(kvs.map((kv) => [kv.key, kv.version]));
    for (const [key, outcome] of outcomes) {
      const version = versions.get(key) ?? 0n;
      const where = `${key}: ${outcome}, version ${version}`;
      if (outcome === 'done') assert.equal(version, 1n, where);
      else if (outcome === 'UNKNOWN_OUTCOME') assert.ok(version <= 1n, where);
      else assert.ok((outcome === 'UNAVAILABLE' || outcome === 'DEADLINE_EXCEEDED') && version === 0n, where);
    }
    assert.ok(outcomes.size > 500);
    await scene.direct.kv.delete({ prefix: 'random/' });
  });
});
