/** A cache of a range: what it gives, what it tells, and how it ends. */
import assert from 'node:assert/strict';
import { afterEach, before, test } from 'node:test';
import {
  type Cache,
  type CacheChange,
  type CacheConsistency,
  Client,
  hasCode,
  type KeyRange,
  op,
} from 'conclave';
import { FaultProxy } from 'conclave/testing';
import { onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';
import { refusal, withCode } from '../contract/support/rejections.js';

const keysOf = (kvs: Iterable<{ readonly key: string }>): string => [...kvs].map(({ key }) => key).join(' ');

/** A change in short. */
const told = ({ events, relisted }: CacheChange): string =>
  (relisted ? 'all: ' : '') +
  events
    .map(
      ({ kv, prevKv, type }) =>
        `${type} ${kv.key} ${prevKv?.string() ?? '-'}>${type === 'put' ? kv.string() : '-'}`,
    )
    .join(', ');

onEachBackend('a cache', (backend) => {
  let client: Client;
  before(() => {
    client = backend.client();
  });
  afterEach(() => client.kv.delete({ prefix: '' }));

  test('gives keys and ranges as etcd would', async () => {
    for (const [key, value] of ['c/b=1', 'c/a=3', 'c/d=2', 'c/c=1', 'd=9'].map((each) => each.split('='))) {
      await client.kv.put(key ?? '', value ?? '');
    }
    await using cache = client.cache({ prefix: 'c/' });
    const found = await cache.get('c/a');
    assert.deepEqual([found?.string(), found?.version], ['3', 1n]);
    assert.equal(await cache.get(Buffer.from('c/none')), undefined);
    assert.equal(keysOf((await cache.list()).kvs), 'c/a c/b c/c c/d');
    assert.equal(keysOf(cache.entries()), 'c/a c/b c/c c/d');
    assert.equal(cache.size, 4);
    const ranges: KeyRange[] = ['c/b', { prefix: 'c/' }, { end: 'c/d', start: 'c/b' }, { prefix: 'c/d' }];
    for (const range of ranges) {
      for (const by of ['key', 'version', 'create', 'mod'] as const) {
        for (const order of ['asc', 'desc'] as const) {
          const options = { limit: 2, sort: { by, order } };
          const [ours, etcds] = [
            await cache.list({ ...options, range }),
            await client.kv.range(range, options),
          ];
          const what = `${JSON.stringify(range)} by ${by}, ${order}`;
          // Keys of one rank have no order in etcd.
          if (by !== 'version') assert.equal(keysOf(ours.kvs), keysOf(etcds.kvs), what);
          assert.deepEqual([ours.kvs.length, ours.more], [etcds.kvs.length, etcds.more], what);
        }
      }
    }
    const ones = await cache.list({ filter: (kv) => kv.string() === '1', limit: 1 });
    assert.deepEqual([keysOf(ones.kvs), ones.more, ones.revision], ['c/b', true, cache.revision]);
    const byValue = await cache.list({ sort: { by: 'value', order: 'desc' } });
    assert.equal(keysOf(byValue.kvs), 'c/a c/d c/b c/c');
  });

  test('refuses what is outside of its range, and options that there are not', async () => {
    await using cache = client.cache({ end: 'n', start: 'm' });
    await assert.rejects(cache.get('n'), refusal('"n"', 'keys "m" to "n"'));
    await assert.rejects(cache.list({ range: { prefix: '' } }), refusal('prefix ""'));
    await assert.rejects(cache.list({ range: { from: 'm' } }), RangeError);
    await assert.rejects(cache.get(''), TypeError);
    await assert.rejects(cache.get('m', { consistency: 'strong' as never }), refusal('strong', 'local'));
    await assert.rejects(cache.get('m', { consistency: { atLeast: 1 as never } }), refusal('atLeast'));
    await assert.rejects(cache.list({ sort: { by: 'size' as never } }), refusal('size'));
    await assert.rejects(cache.list({ limit: -1 }), RangeError);
    await assert.rejects(cache.list({ filter: 'x' as never }), TypeError);
    assert.throws(() => cache.changes({ bufferSize: 0 }), RangeError);
    assert.throws(() => client.cache({ prefix: '' }, { maxBytes: 0 }), RangeError);
    assert.throws(() => client.cache({ prefix: '' }, { most: 1 } as never), TypeError);
    assert.throws(() => client.cache(7 as never), TypeError);
  });

  test('tells what follows its entries, each revision whole', async () => {
    await client.kv.put('c/a', '1');
    await using cache = client.cache({ prefix: 'c/' });
    const all = cache.changes();
    await cache.ready();
    const [entries, changes] = [keysOf(cache.entries()), cache.changes()];
    await client.kv.txn({
      then: [op.put('c/a', '2'), op.put('c/b', '1')],
    });
    await client.kv.put('other', '');
    const { revision } = await client.kv.delete({ prefix: 'c/' });
    const seen = [(await changes.next()).value, (await changes.next()).value].map(
      (each) => each && told(each),
    );
    assert.equal(entries, 'c/a');
    assert.deepEqual(seen, ['put c/a 1>2, put c/b ->1', 'delete c/a 2>-, delete c/b 1>-']);
    const first = (await all.next()).value;
    assert.equal(first && told(first), 'all: put c/a ->1');
    await changes.return?.();
    await all.return?.();
    assert.deepEqual([cache.revision, [...cache.entries()]], [revision, []]);
  });

  test('is as new as was asked for', async () => {
    const other = backend.client();
    await using cache = client.cache({ prefix: 'c/' });
    for (let at = 0; at < 20; at++) {
      const { revision } = await other.kv.put('c/a', String(at));
      const consistency: CacheConsistency = at % 2 === 0 ? 'linearizable' : { atLeast: revision };
      assert.equal((await cache.get('c/a', { consistency }))?.string(), String(at));
      assert.equal((await cache.get('c/a', { consistency: 'local' }))?.string(), String(at));
      await other.kv.put('beside', '');
    }
    const { revision } = await other.kv.put('beside', '');
    await assert.rejects(
      cache.get('c/a', { consistency: { atLeast: revision + 1n } }),
      withCode('FUTURE_REVISION'),
    );
  });

  test('serves who asks for no more while etcd is away, and tells the others', async () => {
    await using proxy = await FaultProxy.start(backend.endpoints[0] ?? '');
    await using away = new Client({ endpoints: proxy.endpoint, timeoutMs: 300 });
    await client.kv.put('c/a', '1');
    await using cache = away.cache({ prefix: 'c/' });
    await cache.ready();
    await proxy.refuse();
    proxy.cut();
    await assert.rejects(cache.get('c/a'), (error) => hasCode(error, 'UNAVAILABLE', 'TIMEOUT'));
    assert.equal((await cache.get('c/a', { consistency: 'local' }))?.string(), '1');
    const stop = new AbortController();
    const reading = cache.list({ signal: stop.signal });
    stop.abort(new Error('no more'));
    await assert.rejects(reading, /no more/);
    await client.kv.put('c/a', '2');
    await proxy.accept();
    await until(() => keysOf(cache.entries()) !== '' && [...cache.entries()][0]?.string() === '2');
  });

  test('tells what has changed when history was compacted meanwhile, deletions too', async () => {
    await using proxy = await FaultProxy.start(backend.endpoints[0] ?? '');
    await using away = new Client({ endpoints: proxy.endpoint });
    for (const key of ['c/a', 'c/b', 'c/c']) await client.kv.put(key, '1');
    await using cache = away.cache({ prefix: 'c/' });
    await cache.ready();
    const changes = cache.changes();
    await proxy.refuse();
    proxy.cut();
    await client.kv.delete('c/a');
    await client.kv.put('c/b', '2');
    const { revision } = await client.kv.put('c/0', '2');
    await client.kv.compact(revision);
    await proxy.accept();
    const change = (await changes.next()).value;
    assert.equal(change && told(change), 'all: put c/0 ->2, delete c/a 1>-, put c/b 1>2');
    assert.ok(change !== undefined && change.revision >= revision);
    assert.equal(keysOf((await cache.list()).kvs), 'c/0 c/b c/c');
    await client.kv.put('c/b', '3');
    const next = (await changes.next()).value;
    assert.equal(next && told(next), 'put c/b 2>3');
  });

  test('ends with OVER_LIMIT when its range is more than it may hold, at first or later', async () => {
    const value = 'x'.repeat(1000);
    const write = (count: number): Promise<unknown> =>
      Promise.all(Array.from({ length: count }, (_, at) => client.kv.put(`c/${at}`, value)));
    await write(10);
    const small = client.cache({ prefix: 'c/' }, { maxBytes: 10_000 });
    await assert.rejects(small.ready(), withCode('OVER_LIMIT'));
    const growing = client.cache({ prefix: 'c/' }, { maxBytes: 20_000 });
    await growing.ready();
    assert.ok(growing.bytes > 10_000 && growing.bytes <= 20_000);
    const changes = growing.changes();
    await write(20);
    await assert.rejects(async () => {
      for await (const _ of changes);
    }, withCode('OVER_LIMIT'));
    for (const cache of [small, growing]) {
      for (const consistency of ['local', 'linearizable'] as const) {
        await assert.rejects(cache.get('c/1', { consistency }), withCode('OVER_LIMIT'));
      }
      assert.throws(() => cache.entries(), withCode('OVER_LIMIT'));
      assert.throws(() => cache.changes(), withCode('OVER_LIMIT'));
      assert.equal(cache.bytes, 0);
    }
    await using shrinking = client.cache({ prefix: 'c/' }, { maxBytes: 40_000 });
    for (let round = 0; round < 5; round++) await write(20);
    await client.kv.delete({ prefix: 'c/' });
    assert.deepEqual([(await shrinking.list()).kvs, shrinking.bytes], [[], 0]);
  });

  test('keeps only so much for who reads its changes too slowly, and goes on', async () => {
    await using cache = client.cache({ prefix: 'c/' });
    await cache.ready();
    const [slow, other] = [cache.changes({ bufferSize: 3 }), cache.changes()];
    for (let at = 0; at < 5; at++) await client.kv.put('c/a', String(at));
    await cache.get('c/a');
    const seen: string[] = [];
    await assert.rejects(async () => {
      for await (const change of slow) seen.push(told(change));
    }, withCode('OVER_LIMIT'));
    assert.deepEqual(seen, ['put c/a ->0', 'put c/a 0>1', 'put c/a 1>2']);
    for (let at = 0; at < 5; at++)
      assert.equal((await other.next()).value?.events[0]?.kv.string(), String(at));
    const stop = new AbortController();
    const stopped = cache.changes({ signal: stop.signal });
    stop.abort(new Error('enough'));
    await assert.rejects(stopped.next(), /enough/);
  });

  test('ends when it is closed, or its client is, for all who read and follow it', async () => {
    const own = backend.client();
    const ends: readonly ((cache: Cache, of: Client) => unknown)[] = [
      (cache) => cache.close(),
      (_, of) => of.close(),
    ];
    for (const end of ends) {
      const of = own.namespace('c/');
      const cache = of.cache({ prefix: '' });
      await cache.ready();
      const changes = cache.changes();
      const next = assert.rejects(changes.next(), withCode('CLOSED'));
      await end(cache, of);
      await next;
      await assert.rejects(cache.get('a', { consistency: 'local' }), withCode('CLOSED'));
      assert.throws(() => cache.entries(), withCode('CLOSED'));
      cache.close();
    }
    const reading = own.cache({ prefix: '' });
    const closed = assert.rejects(reading.ready(), withCode('CLOSED'));
    await own.close();
    await closed;
    assert.throws(() => own.cache('x'), withCode('CLOSED'));
  });

  test('is one of a namespace, and of a single key', async () => {
    const app = client.namespace('c/');
    await using cache = app.cache({ prefix: '' });
    await using single = app.cache('a');
    await app.kv.put('a', '1');
    await client.kv.put('d', '');
    assert.equal(keysOf((await cache.list()).kvs), 'a');
    assert.equal(keysOf((await single.list()).kvs), 'a');
    assert.equal((await single.get('a'))?.string(), '1');
    await assert.rejects(single.get('b'), refusal('"b"', '"a"'));
  });
});
