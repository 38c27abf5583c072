/** What is refused before any request: by name and value, with TypeError or RangeError. One server, which is not asked. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import {
  Barrier,
  Client,
  type ClientOptions,
  compare,
  DoubleBarrier,
  Election,
  Latch,
  LockManager,
  MultiMutex,
  Mutex,
  op,
  RWLock,
  Semaphore,
  Session,
} from 'conclave';
import { EmbeddedServer } from 'conclave/embedded';
import { FaultProxy } from 'conclave/testing';
import { services } from '#conclave/proto/services.js';
import { refusal } from './support/rejections.js';

/** Lets a test give what the types forbid. */
const wrong = <T>(value: unknown): T => value as T;

describe('bad input', () => {
  let server: EmbeddedServer;
  let proxy: FaultProxy;
  let client: Client;
  let session: Session;
  before(async () => {
    server = await EmbeddedServer.start();
    proxy = await FaultProxy.start(server.endpoint, { grpc: true });
    client = new Client({ endpoints: proxy.endpoint });
    // Long enough to need no keepalive meanwhile.
    session = await Session.open(client, { ttlSeconds: 300 });
    await client.maintenance.serverVersion();
  });
  after(async () => {
    await session.close();
    await client.close();
    await proxy.close();
    await server.close();
  });

  /** How many requests of any kind have reached the server. */
  function requests(): number {
    const { Auth, Cluster, KV, Lease, Maintenance, Watch } = services;
    const all = { ...Auth, ...Cluster, ...KV, ...Lease, ...Maintenance, ...Watch };
    return Object.values(all).reduce((total, { path }) => total + proxy.requests(path), 0);
  }

  /** Every case must be refused, and nothing may have been sent. */
  async function refuse(cases: readonly (readonly [() => unknown, ...string[]])[]): Promise<void> {
    const asked = requests();
    for (const [attempt, ...parts] of cases) {
      await assert.rejects(async () => attempt(), refusal(...parts), attempt.toString());
    }
    // One more call on the same connection: whatever was sent before it has been counted by the time it is answered.
    await client.kv.get('a');
    assert.equal(requests(), asked + 1, 'a refused call was sent');
  }

  test('client options', async () => {
    const make = (options: ClientOptions) => () => new Client(options);
    await refuse([
      [make({ endpoints: [] }), 'endpoints'],
      [make({ endpoints: 'nonsense' }), 'nonsense', 'http://HOST:PORT'],
      [make({ endpoints: ['http://127.0.0.1:2379', 'http://x:99999'] }), 'http://x:99999'],
      [make({ endpoints: 'ftp://127.0.0.1:2379' }), 'ftp://127.0.0.1:2379'],
      [make({ endpoints: 'http://127.0.0.1' }), '"http://127.0.0.1"'],
      [make({ endpoints: wrong([2379]) }), '2379'],
      [make(wrong({ endpoint: 'http://127.0.0.1:2379' })), '"endpoint"', 'endpoints'],
      [make(wrong('http://127.0.0.1:2379')), 'options', 'http://127.0.0.1:2379'],
      [make({ timeoutMs: -1 }), 'timeoutMs', '-1'],
      [make({ timeoutMs: Number.NaN }), 'timeoutMs', 'NaN'],
      [make({ timeoutMs: wrong('5s') }), 'timeoutMs', '5s'],
      [make({ tls: wrong({ caFile: 'x' }) }), 'caFile'],
      [make({ endpoints: 'https://127.0.0.1:2379', tls: { ca: 'not pem', cert: 'x', key: 'y' } }), 'PEM'],
      [make({ endpoints: 'https://127.0.0.1:2379', tls: { cert: 'x' } }), 'tls.key'],
      [make({ auth: wrong({ user: 'root' }) }), '"user"', 'username'],
      [make({ auth: { password: 'x', username: '' } }), 'auth.username'],
      [make({ auth: wrong({ password: 7, username: 'root' }) }), 'auth.password', 'number'],
    ]);
  });

  test('keys, values and ranges', async () => {
    const { kv } = client;
    await refuse([
      [() => kv.get(''), 'key', 'empty'],
      [() => kv.get(wrong(undefined)), 'undefined'],
      [() => kv.get(wrong(42)), '42'],
      [() => kv.put('', 'x'), 'empty'],
      [() => kv.put('a', wrong({ an: 'object' })), 'value', 'JSON.stringify'],
      [() => kv.put('a', wrong(undefined)), 'value', 'undefined'],
      [() => kv.delete(wrong(null)), 'range'],
      [() => kv.range({ end: 'a', start: 'b' }), 'start'],
      [() => kv.range({ end: 'a', start: 'a' }), 'start'],
      [() => kv.range(wrong({ prefix: 5 })), 'prefix', '5'],
      [() => kv.range(wrong({ from: null })), 'from', 'null'],
      [() => kv.range(wrong({ until: 'x' })), 'range'],
      [() => client.watch(''), 'empty'],
    ]);
  });

  test('options of reads and writes', async () => {
    const { kv } = client;
    await refuse([
      [() => kv.get('a', wrong({ revison: 1n })), 'revison', 'revision'],
      [() => kv.get('a', { revision: wrong(5) }), 'revision', 'bigint', '5'],
      [() => kv.get('a', { revision: -1n }), 'revision', '-1'],
      [() => kv.range('a', { limit: -1 }), 'limit', '-1'],
      [() => kv.range('a', { limit: 1.5 }), 'limit', '1.5'],
      [() => kv.range('a', { minModRevision: 2n ** 63n }), 'minModRevision', '9223372036854775808'],
      [() => kv.range('a', { sort: wrong({ by: 'size' }) }), 'sort.by', 'size'],
      [() => kv.range('a', { sort: wrong({ by: 'key', order: 'up' }) }), 'sort.order', 'up'],
      [() => kv.range('a', { timeoutMs: -5 }), 'timeoutMs', '-5'],
      [() => kv.range('a', { timeoutMs: Number.NaN }), 'timeoutMs', 'NaN'],
      [() => kv.range('a', { signal: wrong('stop') }), 'signal', 'stop'],
      [() => kv.scan('a', { pageSize: 0 }).next(), 'pageSize', '0'],
      [() => kv.scan('a', wrong({ limit: 5 })).next(), 'limit', 'pageSize'],
      [() => kv.put('a', 'x', { leaseId: wrong(7) }), 'leaseId', '7'],
      [() => kv.put('a', 'x', wrong({ lease: 7n })), '"lease"', 'leaseId'],
      [() => kv.put('a', 'x', wrong(7)), 'options', '7'],
      [() => kv.delete('a', wrong({ prefix: true })), '"prefix"'],
      [() => kv.compact(wrong(7)), 'revision', '7'],
      [() => kv.compact(1n, wrong({ psychical: true })), 'psychical'],
    ]);
  });

  test('transactions', async () => {
    const { kv } = client;
    await refuse([
      [() => kv.txn(wrong({ success: [] })), 'success', 'then'],
      [() => kv.txn({ then: wrong(op.get('a')) }), 'then', 'array'],
      [() => kv.txn({ then: [wrong({ put: 'a' })] }), 'then[0]', 'op'],
      [() => kv.txn({ then: [op.get('a')], if: [wrong(true)] }), 'if[0]', 'compare'],
      [() => kv.txn({}, wrong({ idempotnet: true })), 'idempotnet'],
      [() => op.put('', 'x'), 'empty'],
      [() => op.get('a', wrong({ keyOnly: true })), 'keyOnly'],
      [() => op.txn(wrong({ when: [] })), 'when'],
      [() => compare.version('a', wrong('=='), 1n), '=='],
      [() => compare.modRevision('a', '=', wrong(1)), 'modRevision', '1'],
      [() => compare.value('a', '=', wrong(1)), 'value'],
      [() => compare.lease('a', '=', wrong('7')), 'leaseId', '7'],
    ]);
  });

  test('leases', async () => {
    const { lease } = client;
    await refuse([
      [() => lease.grant(0), 'ttlSeconds', '0'],
      [() => lease.grant(0.5), 'ttlSeconds', '0.5'],
      [() => lease.grant(Number.NaN), 'NaN'],
      [() => lease.grant(Infinity), 'Infinity'],
      [() => lease.grant(wrong('10')), 'ttlSeconds', '10'],
      [() => lease.grant(10, { id: 0n }), 'id', '0'],
      [() => lease.grant(10, { id: wrong(5) }), 'id', '5'],
      [() => lease.grant(10, wrong({ ID: 5n })), '"ID"'],
      [() => lease.revoke(wrong(5)), 'id', '5'],
      [() => lease.timeToLive(wrong('5')), 'id', '5'],
      [() => lease.timeToLive(5n, wrong({ withKeys: true })), 'withKeys'],
      [() => lease.keepAliveOnce(wrong(undefined)), 'id', 'undefined'],
      [() => lease.keepAliveOnce(5n, { timeoutMs: -1 }), 'timeoutMs', '-1'],
      [() => lease.keepAlive(wrong(5)), 'id', '5'],
    ]);
  });

  test('watches', async () => {
    await refuse([
      [() => client.watch('a', wrong({ prefix: true })), '"prefix"'],
      [() => client.watch('a', { startRevision: wrong(5) }), 'startRevision', '5'],
      [() => client.watch('a', { startRevision: -1n }), 'startRevision', '-1'],
      [() => client.watch('a', { filter: wrong('puts') }), 'filter', 'puts'],
      [() => client.watch('a', { onCompacted: wrong('ignore') }), 'onCompacted', 'ignore'],
      [() => client.watch('a', { bufferSize: 0 }), 'bufferSize', '0'],
      [() => client.watch('a', { signal: wrong({}) }), 'signal'],
    ]);
  });

  test('sessions', async () => {
    await refuse([
      [() => Session.open(client, { ttlSeconds: 0 }), 'ttlSeconds', '0'],
      [() => Session.open(client, { ttlSeconds: 0.5 }), 'ttlSeconds', '0.5'],
      [() => Session.open(client, { ttlSeconds: Number.NaN }), 'NaN'],
      [() => Session.open(client, { ttlSeconds: Infinity }), 'Infinity'],
      [() => Session.open(client, { marginMs: 10_000, ttlSeconds: 10 }), 'marginMs', '10000'],
      [() => Session.open(client, { marginMs: -1 }), 'marginMs', '-1'],
      [() => Session.open(client, { leaseId: wrong('abc') }), 'leaseId', 'abc'],
      [() => Session.open(client, { label: wrong(7) }), 'label', 'number'],
      [() => Session.open(client, wrong({ ttl: 10 })), '"ttl"', 'ttlSeconds'],
      [() => Session.open(client, { timeoutMs: -1 }), 'timeoutMs', '-1'],
    ]);
  });

  test('locks and elections', async () => {
    const mutex = new Mutex(session, 'fine');
    const election = new Election(session, 'fine');
    await refuse([
      [() => new Mutex(session, ''), 'name', 'empty'],
      [() => new Mutex(session, 'a\0b'), 'NUL'],
      [() => new Mutex(session, wrong(7)), '7'],
      [() => new Election(session, ''), 'name', 'empty'],
      [() => new Election(session, '\0'), 'NUL'],
      [() => mutex.lock(wrong({ timeout: 5 })), '"timeout"', 'timeoutMs'],
      [() => mutex.lock(wrong(5000)), 'options', '5000'],
      [() => mutex.lock({ timeoutMs: -1 }), 'timeoutMs', '-1'],
      [() => mutex.lock({ timeoutMs: Number.NaN }), 'NaN'],
      [() => mutex.lock({ signal: wrong(new AbortController()) }), 'signal'],
      [() => mutex.tryLock(wrong({ wait: 5 })), '"wait"'],
      [() => mutex.run(() => 1, wrong({ ttl: 5 })), '"ttl"'],
      [() => election.campaign(wrong({ name: 'me' })), 'value'],
      [() => election.campaign('me', wrong({ ttl: 5 })), '"ttl"'],
      [() => election.tryCampaign(wrong(undefined)), 'value'],
      [() => election.run(wrong(undefined), () => 1), 'value'],
      [() => election.run('me', () => 1, { timeoutMs: -1 }), 'timeoutMs', '-1'],
      [() => election.observe(wrong({ timeoutMs: 5 })), 'timeoutMs', 'signal'],
    ]);
  });

  test('barriers and latches', async () => {
    const barrier = new Barrier(session, 'fine');
    const double = new DoubleBarrier(session, 'fine', { count: 2 });
    const latch = new Latch(session, 'fine', { count: 2 });
    const timeout = wrong<object>({ timeout: 5 });
    await refuse([
      [() => barrier.hold(timeout), 'Barrier.hold', '"timeout"', 'timeoutMs'],
      [() => barrier.hold({ ifHolderDies: wrong('burn') }), 'ifHolderDies', '"burn"'],
      [() => barrier.wait(timeout), 'wait', '"timeout"', 'timeoutMs'],
      [() => double.enter(timeout), 'enter', '"timeout"', 'timeoutMs'],
      [() => double.leave(timeout), 'leave', '"timeout"', 'timeoutMs'],
      [() => new DoubleBarrier(session, 'fine', wrong({ count: 2, size: 2 })), '"size"', 'count'],
      [() => new DoubleBarrier(session, 'fine', { count: 0 }), 'count', '0'],
      [() => latch.countDown(1, timeout), 'countDown', '"timeout"', 'timeoutMs'],
      [() => latch.countDown(0), '0'],
      [() => latch.wait(timeout), 'wait', '"timeout"', 'timeoutMs'],
      [() => new Latch(session, 'fine', wrong({ count: 2, size: 2 })), '"size"', 'count'],
      [() => barrier.wait(wrong(5000)), 'options', '5000'],
      [() => latch.wait(wrong(null)), 'options', 'null'],
    ]);
  });

  test('the other locks', async () => {
    const rw = new RWLock(session, 'fine');
    const semaphore = new Semaphore(session, 'fine', { limit: 2 });
    const multi = new MultiMutex(session, ['fine']);
    const locks = new LockManager(session);
    const timeout = wrong<object>({ timeout: 5 });
    await refuse([
      [() => rw.readLock(timeout), 'readLock', '"timeout"', 'timeoutMs'],
      [() => rw.writeLock(timeout), 'writeLock', '"timeout"'],
      [() => rw.tryReadLock(timeout), '"timeout"'],
      [() => rw.read(() => 1, timeout), '"timeout"'],
      [() => semaphore.acquire(timeout), 'acquire', '"timeout"', 'weight'],
      [() => semaphore.tryAcquire(timeout), 'tryAcquire', '"timeout"'],
      [() => new Semaphore(session, 'fine', wrong({ limit: 2, size: 2 })), '"size"', 'limit'],
      [() => multi.lock(timeout), 'lock', '"timeout"'],
      [() => multi.tryLock(timeout), 'tryLock', '"timeout"'],
      [() => locks.request('fine', timeout, () => 1), 'request', '"timeout"', 'ifAvailable'],
      [() => new LockManager(session, wrong({ name: 'x' })), '"name"', 'prefix'],
    ]);
  });
});
