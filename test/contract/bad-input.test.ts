/** What the client refuses before any request: by name and value, with TypeError or RangeError. */
import { describe, test } from 'node:test';
import { Client, compare, type ClientOptions, op, type Op, Session, type TxnSpec } from 'conclave';
import { badInput, wrong } from './support/bad-input.js';

describe('bad input', () => {
  const input = badInput();
  const { refuse } = input;

  test('client options', async () => {
    const make = (options: ClientOptions) => () => new Client(options);
    await refuse([
      [make({ endpoints: [] }), 'endpoints'],
      [make({ endpoints: 'nonsense' }), 'nonsense', 'http://HOST:PORT'],
      [make({ endpoints: ['http://127.0.0.1:2379', 'http://x:99999'] }), 'http://x:99999'],
      [make({ endpoints: 'ftp://127.0.0.1:2379' }), 'ftp://127.0.0.1:2379'],
      [make({ endpoints: 'http://127.0.0.1' }), '"http://127.0.0.1"'],
      [make({ endpoints: wrong([2379]) }), '2379'],
      [make({ endpoints: 'http://a:1,http://b:2' }), '"http://a:1,http://b:2"', 'array'],
      [make({ endpoints: ['a,b:2379'] }), '"a,b:2379"', 'array'],
      [make({ endpoints: 'unix:///a,unix:///b' }), '"unix:///a,unix:///b"', 'array'],
      [make(wrong({ endpoint: 'http://127.0.0.1:2379' })), '"endpoint"', 'endpoints'],
      [make(wrong('http://127.0.0.1:2379')), 'options', 'http://127.0.0.1:2379'],
      [make({ timeoutMs: -1 }), 'timeoutMs', '-1'],
      [make({ timeoutMs: Number.NaN }), 'timeoutMs', 'NaN'],
      [make({ timeoutMs: wrong('5s') }), 'timeoutMs', '5s'],
      [make({ tls: wrong({ caPath: 'x' }) }), 'caPath'],
      [make({ tls: { caFile: wrong(7) } }), 'tls.caFile', '7'],
      [make({ tls: { ca: '/etc/ssl/ca.pem' } }), 'tls.ca ', 'PEM', 'tls.caFile'],
      [make({ tls: { cert: Buffer.from('x.pem'), key: 'y.pem' } }), 'tls.cert ', 'PEM', 'tls.certFile'],
      [make({ tls: { ca: 'x', caFile: 'x' } }), 'tls.ca', 'tls.caFile'],
      [make({ tls: { certFile: 'x' } }), 'tls.key', 'missing'],
      [make({ endpoints: 'https://127.0.0.1:2379', tls: { ca: 'not pem', cert: 'x', key: 'y' } }), 'PEM'],
      [make({ endpoints: 'https://127.0.0.1:2379', tls: { cert: 'x' } }), 'tls.key'],
      [make({ auth: wrong({ user: 'root' }) }), '"user"', 'username'],
      [make({ auth: { password: 'x', username: '' } }), 'auth.username'],
      [make({ auth: wrong({ password: 7, username: 'root' }) }), 'auth.password', 'number'],
    ]);
  });

  test('keys, values and ranges', async () => {
    const { kv } = input.client;
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
      [() => input.client.watch(''), 'empty'],
    ]);
  });

  test('options of reads and writes', async () => {
    const { cluster, kv, lease } = input.client;
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
      [() => kv.get('a', { endpoint: wrong(7) }), 'endpoint', '7'],
      [() => kv.get('a', { endpoint: 'http://127.0.0.1:1' }), 'http://127.0.0.1:1', 'endpoints'],
      [() => kv.range('a', { endpoint: '' }), 'endpoints'],
      [() => kv.scan('a', { endpoint: '' }).next(), 'endpoints'],
      [() => kv.compact(1n, { endpoint: '' }), 'endpoints'],
      [() => lease.grant(5, { endpoint: '' }), 'endpoints'],
      [() => lease.revoke(5n, { endpoint: '' }), 'endpoints'],
      [() => lease.timeToLive(5n, { endpoint: wrong(7) }), 'endpoint', '7'],
      [() => lease.list({ endpoint: '' }), 'endpoints'],
      [() => cluster.memberList({ endpoint: '' }), 'endpoints'],
      [() => cluster.memberList(wrong({ url: '' })), '"url"', 'serializable', 'endpoint'],
      [() => kv.put('a', 'x', { endpoint: 'http://127.0.0.1:1' }), 'http://127.0.0.1:1', 'endpoints'],
      [() => kv.delete('a', { endpoint: 'http://127.0.0.1:1' }), 'http://127.0.0.1:1', 'endpoints'],
      [() => kv.txn({}, { endpoint: 'http://127.0.0.1:1' }), 'http://127.0.0.1:1', 'endpoints'],
      [() => kv.txn({}, { endpoint: wrong(7) }), 'endpoint', '7'],
      [() => kv.txn({ then: [op.get('a', wrong({ endpoint: 'x' }))] }), 'endpoint', 'txn'],
      [() => kv.compact(wrong(7)), 'revision', '7'],
      [() => kv.compact(1n, wrong({ psychical: true })), 'psychical'],
    ]);
  });

  test('transactions', async () => {
    const { kv } = input.client;
    await refuse([
      [() => kv.txn(wrong<TxnSpec>({ success: [] })), 'success', 'then'],
      [() => kv.txn({ then: wrong<Op[]>(op.get('a')) }), 'then', 'array'],
      [() => kv.txn({ then: [wrong({ put: 'a' })] }), 'then[0]', 'op'],
      [() => kv.txn({ then: [op.get('a')], if: [wrong(true)] }), 'if[0]', 'compare'],
      [() => kv.txn({}, wrong({ idempotnet: true })), 'idempotnet'],
      [() => op.put('', 'x'), 'empty'],
      [() => op.get('a', wrong({ keyOnly: true })), 'keyOnly'],
      [() => op.txn(wrong<TxnSpec>({ when: [] })), 'when'],
      [() => compare.version('a', wrong('=='), 1n), '=='],
      [() => compare.modRevision('a', '=', wrong(1)), 'modRevision', '1'],
      [() => compare.value('a', '=', wrong(1)), 'value'],
      [() => compare.lease('a', '=', wrong('7')), 'leaseId', '7'],
    ]);
  });

  test('leases', async () => {
    const { lease } = input.client;
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
      [() => input.client.watch('a', wrong({ prefix: true })), '"prefix"'],
      [() => input.client.watch('a', { startRevision: wrong(5) }), 'startRevision', '5'],
      [() => input.client.watch('a', { startRevision: -1n }), 'startRevision', '-1'],
      [() => input.client.watch('a', { filter: wrong('puts') }), 'filter', 'puts'],
      [() => input.client.watch('a', { onCompacted: wrong('ignore') }), 'onCompacted', 'ignore'],
      [() => input.client.watch('a', { bufferSize: 0 }), 'bufferSize', '0'],
      [() => input.client.watch('a', { signal: wrong({}) }), 'signal'],
    ]);
  });

  test('sessions', async () => {
    await refuse([
      [() => Session.open(input.client, { ttlSeconds: 0 }), 'ttlSeconds', '0'],
      [() => Session.open(input.client, { ttlSeconds: 0.5 }), 'ttlSeconds', '0.5'],
      [() => Session.open(input.client, { ttlSeconds: Number.NaN }), 'NaN'],
      [() => Session.open(input.client, { ttlSeconds: Infinity }), 'Infinity'],
      [() => Session.open(input.client, { marginMs: 10_000, ttlSeconds: 10 }), 'marginMs', '10000'],
      [() => Session.open(input.client, { marginMs: -1 }), 'marginMs', '-1'],
      [() => Session.open(input.client, { leaseId: wrong('abc') }), 'leaseId', 'abc'],
      [() => Session.open(input.client, { label: wrong(7) }), 'label', 'number'],
      [() => Session.open(input.client, wrong({ ttl: 10 })), '"ttl"', 'ttlSeconds'],
      [() => Session.open(input.client, { timeoutMs: -1 }), 'timeoutMs', '-1'],
    ]);
  });
});
