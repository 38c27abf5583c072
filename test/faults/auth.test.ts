// Tokens that run out, under calls, watches and keepalives, with and without faults of the network.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { Client, compare, Election, hasCode, Mutex, op } from 'conclave';
import { type EtcdCluster, startEtcd } from 'conclave/testing';
import { until } from '../support/until.js';
import { assertSame, nextOf, RPC, Scene, timed } from './scene.js';

const AUTHENTICATE = '/etcdserverpb.Auth/Authenticate';
const auth = { password: 'secret', username: 'root' };
/** etcd looks at its tokens once a second. */
const TOKEN_GONE_MS = 3500;

describe('tokens that run out', { concurrency: 4 }, () => {
  let etcd: EtcdCluster;
  before(async () => {
    etcd = await startEtcd({ auth: { rootPassword: auth.password }, authTokenTtlSeconds: 1 });
  });
  after(async () => {
    const client = new Client({ auth, endpoints: etcd.endpoints });
    await until(async () => (await client.lease.list()).length === 0, { what: 'no lease is left' });
    const { kvs } = await client.kv.range({ prefix: '' }, { keysOnly: true });
    await client.close();
    await etcd.close();
    assert.deepEqual(
      kvs.map((kv) => kv.key),
      [],
    );
  });

  const pause = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, TOKEN_GONE_MS));

  test('a call that waits for a connection, and then for a token, has one limit for both', async (t) => {
    const scene = new Scene(t, etcd, { auth });
    const proxy = await scene.proxy();
    proxy.pause();
    // It never hears who it is.
    proxy.onCall(AUTHENTICATE, 'dropReply', { then: 'silence' });
    const client = scene.client(proxy, { auth });
    const late = setTimeout(() => proxy.resume(), 1000);
    const { error, ms } = await timed(client.kv.get('late', { timeoutMs: 1500 }));
    clearTimeout(late);
    assert.ok(hasCode(error, 'DEADLINE_EXCEEDED', 'UNAVAILABLE'), String(error));
    assert.equal(proxy.requests(AUTHENTICATE), 1);
    assert.ok(ms > 1490 && ms < 2200, `${ms} ms`);
  });

  test('calls of every kind go on with a token of their own fetching, one fetched for all', async (t) => {
    const scene = new Scene(t, etcd, { auth });
    const proxy = await scene.proxy();
    const client = scene.client(proxy, { auth });
    await client.kv.put('calls', '0');
    const fetched = proxy.requests(AUTHENTICATE);
    await pause();
    await Promise.all([
      ...Array.from({ length: 20 }, () => client.kv.get('calls')),
      ...Array.from({ length: 20 }, (_, at) => client.kv.put(`calls/${at}`, 'x')),
      client.kv.txn({ if: [compare.exists('calls')], then: [op.put('calls', '1')] }),
    ]);
    assert.equal((await client.kv.get('calls'))?.version, 2n);
    const again = proxy.requests(AUTHENTICATE) - fetched;
    assert.ok(again >= 1 && again <= 3, `${again} tokens fetched`);
    await client.kv.delete({ prefix: 'calls' });
  });

  test('a watch that is cut after its token ran out goes on, and new ones beside it begin', async (t) => {
    const scene = new Scene(t, etcd, { auth });
    const proxy = await scene.proxy();
    const client = scene.client(proxy, { auth });
    const watch = client.watch({ prefix: 'watch/' });
    await watch.created;
    for (let round = 0; round < 2; round++) {
      await pause();
      await proxy.refuse();
      proxy.cut();
      await scene.direct.kv.put('watch/a', `while away ${round}`);
      await proxy.accept();
      assert.equal((await nextOf(watch)).events[0]?.kv.string(), `while away ${round}`);
      // A new watch on the stream whose token has run out.
      await pause();
      const other = client.watch('watch/b');
      await other.created;
      await scene.direct.kv.put('watch/b', String(round));
      assert.equal((await nextOf(other)).events[0]?.kv.string(), String(round));
      assert.equal((await nextOf(watch)).events[0]?.kv.key, 'watch/b');
      other.close();
    }
    watch.close();
    await scene.direct.kv.delete({ prefix: 'watch/' });
  });

  test('a watch that catches up is cut while its token runs out: every event comes once', async (t) => {
    const scene = new Scene(t, etcd, { auth });
    const proxy = await scene.proxy();
    const client = scene.client(proxy, { auth });
    const revisions: bigint[] = [];
    for (let at = 0; at < 300; at++) {
      revisions.push((await scene.direct.kv.put(`behind/${at % 7}`, 'x'.repeat(20_000))).revision);
    }
    const [startRevision] = revisions;
    const fault = proxy.onCall(RPC.watch, 'holdReply');
    const watch = client.watch({ prefix: 'behind/' }, { startRevision });
    const seen: bigint[] = [];
    const reading = (async () => {
      for await (const { events } of watch) {
        seen.push(...events.map((event) => event.kv.modRevision));
        if (seen.length >= 300) break;
      }
    })();
    await fault.hit();
    await pause();
    proxy.cut();
    await fault.hit(2);
    await pause();
    proxy.cut();
    fault.release();
    await reading;
    assertSame(seen, revisions);
    await scene.direct.kv.delete({ prefix: 'behind/' });
  });

  test('a session, its lock and its leadership last while tokens come and go, cuts between', async (t) => {
    const scene = new Scene(t, etcd, { auth });
    const proxy = await scene.proxy();
    const client = scene.client(proxy, { auth });
    const session = await scene.session(client, { ttlSeconds: 3 });
    const lock = await new Mutex(session, 'auth-lock').lock();
    const leadership = await new Election(session, 'auth-election').campaign('0');
    const waiting = new Mutex(
      await scene.session(scene.client(proxy, { auth }), { ttlSeconds: 3 }),
      'auth-lock',
    ).lock();
    for (let round = 1; round <= 2; round++) {
      await pause();
      proxy.cut();
      await leadership.proclaim(String(round));
      await lock.txn({ then: [op.put('auth-data', String(round))] });
      const term = await client.lease.keepAliveOnce(session.leaseId);
      assert.equal(term.ttlSeconds, 3);
    }
    assert.ok(session.alive && lock.held && leadership.held);
    await lock.unlock();
    await (await waiting).unlock();
    await leadership.resign();
    await scene.direct.kv.delete('auth-data');
  });

  test('a call keeps its deadline although no token can be fetched, and goes through when one can', async (t) => {
    const scene = new Scene(t, etcd, { auth });
    const proxy = await scene.proxy();
    const client = scene.client(proxy, { auth });
    const fault = proxy.onCall(AUTHENTICATE, 'holdRequest');
    for (const call of [
      client.kv.get('x', { timeoutMs: 300 }),
      client.kv.put('deadline', 'x', { timeoutMs: 300 }),
      client.kv.txn({ then: [op.put('deadline', 'x')] }, { timeoutMs: 300 }),
    ]) {
      const { error, ms } = await timed<unknown>(call);
      assert.ok(hasCode(error, 'DEADLINE_EXCEEDED', 'UNAVAILABLE'), 'nothing was sent');
      assert.ok(ms < 900, `${ms} ms`);
    }
    const patient = client.kv.get('x');
    fault.release();
    assert.equal(await patient, undefined);
    assert.equal(await client.kv.get('deadline'), undefined);
  });

  test('a call goes through although the first request for a token is lost', async (t) => {
    const scene = new Scene(t, etcd, { auth });
    const proxy = await scene.proxy();
    for (const then of ['cut', 'reset'] as const) {
      for (const action of ['dropRequest', 'dropReply'] as const) {
        const client = scene.client(proxy, { auth });
        const fault = proxy.onCall(AUTHENTICATE, action, { then });
        assert.equal(await client.kv.get('x'), undefined);
        assert.equal(fault.hits, 1);
      }
    }
  });

  test('maintenance goes on when its token has run out, though no other call renews it', async (t) => {
    const scene = new Scene(t, etcd, { auth });
    const makers = {
      defragment: (client: Client) => client.maintenance.defragment({ timeoutMs: 30_000 }),
      hashKv: (client: Client) => client.maintenance.hashKv(),
      snapshot: async (client: Client) => {
        for await (const part of client.maintenance.snapshot()) assert.ok(part.length > 0);
      },
    };
    const clients = Object.values(makers).map((call) => ({
      call,
      client: scene.client(etcd.endpoint, { auth }),
    }));
    for (const { call, client } of clients) await call(client);
    await pause();
    for (const { call, client } of clients) await call(client);
  });

  test('a user who may not watch is told so, and the watches beside go on', async (t) => {
    const scene = new Scene(t, etcd, { auth });
    const name = 'guest';
    await scene.direct.auth.userAdd(name, 'pass');
    await scene.direct.auth.roleAdd('reader');
    await scene.direct.auth.roleGrantPermission('reader', 'read', { prefix: 'open/' });
    await scene.direct.auth.userGrantRole(name, 'reader');
    const proxy = await scene.proxy();
    const client = scene.client(proxy, { auth: { password: 'pass', username: name } });
    const open = client.watch({ prefix: 'open/' });
    await open.created;
    for (let round = 0; round < 3; round++) {
      await assert.rejects(client.watch('closed').next(), { code: 'PERMISSION_DENIED', key: 'closed' });
      await scene.direct.kv.put('open/a', String(round));
      assert.equal((await nextOf(open)).events[0]?.kv.string(), String(round));
    }
    assert.equal(proxy.requests(RPC.watch), 4, 'one watch that stays, three refused, and none made anew');
    open.close();
    await scene.direct.kv.delete({ prefix: 'open/' });
    await scene.direct.auth.userDelete(name);
    await scene.direct.auth.roleDelete('reader');
  });
});
