/** A client of a namespace: its calls, leases and watches have keys of their own, which begin nowhere else in etcd. */
import assert from 'node:assert/strict';
import { afterEach, before, test } from 'node:test';
import {
  Client,
  compare,
  ConclaveError,
  connect,
  type KeyRange,
  type KeyValue,
  Mutex,
  op,
  Session,
  stm,
} from 'conclave';
import { FaultProxy } from 'conclave/testing';
import { onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';
import { withCode } from '../contract/support/rejections.js';
import { Random } from '../faults/random.js';

const keysOf = (kvs: readonly KeyValue[]): string[] => kvs.map(({ keyBytes }) => keyBytes.toString('latin1'));

/** Whether a range covers a key, both as latin1 text, whose order is that of its bytes. */
function covers(range: KeyRange, key: string): boolean {
  const text = (bytes: string | Uint8Array): string => Buffer.from(bytes).toString('latin1');
  if (typeof range === 'string' || range instanceof Uint8Array) return key === text(range);
  if ('prefix' in range) return key.startsWith(text(range.prefix));
  if ('from' in range) return key >= text(range.from);
  return key >= text(range.start) && key < text(range.end);
}

onEachBackend('a client of a namespace', (backend) => {
  let client: Client;
  before(() => {
    client = backend.client();
  });
  afterEach(() => client.kv.delete({ prefix: '' }));

  /** A namespace of its own for a test, and all keys that are in etcd below it. */
  const fresh = (name: string): { app: Client; inEtcd: () => Promise<string[]> } => ({
    app: client.namespace(`${name}/`),
    inEtcd: async () => keysOf((await client.kv.range({ prefix: name })).kvs),
  });

  test('puts its prefix before keys, and gives keys back without it', async () => {
    const { app, inEtcd } = fresh('calls');
    await app.kv.put('a', '1');
    const { previous } = await app.kv.put('a', '2', { prevKv: true });
    assert.deepEqual([previous?.key, previous?.string(), previous?.version], ['a', '1', 1n]);
    await app.kv.put('b', '{"port":80}');
    assert.deepEqual(await inEtcd(), ['calls/a', 'calls/b']);
    const found = await app.kv.get('b');
    assert.deepEqual(
      [found?.key, found?.json(), found?.createRevision],
      ['b', { port: 80 }, found?.modRevision],
    );
    const sorted = await app.kv.range({ prefix: '' }, { limit: 1, sort: { by: 'key', order: 'desc' } });
    assert.deepEqual([keysOf(sorted.kvs), sorted.count, sorted.more], [['b'], 2n, true]);
    const deleted = await app.kv.delete({ from: 'a' }, { prevKv: true });
    assert.deepEqual(keysOf(deleted.previous), ['a', 'b']);
    assert.deepEqual(await inEtcd(), []);
    assert.throws(() => client.namespace(7 as never), TypeError);
    assert.throws(() => client.namespace('\ud800'), TypeError);
  });

  test('has ranges that end where it ends, whatever bytes its prefix and they are made of', async (t) => {
    const random = new Random(t);
    const bytes = (most: number): Buffer =>
      Buffer.from(Array.from({ length: random.below(most + 1) }, () => random.pick([0, 0x61, 0xfe, 0xff])));
    const all = [...new Set(Array.from({ length: 60 }, () => bytes(4).toString('latin1')))].filter(
      (key) => key !== '',
    );
    const plain = { batch: 'all' } as const;
    await using writer = backend.client(plain);
    await Promise.all(all.map((key) => writer.kv.put(Buffer.from(key, 'latin1'), '')));
    for (let round = 0; round < 20; round++) {
      const [outer, inner] = [bytes(2), bytes(1)];
      const whole = Buffer.concat([outer, inner]).toString('latin1');
      const app = client.namespace(outer).namespace(inner);
      const [one, other] = [bytes(2), bytes(2)].sort((a, b) => Buffer.compare(a, b)) as [Buffer, Buffer];
      const ranges: KeyRange[] = [{ prefix: one }, { from: one }, { prefix: '' }];
      if (one.length > 0) ranges.push(one);
      if (one.length > 0 && Buffer.compare(one, other) < 0) ranges.push({ end: other, start: one });
      for (const range of ranges) {
        const expected = all
          .filter((key) => key.startsWith(whole) && key.length > whole.length)
          .map((key) => key.slice(whole.length))
          .filter((key) => covers(range, key))
          .sort();
        const told = `namespace ${JSON.stringify([outer, inner])}, range ${JSON.stringify(range)}`;
        assert.deepEqual(keysOf((await app.kv.range(range)).kvs), expected, told);
        const scanned: KeyValue[] = [];
        for await (const kv of app.kv.scan(range, { pageSize: 5 })) scanned.push(kv);
        assert.deepEqual(keysOf(scanned), expected, told);
        // A compare over a range that holds no key holds; over one that does, this one does not.
        const compared = await app.kv.txn({ if: [compare.createRevision(range, '=', 0n)] });
        assert.equal(compared.succeeded, expected.length === 0, told);
      }
    }
    const gone = client.namespace(Uint8Array.of(0xff));
    const { deleted } = await gone.kv.delete({ prefix: '' });
    assert.equal(Number(deleted), all.filter((key) => key.startsWith('\xff') && key.length > 1).length);
    const kept = keysOf((await client.kv.range({ prefix: '' })).kvs);
    assert.deepEqual(kept, all.filter((key) => !key.startsWith('\xff') || key.length === 1).sort());
  });

  test('runs transactions within transactions', async () => {
    const { app, inEtcd } = fresh('txns');
    await client.kv.put('a', 'of nobody');
    await app.kv.put('a', '1');
    const result = await app.kv.txn({
      else: [op.get('a')],
      if: [compare.value('a', '=', '1'), compare.version({ prefix: '' }, '<', 2n), compare.missing('b')],
      then: [
        op.put('b', '2', { prevKv: true }),
        op.get({ prefix: '' }),
        op.txn({
          else: [op.put('wrong', '')],
          if: [compare.exists('a'), compare.missing('txns/a')],
          then: [op.delete({ end: 'b', start: 'a' }, { prevKv: true }), op.get('a'), op.put('c', '3')],
        }),
      ],
    });
    assert.ok(result.succeeded);
    const [put, range, inner] = result.responses;
    assert.equal(put.previous, undefined);
    assert.deepEqual(keysOf(range.kvs), ['a', 'b']);
    assert.ok(inner.succeeded);
    assert.deepEqual(keysOf(inner.responses[0].previous), ['a']);
    assert.deepEqual(inner.responses[1].kvs, []);
    assert.deepEqual(await inEtcd(), ['txns/b', 'txns/c']);
    const refused = await app.kv.txn({ else: [op.get({ prefix: '' })], if: [compare.missing('c')] });
    assert.ok(!refused.succeeded);
    assert.deepEqual(keysOf(refused.responses[0].kvs), ['b', 'c']);
    assert.equal((await client.kv.get('a'))?.string(), 'of nobody');
  });

  test('sends calls that are made at once together', async () => {
    await using together = backend.client({ batch: 'all' });
    const app = together.namespace('batch/');
    const names = Array.from({ length: 20 }, (_, at) => `k${at}`);
    const written = await Promise.all(names.map((name) => app.kv.put(name, name)));
    assert.ok(new Set(written.map(({ revision }) => revision)).size < names.length);
    const read = await Promise.all(names.map((name) => app.kv.get(name)));
    assert.deepEqual(
      read.map((kv) => kv?.key),
      names,
    );
    assert.deepEqual(
      read.map((kv) => kv?.string()),
      names,
    );
    const { count } = await client.kv.range({ prefix: 'batch/' }, { countOnly: true });
    assert.equal(count, 20n);
  });

  test('shares leases with everybody, and of their keys sees its own', async () => {
    const { app } = fresh('leases');
    const lease = await app.lease.grant(60);
    await app.kv.put('mine', '', { leaseId: lease.id });
    await client.kv.put('others', '', { leaseId: lease.id });
    await client.kv.put('leases/', '', { leaseId: lease.id });
    const keys = async (of: Client): Promise<string[]> =>
      (await of.lease.timeToLive(lease.id, { keys: true })).keys.map(String).sort();
    assert.deepEqual(await keys(app), ['mine']);
    assert.deepEqual(await keys(client), ['leases/', 'leases/mine', 'others']);
    assert.equal((await app.kv.get('mine'))?.leaseId, lease.id);
    assert.ok((await app.lease.list()).includes(lease.id));
    assert.equal((await app.lease.keepAliveOnce(lease.id)).id, lease.id);
    await app.lease.revoke(lease.id);
    assert.equal(await client.kv.get('others'), undefined);
  });

  test('watches its own keys, from now on and from the past, and reads them anew once history is gone', async () => {
    const { app } = fresh('watches');
    const inner = app.namespace('in/');
    const watch = app.watch({ prefix: '' }, { prevKv: true });
    await client.kv.put('watches0', 'next to it');
    const { revision } = await app.kv.put('a', '1');
    await inner.kv.put('b', '2');
    await app.kv.delete('a');
    const seen: string[] = [];
    while (seen.length < 3) {
      const { value } = await watch.next();
      for (const { kv, prevKv, type } of value?.events ?? []) {
        seen.push(`${type} ${kv.key} ${kv.string()} ${prevKv?.key ?? '-'} ${prevKv?.string() ?? '-'}`);
      }
    }
    assert.deepEqual(seen, ['put a 1 - -', 'put in/b 2 - -', 'delete a  a 1']);
    watch.close();

    const past = inner.watch('b', { startRevision: revision });
    const { value: first } = await past.next();
    assert.deepEqual(
      first?.events.map(({ kv }) => kv.key),
      ['b'],
    );
    past.close();

    await inner.kv.put('c', '3');
    await client.kv.compact((await app.kv.put('a', '4')).revision);
    await assert.rejects(app.watch('a', { startRevision: revision }).next(), (error) => {
      withCode('COMPACTED')(error);
      return error instanceof ConclaveError && error.key === 'a' && error.message.startsWith('watch "a":');
    });
    const relisted = inner.watch({ from: 'b' }, { onCompacted: 'relist', startRevision: revision });
    const { value: snapshot } = await relisted.next();
    assert.deepEqual(keysOf(snapshot?.snapshot ?? []), ['b', 'c']);
    await inner.kv.put('d', '5');
    const { value: after } = await relisted.next();
    assert.deepEqual(
      after?.events.map(({ kv }) => kv.key),
      ['d'],
    );
    relisted.close();
  });

  test('names the key that its user knows when something fails', async () => {
    await using proxy = await FaultProxy.start(backend.endpoints[0] ?? '', { grpc: true });
    await using away = new Client({ endpoints: proxy.endpoint });
    const app = away.namespace('errors/').namespace('in/');
    await app.kv.put('a', 'no json');
    using _lost = proxy.onCall('/etcdserverpb.KV/Put', 'dropReply', { then: 'reset' });
    const failed = async (call: Promise<unknown>): Promise<string[]> => {
      const error = await call.catch((reason: unknown) => reason);
      assert.ok(error instanceof ConclaveError);
      assert.doesNotMatch(`${error.message} ${String(error.cause)}`, /errors|in\//);
      return [error.code, error.key ?? ''];
    };
    assert.deepEqual(await failed(app.kv.put('a', 'no json')), ['UNKNOWN_OUTCOME', 'a']);
    assert.deepEqual(await failed(app.kv.put('b', '', { leaseId: 7n })), ['LEASE_NOT_FOUND', 'b']);
    assert.deepEqual(await failed(app.kv.get('c', { revision: 1_000_000n })), ['FUTURE_REVISION', 'c']);
    const twice = { then: [op.put('d', ''), op.put('d', '')] };
    assert.deepEqual(await failed(app.kv.txn(twice)), ['DUPLICATE_KEY', 'd']);
    const page = app.kv.range({ prefix: 'e' }, { revision: 1_000_000n });
    assert.deepEqual(await failed(page), ['FUTURE_REVISION', 'e']);
  });

  test('passes cluster, auth and maintenance on', async () => {
    const { app } = fresh('rooms');
    assert.deepEqual(await app.cluster.memberList(), await client.cluster.memberList());
    if (backend.kind === 'etcd') assert.deepEqual(await app.auth.userList(), []);
    assert.equal((await app.maintenance.status()).version, (await client.maintenance.status()).version);
    assert.deepEqual(
      [app.endpoints, app.endpoint, app.clock],
      [client.endpoints, client.endpoint, client.clock],
    );
  });

  test('ends alone when it is closed, with its namespaces and what stands on it', async () => {
    const { app } = fresh('closing');
    const inner = app.namespace('in/');
    const session = await Session.open(inner, { ttlSeconds: 60 });
    const lock = await new Mutex(session, 'lock').lock();
    const contender = await Session.open(inner, { ttlSeconds: 60 });
    const waiting = new Mutex(contender, 'lock').lock();
    const watch = inner.watch('x');
    const kept = client.watch('closing/x');
    const keepAlive = inner.lease.keepAlive(session.leaseId);
    await Promise.all([watch.created, keepAlive.next()]);
    const ends = [waiting, watch.next(), keepAlive.next()].map((end) => assert.rejects(end));
    await until(async () => (await new Mutex(contender, 'lock').inspect()).waiters.length === 1);

    const closing = app.close();
    assert.equal(app.close(), closing);
    await closing;
    await Promise.all(ends);
    assert.deepEqual([app.closed.aborted, inner.closed.aborted, client.closed.aborted], [true, true, false]);
    assert.equal(lock.held, false);
    assert.equal(session.state, 'lost');
    withCode('CLOSED')(inner.closed.reason);
    for (const call of [inner.kv.get('x'), app.kv.put('x', ''), app.lease.list(), inner.lease.grant(5)]) {
      await assert.rejects(call, withCode('CLOSED'));
    }
    assert.throws(() => app.watch('x'), withCode('CLOSED'));
    assert.throws(() => app.namespace('y/'), withCode('CLOSED'));

    await client.namespace('closing/').kv.put('x', 'goes on');
    assert.equal((await kept.next()).value?.events[0]?.kv.string(), 'goes on');
    kept.close();
    for (const { leaseId } of [session, contender]) await client.lease.revoke(leaseId);
  });

  test('ends with the client that it is of, whose last calls include its own', async () => {
    const own = backend.client();
    const inner = own.namespace('a/').namespace('b/');
    const watch = inner.watch('x');
    await watch.created;
    await stm(inner, async (tx) => tx.put('x', (await tx.get('y'))?.string() ?? 'none'));
    assert.deepEqual(keysOf((await client.kv.range({ prefix: 'a/b/x' })).kvs), ['a/b/x']);
    await own.close();
    await assert.rejects(async () => {
      for await (const _ of watch);
    }, withCode('CLOSED'));
    await assert.rejects(inner.kv.get('x'), withCode('CLOSED'));
    assert.deepEqual(keysOf((await client.kv.range({ prefix: 'a/' })).kvs), ['a/b/x']);
  });

  test('is what connect() works in', async () => {
    const options = { endpoints: backend.endpoints, namespace: 'shop/', ttlSeconds: 10 };
    await using conclave = await connect(options);
    const lock = await conclave.mutex('orders').lock();
    const [key = ''] = keysOf((await client.kv.range({ prefix: 'shop/orders' })).kvs);
    assert.ok(key.startsWith('shop/orders/'), key);
    await lock.txn({ then: [op.put('orders/state', 'x')] });
    assert.equal((await client.kv.get('shop/orders/state'))?.string(), 'x');
    await conclave.close();
    assert.deepEqual([conclave.client.closed.aborted, lock.held], [true, false]);
    await assert.rejects(connect({ ...options, namespace: 7 as never }), TypeError);
  });
});
