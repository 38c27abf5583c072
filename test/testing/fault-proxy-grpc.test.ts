import assert from 'node:assert/strict';
import { status } from '@grpc/grpc-js';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { type EtcdCluster, FaultProxy, startEtcd } from 'conclave/testing';
import { services } from '#conclave/proto/services.js';
import { until } from '../support/until.js';
import { RawClient } from './raw-client.js';

const PUT = '/etcdserverpb.KV/Put';
const RANGE = '/etcdserverpb.KV/Range';
const WATCH = '/etcdserverpb.Watch/Watch';

describe('FaultProxy on gRPC calls', () => {
  let etcd: EtcdCluster;
  let proxy: FaultProxy;
  let client: RawClient;
  let direct: RawClient;

  before(async () => {
    etcd = await startEtcd();
    direct = new RawClient(etcd.endpoint);
  });
  after(async () => {
    direct[Symbol.dispose]();
    await etcd.close();
  });
  beforeEach(async () => {
    proxy = await FaultProxy.start(etcd.endpoint, { grpc: true });
    client = new RawClient(proxy.endpoint);
  });
  afterEach(async () => {
    client[Symbol.dispose]();
    await proxy.close();
  });

  /** A watch of one key and the values it has seen. */
  async function watched(
    key: string,
  ): Promise<{ values: string[]; failed: () => number | undefined; stop: () => void }> {
    const values: string[] = [];
    let failed: number | undefined;
    let isCreated = false;
    const stream = client.stream(services.Watch.Watch);
    stream.on('error', (error: { code?: number }) => (failed = error.code));
    stream.on('data', (reply: { created: boolean; events: { kv: { value: Buffer } | null }[] }) => {
      if (reply.created) isCreated = true;
      for (const event of reply.events) values.push(event.kv?.value.toString() ?? '');
    });
    stream.write({ createRequest: { key: Buffer.from(key) } });
    await until(() => isCreated || failed !== undefined, { what: 'the watch is created' });
    return { values, failed: () => failed, stop: () => stream.cancel() };
  }

  test('carries ten thousand calls, and counts them', async () => {
    const total = 10_000;
    let sent = 0;
    const worker = async (): Promise<void> => {
      while (sent < total) await client.put(`many/${sent++ % 100}`, 'x'.repeat(100));
    };
    await Promise.all(Array.from({ length: 100 }, worker));
    assert.equal(proxy.requests(PUT), total);
    assert.equal(proxy.replies(PUT), total);
    assert.equal(proxy.connections, 1);
  });

  test('carries large messages, errors and their trailers', async () => {
    const large = Buffer.alloc(1_000_000, 'a');
    for (let at = 0; at < 4; at++) await client.put(`large/${at}`, large);
    const { kvs } = await client.call(services.KV.Range, {
      key: Buffer.from('large/'),
      rangeEnd: Buffer.from('large0'),
    });
    assert.equal(kvs.length, 4);
    assert.ok(kvs.every(({ value }) => value.equals(large)));
    await assert.rejects(client.put('', 'x'), {
      code: status.INVALID_ARGUMENT,
      details: /key is not provided/,
    });
    await assert.rejects(client.call(services.Lease.LeaseRevoke, { ID: 12345n }), {
      code: status.NOT_FOUND,
      details: /requested lease not found/,
    });
  });

  test('carries streams: watch, keepalive and snapshot', async () => {
    const { values, stop } = await watched('w');
    for (let at = 0; at < 500; at++) await direct.put('w', String(at));
    await until(() => values.length === 500);
    assert.deepEqual(
      values,
      Array.from({ length: 500 }, (_, at) => String(at)),
    );
    stop();

    const { ID } = await client.call(services.Lease.LeaseGrant, { TTL: 30n });
    const alive = client.stream(services.Lease.LeaseKeepAlive);
    const ttls: bigint[] = [];
    alive.on('data', (reply: { TTL: bigint }) => ttls.push(reply.TTL));
    const ended = new Promise((resolve) => alive.on('status', resolve));
    for (let at = 1; at <= 3; at++) {
      alive.write({ ID });
      await until(() => ttls.length === at);
    }
    alive.end();
    assert.equal(((await ended) as { code: number }).code, status.OK);
    assert.deepEqual(ttls, [30n, 30n, 30n]);

    let bytes = 0;
    for await (const part of client.download(services.Maintenance.Snapshot, {}) as AsyncIterable<{
      blob: Buffer;
    }>) {
      bytes += part.blob.length;
    }
    assert.ok(bytes > 20_000, `${bytes} bytes`);
  });

  test('a cancelled call is cancelled at the server', async () => {
    const { values, stop } = await watched('c');
    stop();
    await direct.put('c', 'unseen');
    await client.put('c', 'also unseen');
    assert.deepEqual(values, []);
    assert.equal(proxy.connections, 1);
  });

  test('swallowNextReply with a cut: the write is done and the client does not know', async () => {
    const fault = proxy.swallowNextReply({ method: PUT, then: 'cut' });
    await client.get('s');
    const put = client.put('s', 'done');
    put.catch(() => undefined); // It may reject before it is waited for.
    await fault.hit();
    assert.equal(await direct.get('s'), 'done');
    await assert.rejects(put, { code: status.UNAVAILABLE });
    assert.equal(proxy.replies(PUT), 0);
    await client.put('s', 'again');
    assert.equal(await client.get('s'), 'again');
    assert.equal(fault.hits, 1);
  });

  test('swallowNextReply with silence or a reset: other calls of the connection go on', async () => {
    const silent = proxy.swallowNextReply({ method: PUT, then: 'silence' });
    const put = assert.rejects(
      client.call(services.KV.Put, { key: Buffer.from('q'), value: Buffer.from('1') }, 300),
      {
        code: status.DEADLINE_EXCEEDED,
      },
    );
    await silent.hit();
    assert.equal(await client.get('q'), '1');
    await put;
    proxy.swallowNextReply({ then: 'reset' });
    await assert.rejects(client.put('q', '2'), { code: status.INTERNAL });
    assert.equal(await client.get('q'), '2');
    assert.equal(proxy.accepted, 1);
  });

  test('dropRequest: the server never sees it', async () => {
    const fault = proxy.onCall(PUT, 'dropRequest', { times: 2, then: 'reset' });
    await assert.rejects(client.put('d', '1'));
    await assert.rejects(client.put('d', '2'));
    await client.put('e', '3');
    assert.equal(fault.hits, 2);
    assert.equal(await direct.get('d'), undefined);
    assert.equal(proxy.requests(PUT), 1);
  });

  test('where: only the message it picks is struck', async () => {
    proxy.onCall(PUT, 'dropRequest', { then: 'reset', where: (message) => message.includes('victim') });
    await client.put('bystander', '1');
    await assert.rejects(client.put('victim', '1'));
    await client.put('victim', '2');
  });

  test('holdRequest and holdReply wait for release', async () => {
    const request = proxy.onCall(PUT, 'holdRequest');
    const puts = [client.put('h', '1'), client.put('i', '2')];
    await request.hit(2);
    assert.equal(await client.get('h'), undefined);
    request.release();
    await Promise.all(puts);
    const reply = proxy.onCall(RANGE, 'holdReply', { times: 1 });
    const held = client.get('h');
    await reply.hit();
    assert.equal(await client.get('i'), '2');
    reply.release();
    assert.equal(await held, '1');
  });

  test('a watch that is open can be held while other calls pass, and loses nothing', async () => {
    const { values, stop } = await watched('l');
    const fault = proxy.onCall(WATCH, 'holdReply');
    for (let at = 0; at < 20; at++) await client.put('l', String(at));
    await fault.hit();
    assert.deepEqual(values, []);
    fault.release();
    await until(() => values.length === 20);
    await client.put('l', '20');
    await until(() => values.length === 21);
    assert.deepEqual(
      values,
      Array.from({ length: 21 }, (_, at) => String(at)),
    );
    stop();
  });

  test('dropReply on an open stream loses the answer to its next message', async () => {
    const { ID } = await client.call(services.Lease.LeaseGrant, { TTL: 30n });
    const alive = client.stream(services.Lease.LeaseKeepAlive);
    let replies = 0;
    let failed: number | undefined;
    alive.on('data', () => replies++);
    alive.on('error', (error: { code?: number }) => (failed = error.code));
    alive.write({ ID });
    await until(() => replies === 1);
    const fault = proxy.onCall('/etcdserverpb.Lease/LeaseKeepAlive', 'dropReply', { then: 'reset' });
    alive.write({ ID });
    await fault.hit();
    await until(() => failed === status.INTERNAL);
    assert.equal(replies, 1);
  });

  test('fail answers with a status of its own', async () => {
    proxy.onCall(RANGE, 'fail', {
      status: { code: status.UNAUTHENTICATED, message: 'invalid auth token, “so”' },
    });
    await assert.rejects(client.get('f'), {
      code: status.UNAUTHENTICATED,
      details: 'invalid auth token, “so”',
    });
    await client.get('f');
  });

  test('an etcd that dies resets the client, and a new one on its port is reached', async () => {
    const [member] = etcd.members;
    assert.ok(member);
    const { failed } = await watched('k');
    await member.kill();
    await until(() => failed() === status.UNAVAILABLE);
    await assert.rejects(client.put('k', '1'), { code: status.UNAVAILABLE });
    await member.restart();
    await until(() =>
      client
        .put('k', '2')
        .then(() => true)
        .catch(() => false),
    );
  });

  test('byte faults work on calls as well', async () => {
    await client.put('b', '1');
    proxy.pause('toClient');
    const put = client.put('b', '2');
    await until(async () => (await direct.get('b')) === '2');
    proxy.resume();
    await put;
    proxy.cut();
    await until(() => proxy.connections === 0);
    await until(() =>
      client
        .put('b', '3')
        .then(() => true)
        .catch(() => false),
    );
  });

  test('refuses a TLS target', async () => {
    await assert.rejects(FaultProxy.start('https://127.0.0.1:2379', { grpc: true }), TypeError);
  });
});
