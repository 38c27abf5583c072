// A leased key is there while its owner lives and wants it: it puts itself back, and overwrites nobody.
import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';

import { Client, connect, LeasedKey, type LeasedKeyOptions, Session } from 'conclave';
import { EmbeddedServer } from 'conclave/embedded';
import { FaultProxy } from 'conclave/testing';

import { type Backend, onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';
import { code } from '../support/world.js';

const TXN = '/etcdserverpb.KV/Txn';

/** A client, and a `Conclave` that ends with the test. */
async function scene(t: TestContext, backend: Backend) {
  const client = backend.client();
  const conclave = await connect({ endpoints: backend.endpoints, ttlSeconds: 5 });
  t.after(() => conclave.close());
  const text = async (key: string) => (await client.kv.get(key))?.string();
  return { client, conclave, text };
}

onEachBackend('a leased key', (backend) => {
  test('is there until it is closed', async (t) => {
    const { client, conclave, text } = await scene(t, backend);
    const key = await conclave.leasedKey('a', 'x');
    const kv = await client.kv.get('a');
    assert.deepEqual([key.state, kv?.string(), kv?.leaseId], ['there', 'x', conclave.session.leaseId]);
    assert.equal(key.createRevision, kv?.createRevision);
    const closing = key.close();
    assert.equal(key.close(), closing);
    await closing;
    assert.equal(await text('a'), undefined);
    assert.equal(key.state, 'closed');
    assert.ok(code('CLOSED')(key.signal.reason));
    await assert.rejects(key.ready(), code('CLOSED'));
    await assert.rejects(key.update('y'), code('CLOSED'));
  });

  test('puts itself back when it is removed or changed by hand', async (t) => {
    const { client, conclave, text } = await scene(t, backend);
    await using key = await conclave.leasedKey('a', 'x');
    for (let at = 0; at < 3; at++) {
      const { revision } = await client.kv.delete('a');
      await until(() => (key.createRevision ?? 0n) > revision);
      assert.equal(await text('a'), 'x');
    }
    await client.kv.put('a', 'by hand', { ignoreLease: true });
    await until(async () => (await text('a')) === 'x');
  });

  test('comes back with the next session, on a lease of its own too, and ends with an only one', async (t) => {
    const { client, conclave, text } = await scene(t, backend);
    const session = await Session.open(client);
    const keys = [
      await conclave.leasedKey('a', 'x'),
      await LeasedKey.put(client, 'b', 'x', { ttlSeconds: 5 }),
      await LeasedKey.put(session, 'c', 'x'),
    ] as const;
    const leases = (await client.kv.range({ end: 'd', start: 'a' })).kvs.map(({ leaseId }) => leaseId ?? 0n);
    assert.equal(new Set(leases).size, 3);
    for (const lease of leases) await client.lease.revoke(lease);
    const isBack = async (key: string, at: number): Promise<boolean> => {
      const kv = await client.kv.get(key);
      return kv !== undefined && kv.leaseId !== leases[at];
    };
    await until(() => isBack('a', 0));
    await until(() => isBack('b', 1));
    await until(() => keys[2].signal.aborted);
    assert.ok(code('SESSION_LOST')(keys[2].signal.reason));
    await Promise.all(keys.map((key) => key.close()));
    assert.deepEqual(await Promise.all(['a', 'b', 'c'].map(text)), [undefined, undefined, undefined]);
  });

  test('takes another value, also while it is away', async (t) => {
    const { client, conclave, text } = await scene(t, backend);
    await using key = await conclave.leasedKey('a', 'x');
    await key.update('y');
    assert.equal(await text('a'), 'y');
    const before = key.createRevision;
    await Promise.all([client.kv.delete('a'), key.update('z')]);
    await until(async () => (await text('a')) === 'z' && key.state === 'there');
    assert.equal(Buffer.from(key.value).toString(), 'z');
    assert.ok(before !== undefined);
  });

  test('overwrites nobody, unless it is told to', async (t) => {
    const { client, conclave, text } = await scene(t, backend);
    await client.kv.put('a', 'other');
    await assert.rejects(conclave.leasedKey('a', 'x'), code('ALREADY_HELD'));
    await assert.rejects(conclave.leasedKey('a', 'x', { ifTaken: 'wait', timeoutMs: 50 }), code('TIMEOUT'));
    const stop = new AbortController();
    const reason = new Error('enough');
    const aborted = conclave.leasedKey('a', 'x', { ifTaken: 'wait', signal: stop.signal });
    stop.abort(reason);
    await assert.rejects(aborted, (error) => error === reason);
    const waiting = conclave.leasedKey('a', 'x', { ifTaken: 'wait' });
    assert.equal(await text('a'), 'other');
    await client.kv.delete('a');
    const key = await waiting;
    assert.equal(await text('a'), 'x');
    // Nor does it come back over whoever has replaced it.
    await client.kv.put('a', 'newcomer');
    await until(() => key.state === 'taken');
    assert.equal(await text('a'), 'newcomer');
    await client.kv.delete('a');
    await key.ready();
    assert.equal(await text('a'), 'x');
    await client.kv.put('a', 'newcomer');
    await key.close();
    assert.equal(await text('a'), 'newcomer');
    await using bold = await conclave.leasedKey('a', 'bold', { ifTaken: 'overwrite' });
    assert.equal(await text('a'), 'bold');
    await client.kv.put('a', 'newcomer');
    await until(() => bold.state === 'taken');
    await client.kv.delete('a');
    await bold.ready();
  });

  test('is one of a session, which may have it again', async (t) => {
    const { conclave, text } = await scene(t, backend);
    const key = await conclave.leasedKey('a', 'x');
    await assert.rejects(conclave.leasedKey('a', 'y'), code('ALREADY_HELD'));
    assert.equal(await text('a'), 'x');
    await key.close();
    await using again = await conclave.leasedKey('a', 'y');
    assert.equal(again.state, 'there');
    assert.equal(await text('a'), 'y');
  });

  test('leaves nothing when answers are lost, and copies of its requests come late', async (t) => {
    const { client, text } = await scene(t, backend);
    const proxy = await FaultProxy.start(backend.endpoints[0] ?? '', { grpc: true });
    const cut = new Client({ endpoints: proxy.endpoint });
    t.after(async () => {
      await cut.close();
      await proxy.close();
    });
    await using session = await Session.open(cut, { ttlSeconds: 20 });
    const copies = proxy.lateCopies({ seed: 7, withinMs: 1000 });
    proxy.onCall(TXN, 'dropReply');
    const key = await LeasedKey.put(session, 'a', 'x');
    proxy.onCall(TXN, 'dropReply');
    await key.update('y');
    await client.kv.delete('a');
    await until(async () => (await text('a')) === 'y');
    proxy.onCall(TXN, 'dropReply');
    await key.close();
    // A request that is given up on its way, and arrives all the same.
    const stop = new AbortController();
    const held = proxy.onCall(TXN, 'holdRequest');
    const given = LeasedKey.put(session, 'b', 'x', { signal: stop.signal });
    await held.hit();
    stop.abort();
    const rejected = assert.rejects(given, { name: 'AbortError' });
    await held.hit(2);
    held.release();
    await rejected;
    await copies.settled();
    // What has come late goes with the next raise of the session's floor, and no more can come.
    await until(async () => (await client.kv.range({ end: 'c', start: 'a' })).kvs.length === 0);
  });

  test('refuses what it cannot keep, and ends with its client', async (t) => {
    const { conclave } = await scene(t, backend);
    const put = (options: unknown): Promise<LeasedKey> =>
      LeasedKey.put(conclave, 'a', 'x', options as LeasedKeyOptions);
    await assert.rejects(put({ ifTaken: 'never' }), TypeError);
    await assert.rejects(put({ ttlSeconds: 5 }), TypeError);
    await assert.rejects(put({ ttl: 5 }), TypeError);
    await assert.rejects(LeasedKey.put(conclave, '', 'x'), TypeError);
    await assert.rejects(LeasedKey.put(JSON.parse('{}') as Session, 'a', 'x'), TypeError);
    const client = backend.client();
    const session = await Session.open(client);
    const key = await LeasedKey.put(session, 'a', 'x');
    const { leaseId } = session;
    await client.close();
    await until(() => key.signal.aborted);
    await backend.client().lease.revoke(leaseId);
  });
});

describe('a leased key of a Conclave', () => {
  test('is back after etcd came back empty, and is removed when the Conclave closes', async (t) => {
    let server = await EmbeddedServer.start({ port: 0 });
    const port = Number(new URL(server.endpoint).port);
    t.after(() => server.close());
    const conclave = await connect({ endpoints: server.endpoint, ttlSeconds: 2 });
    t.after(() => conclave.close());
    const key = await conclave.leasedKey('a', 'x');
    await server.close();
    server = await EmbeddedServer.start({ port });
    const client = new Client({ endpoints: server.endpoint });
    t.after(() => client.close());
    await until(async () => (await client.kv.get('a'))?.string() === 'x');
    await conclave.close();
    assert.equal(await client.kv.get('a'), undefined);
    assert.ok(code('CLOSED')(key.signal.reason));
  });
});
