import assert from 'node:assert/strict';
import { afterEach, before, test } from 'node:test';
import { Client, op, type WatchBatch, type Watcher, type WatchOptions } from 'conclave';
import { FaultProxy } from 'conclave/testing';
import { onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';
import { exactly, withCode } from './support/rejections.js';

const WATCH = '/etcdserverpb.Watch/Watch';

onEachBackend('watch', (backend) => {
  let client: Client;
  before(() => {
    client = backend.client();
  });
  afterEach(async () => {
    await client.kv.delete({ prefix: '' });
  });

  const put = async (key: string, value = ''): Promise<bigint> => (await client.kv.put(key, value)).revision;

  /** Reads until there are so many events, as `type key value`, and checks that revisions never go back. */
  async function read(watch: Watcher, count: number): Promise<string[]> {
    const seen: string[] = [];
    let last = 0n;
    while (seen.length < count) {
      const { value } = await watch.next();
      if (value === undefined) break;
      for (const { kv, prevKv, type } of value.events) {
        assert.ok(kv.modRevision >= last, 'revisions in order');
        assert.ok(kv.modRevision < value.nextRevision, 'nextRevision is after what was delivered');
        last = kv.modRevision;
        seen.push(
          [type, kv.key, kv.string(), ...(prevKv === undefined ? [] : [`was ${prevKv.string()}`])].join(' '),
        );
      }
    }
    return seen;
  }

  test('a write made right after client.watch() is seen, whatever kind of write', async () => {
    for (let round = 0; round < 10; round++) {
      const lease = await client.lease.grant(60);
      await client.kv.put('w/leased', '', { leaseId: lease.id });
      const watch = client.watch({ prefix: 'w/' });
      await Promise.all([
        client.kv.put('w/put', String(round)),
        client.kv.delete('w/leased'),
        client.kv.txn({ then: [op.put('w/txn', String(round))] }),
      ]);
      assert.deepEqual((await read(watch, 3)).sort(), [
        'delete w/leased ',
        `put w/put ${round}`,
        `put w/txn ${round}`,
      ]);
      await client.kv.put('w/leased', '', { leaseId: lease.id });
      assert.equal((await read(watch, 1)).length, 1);
      watch.close();
      const ends = client.watch('w/leased');
      await client.lease.revoke(lease.id);
      assert.deepEqual(await read(ends, 1), ['delete w/leased ']);
      ends.close();
    }
  });

  test('a key, a prefix and a range bring just their own events', async () => {
    const watches = [
      client.watch('b'),
      client.watch({ prefix: 'a' }),
      client.watch({ end: 'b', start: 'a2' }),
    ];
    for (const key of ['a1', 'a2', 'b', 'b1', 'c']) await put(key);
    await client.kv.delete({ prefix: '' });
    const [single, prefix, range] = watches;
    assert.ok(single !== undefined && prefix !== undefined && range !== undefined);
    assert.deepEqual(await read(single, 2), ['put b ', 'delete b ']);
    assert.deepEqual(await read(prefix, 4), ['put a1 ', 'put a2 ', 'delete a1 ', 'delete a2 ']);
    assert.deepEqual(await read(range, 2), ['put a2 ', 'delete a2 ']);
    for (const watch of watches) watch.close();
  });

  test('starts in the past, now, or in the future', async () => {
    const first = await put('s', '1');
    await put('s', '2');
    const past = client.watch('s', { startRevision: first });
    const now = client.watch('s');
    const future = client.watch('s', { startRevision: first + 4n });
    assert.ok((await now.created) >= first + 1n);
    await future.created;
    for (const value of ['3', '4', '5']) await put('s', value);
    assert.deepEqual(await read(past, 5), ['put s 1', 'put s 2', 'put s 3', 'put s 4', 'put s 5']);
    assert.deepEqual(await read(now, 3), ['put s 3', 'put s 4', 'put s 5']);
    assert.deepEqual(await read(future, 1), ['put s 5']);
    for (const watch of [past, now, future]) watch.close();
  });

  test('prevKv tells what was there, filters leave out puts or deletes', async () => {
    const all = client.watch('p', { prevKv: true });
    const deletes = client.watch('p', { filter: 'noput', prevKv: true });
    const puts = client.watch('p', { filter: ['nodelete'] });
    await put('p', '1');
    await put('p', '2');
    await client.kv.delete('p');
    await put('p', '3');
    assert.deepEqual(await read(all, 4), ['put p 1', 'put p 2 was 1', 'delete p  was 2', 'put p 3']);
    assert.deepEqual(await read(deletes, 1), ['delete p  was 2']);
    assert.deepEqual(await read(puts, 3), ['put p 1', 'put p 2', 'put p 3']);
    for (const watch of [all, deletes, puts]) watch.close();
  });

  test('all events of a revision come in one batch, however big', async () => {
    const watch = client.watch({ prefix: 'f/' }, { prevKv: true });
    const big = 'x'.repeat(400_000);
    const keys = ['f/1', 'f/2', 'f/3'];
    const { revision } = await client.kv.txn({ then: keys.map((key) => op.put(key, big)) });
    // With what was there before, this is more than one message takes.
    const next = await client.kv.txn({ then: keys.map((key) => op.put(key, `${big}y`)) });
    const batches: WatchBatch[] = [];
    for await (const batch of watch) {
      batches.push(batch);
      if (batch.nextRevision > next.revision) break;
    }
    const events = batches.flatMap((batch) => batch.events);
    assert.deepEqual(
      events.map(({ kv, prevKv }) => [kv.key, kv.modRevision, prevKv?.value.length]),
      [
        ...keys.map((key) => [key, revision, undefined]),
        ...keys.map((key) => [key, next.revision, big.length]),
      ],
    );
    for (const { events: together } of batches) assert.equal(together.length % 3, 0);
  });

  test('two hundred watches share one stream', async () => {
    await using proxy = await FaultProxy.start(backend.endpoints[0] ?? '', { grpc: true });
    await using own = new Client({ endpoints: proxy.endpoint });
    const watches = Array.from({ length: 200 }, (_, n) => own.watch(`many/${n}`));
    await Promise.all(watches.map((watch) => watch.created));
    await Promise.all(watches.map((_, n) => own.kv.put(`many/${n}`, String(n))));
    const seen = await Promise.all(watches.map((watch) => read(watch, 1)));
    assert.deepEqual(
      seen.flat(),
      watches.map((_, n) => `put many/${n} ${n}`),
    );
    assert.equal(proxy.accepted, 1);
    assert.equal(proxy.requests(WATCH), 200);
  });

  test('leaving the loop cancels the watch on the server, and nobody else’s', async () => {
    await using proxy = await FaultProxy.start(backend.endpoints[0] ?? '', { grpc: true });
    await using own = new Client({ endpoints: proxy.endpoint });
    const stays = own.watch('stays');
    const leaves = own.watch('leaves');
    await own.kv.put('leaves', '1');
    for await (const { events } of leaves) {
      assert.equal(events.length, 1);
      break;
    }
    // Two creations, one cancellation; two creations, one event and one cancellation are answered.
    await proxy.waitFor(() => proxy.requests(WATCH) === 3 && proxy.replies(WATCH) === 4);
    await own.kv.put('leaves', '2');
    await own.kv.put('stays', '1');
    assert.deepEqual(await read(stays, 1), ['put stays 1']);
    assert.equal(proxy.replies(WATCH), 5, 'no event of that key comes any more');
    assert.equal((await leaves.next()).done, true);
    stays.close();
    stays.close();
    assert.equal((await stays.next()).done, true);
  });

  test('ends with its signal’s reason, and with CLOSED when the client is closed', async () => {
    const own = new Client({ endpoints: backend.endpoints });
    const abort = new AbortController();
    const watch = own.watch('x', { signal: abort.signal });
    const other = own.watch('x');
    const paused = own.watch({ prefix: 'q/' }, { bufferSize: 1 });
    await Promise.all([watch.created, other.created, paused.created]);
    await own.kv.put('q/1', '');
    await own.kv.put('q/2', '');
    const pending = watch.next();
    abort.abort('enough');
    await assert.rejects(pending, exactly('enough'));
    assert.equal((await watch.next()).done, true);
    assert.throws(() => own.watch('x', { signal: abort.signal }), exactly('enough'));
    const closed = assert.rejects(other.next(), withCode('CLOSED'));
    await own.close();
    await closed;
    // A watch that was paused for its slow reader still gives what it has, and then the reason.
    await assert.rejects(async () => {
      for (let n = 0; n < 3; n++) await paused.next();
    }, withCode('CLOSED'));
    assert.throws(() => own.watch('x'), withCode('CLOSED'));
  });

  test('a compacted start throws COMPACTED with the oldest revision left', async () => {
    const first = await put('c', '1');
    const last = await put('c', '2');
    await client.kv.compact(last, { physical: true });
    const watch = client.watch('c', { startRevision: first });
    await assert.rejects(watch.next(), (error) => {
      withCode('COMPACTED')(error);
      assert.equal((error as { compactRevision?: bigint }).compactRevision, last);
      return true;
    });
    assert.equal((await watch.next()).done, true);
  });

  test('a compacted start is read anew with onCompacted relist, and goes on without a gap', async () => {
    const first = await put('r/1', 'a');
    await put('r/2', 'b');
    await client.kv.compact(await put('r/1', 'c'), { physical: true });
    const watch = client.watch({ prefix: 'r/' }, { onCompacted: 'relist', startRevision: first });
    const { value } = await watch.next();
    assert.ok(value !== undefined);
    const { events, nextRevision, revision, snapshot } = value;
    assert.deepEqual(
      [events, snapshot?.map((kv) => `${kv.key} ${kv.string()}`), nextRevision],
      [[], ['r/1 c', 'r/2 b'], revision + 1n],
    );
    await put('r/1', 'd');
    assert.deepEqual(await read(watch, 1), ['put r/1 d']);
    watch.close();
  });

  test('a slow reader pauses the watch on the server, and loses nothing', async () => {
    const options: WatchOptions = { bufferSize: 4 };
    const watch = client.watch({ prefix: 'slow/' }, options);
    const total = 300;
    for (let n = 0; n < total; n++) await put(`slow/${n % 7}`, String(n));
    const seen: string[] = [];
    while (seen.length < total) {
      seen.push(...(await read(watch, 1)));
      if (seen.length % 50 === 0) await put('elsewhere');
    }
    assert.deepEqual(
      seen,
      Array.from({ length: total }, (_, n) => `put slow/${n % 7} ${n}`),
    );
    await put('slow/last', 'still live');
    assert.deepEqual(await read(watch, 1), ['put slow/last still live']);
    watch.close();
  });

  test('a reader that was too slow for a compaction is told, or relisted', async () => {
    const strict = client.watch({ prefix: 'late/' }, { bufferSize: 2 });
    const lenient = client.watch({ prefix: 'late/' }, { bufferSize: 2, onCompacted: 'relist' });
    await Promise.all([strict.created, lenient.created]);
    let revision = 0n;
    for (let n = 0; n < 20; n++) revision = await put('late/x', String(n));
    // Both have paused by the time the last event could have come.
    const live = client.watch('late/x', { startRevision: revision });
    await read(live, 1);
    live.close();
    await client.kv.compact(revision, { physical: true });
    await assert.rejects(read(strict, 20), withCode('COMPACTED'));
    const values: string[] = [];
    for await (const { events, snapshot } of lenient) {
      if (snapshot !== undefined) values.push(`snapshot ${snapshot.map((kv) => kv.string()).join()}`);
      for (const { kv } of events) values.push(kv.string());
      if (values.at(-1) === 'snapshot 19') break;
    }
    assert.deepEqual(values.slice(0, 2), ['0', '1']);
    assert.ok(values.length < 20);
  });

  test('a watch made anew at nextRevision continues where the first one ended', async () => {
    const first = client.watch({ prefix: 'n/' });
    await first.created;
    for (let n = 0; n < 5; n++) await put(`n/${n}`);
    const { value } = await first.next();
    first.close();
    assert.ok(value !== undefined);
    const second = client.watch({ prefix: 'n/' }, { startRevision: value.nextRevision });
    const rest = await read(second, 5 - value.events.length);
    assert.equal(rest.at(-1), 'put n/4 ');
    second.close();
  });

  test('goes on over cut connections, in order, without loss or repetition', async () => {
    await using proxy = await FaultProxy.start(backend.endpoints[0] ?? '', { grpc: true });
    await using own = new Client({ endpoints: proxy.endpoint });
    const watch = own.watch({ prefix: 'cut/' });
    await watch.created;
    const total = 200;
    const writing = (async () => {
      for (let n = 0; n < total; n++) {
        await put(`cut/${n % 3}`, String(n));
        if (n % 25 !== 12) continue;
        const { accepted } = proxy;
        proxy.cut();
        // Every other time it is cut again while it is still connecting, or not yet.
        if (n % 50 === 12) await until(() => proxy.accepted > accepted);
      }
    })();
    const seen = await read(watch, total);
    await writing;
    assert.deepEqual(
      seen,
      Array.from({ length: total }, (_, n) => `put cut/${n % 3} ${n}`),
    );
    await until(() => proxy.accepted > 4);
    watch.close();
  });
});
