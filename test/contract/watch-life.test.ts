/** Watches whose reader is slow, whose history is lost, whose stream breaks: each event once, and an end that is one. */
import assert from 'node:assert/strict';
import { afterEach, before, describe, test } from 'node:test';
import { type Client, op, type Watcher } from 'conclave';
import { EmbeddedServer } from 'conclave/embedded';
import { startEtcd } from 'conclave/testing';
import { services } from '#conclave/proto/services.js';
import { nextOf, RPC, Scene } from '../faults/scene.js';
import { onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

onEachBackend('the life of watches', (backend) => {
  let client: Client;
  before(() => {
    client = backend.client();
  });
  afterEach(async () => {
    await client.kv.delete({ prefix: '' });
  });

  /** Writes so many times to ten keys below `prefix`; resolves with the revisions, in order. */
  async function write(prefix: string, count: number): Promise<bigint[]> {
    const revisions: bigint[] = [];
    while (revisions.length < count) {
      const some = Array.from({ length: Math.min(50, count - revisions.length) }, (_, n) =>
        client.kv.put(`${prefix}${(revisions.length + n) % 10}`, 'x'),
      );
      for (const { revision } of await Promise.all(some)) revisions.push(revision);
    }
    return revisions.sort((a, b) => Number(a - b));
  }

  test('a slow reader whose history is compacted gets one snapshot, and then every event once', async (t) => {
    const scene = new Scene(t, backend);
    const proxy = await scene.proxy();
    const own = scene.client(proxy);
    const watch = own.watch('a', { bufferSize: 4, onCompacted: 'relist' });
    let creations = 0;
    proxy.onCall(RPC.watch, 'holdRequest', {
      where: (message) => {
        if (services.Watch.Watch.requestDeserialize(message).createRequest !== undefined) creations += 1;
        return false;
      },
    });
    const seen: string[] = [];
    const read = async (watch: Watcher): Promise<void> => {
      const { events, snapshot } = await nextOf(watch);
      if (snapshot !== undefined) seen.push(`snapshot ${snapshot.map((kv) => kv.string()).join()}`);
      seen.push(...events.map(({ kv }) => kv.string()));
    };
    await watch.created;
    // One by one, so that each comes as a batch of its own.
    for (let n = 1; n <= 10; n++) {
      await client.kv.put('a', String(n));
      if (n <= 4) await proxy.waitFor(() => proxy.replies(RPC.watch) > n);
    }
    await client.kv.compact((await client.kv.put('a', 'x')).revision);
    const fault = proxy.onCall(RPC.range, 'holdRequest');
    for (let n = 0; n < 3; n++) {
      await read(watch);
      await turn();
    }
    await fault.hit();
    await read(watch);
    await turn();
    fault.release();
    await read(watch);
    for (const value of ['new0', 'new1', 'new2']) {
      await client.kv.put('a', value);
      await read(watch);
    }
    assert.deepEqual(seen, ['1', '2', '3', '4', 'snapshot x', 'new0', 'new1', 'new2']);
    assert.equal(proxy.requests(RPC.range), 1);
    watch.close();
    assert.equal((await watch.next()).done, true);
    assert.equal(creations, 3, 'at first, when the reader has caught up, and after the snapshot');
  });

  test('a watch that catches up through a buffer of one delivers every event once', async () => {
    const revisions = await write('catch/', 3000);
    const watch = client.watch({ prefix: 'catch/' }, { bufferSize: 1, startRevision: revisions[0] ?? 0n });
    const seen: bigint[] = [];
    while (seen.length < revisions.length) {
      const { events, nextRevision } = await nextOf(watch);
      seen.push(...events.map(({ kv }) => kv.modRevision));
      assert.equal(nextRevision, (seen.at(-1) ?? 0n) + 1n, 'nextRevision is right after what was delivered');
      await turn();
    }
    assert.deepEqual(seen, revisions);
    watch.close();
  });

  test('a watch that begins at the compacted revision is told of the deletion that this was', async () => {
    await client.kv.put('tomb', '1');
    const { revision } = await client.kv.delete('tomb');
    await client.kv.put('elsewhere', '');
    await client.kv.compact(revision, { physical: true });
    const watch = client.watch('tomb', { startRevision: revision });
    await watch.created;
    await client.kv.put('tomb', '2');
    const seen: string[] = [];
    while (seen.at(-1) !== 'put') seen.push(...(await nextOf(watch)).events.map(({ type }) => type));
    // etcd 3.4.23 forgets it (etcd #19474).
    const forgets = (await client.maintenance.serverVersion()).startsWith('3.4.') && backend.kind === 'etcd';
    assert.deepEqual(seen, forgets ? ['put'] : ['delete', 'put']);
    watch.close();
  });

  test('relisting reads page by page, at one revision, and no page is large', async (t) => {
    const scene = new Scene(t, backend);
    const proxy = await scene.proxy();
    const startRevision = (await client.kv.put('page/', '')).revision;
    const keys = Array.from({ length: 120 }, (_, n) => `page/${String(n).padStart(3, '0')}`);
    for (const key of keys) await client.kv.put(key, Buffer.alloc(50_000, 'x'));
    const { revision } = await client.kv.txn({ then: [op.put('page/', 'whole')] });
    await client.kv.compact(revision);
    const sizes: number[] = [];
    proxy.onCall(RPC.range, 'holdReply', {
      where: (message) => {
        sizes.push(message.length);
        assert.equal(services.KV.Range.responseDeserialize(message).header?.revision, revision);
        return false;
      },
    });
    const watch = scene.client(proxy).watch({ prefix: 'page/' }, { onCompacted: 'relist', startRevision });
    const { snapshot, ...batch } = await nextOf(watch);
    assert.deepEqual(
      snapshot?.map((kv) => kv.key),
      ['page/', ...keys],
    );
    assert.deepEqual([batch.revision, batch.nextRevision, batch.events], [revision, revision + 1n, []]);
    assert.ok(sizes.length > 5 && Math.max(...sizes) < 1_000_000, `pages of ${sizes.join()} bytes`);
    watch.close();
  });

  test('a watch keeps its key whatever becomes of the caller’s bytes', async (t) => {
    const scene = new Scene(t, backend);
    const proxy = await scene.proxy();
    const own = scene.client(proxy);
    const [key, end] = [Buffer.from('bytes/a'), Buffer.from('bytes/b')];
    const [one, many] = [own.watch(key), own.watch({ end, start: key })];
    await Promise.all([one.created, many.created]);
    key.fill('z');
    end.fill('z');
    proxy.cut();
    await proxy.waitFor(() => proxy.requests(RPC.watch) === 4);
    await client.kv.put('bytes/a', 'x');
    for (const watch of [one, many]) {
      assert.equal((await nextOf(watch)).events[0]?.kv.key, 'bytes/a');
      watch.close();
    }
  });
});

const PROGRESS_MS = 100;
const SERVERS = {
  embedded: async () => {
    const server = await EmbeddedServer.start({ port: 0, watchProgressIntervalMs: PROGRESS_MS });
    return { close: () => server.close(), endpoints: [server.endpoint] };
  },
  etcd: () => startEtcd({ args: [`--experimental-watch-progress-notify-interval=${PROGRESS_MS}ms`] }),
} as const;

describe('progress of watches', () => {
  for (const kind of ['embedded', 'etcd'] as const) {
    test(`after a progress report the very next event comes, though the stream is cut before it (${kind})`, async (t) => {
      const server = await SERVERS[kind]();
      t.after(() => server.close());
      const scene = new Scene(t, server);
      const proxy = await scene.proxy();
      const watch = scene.client(proxy).watch('progress', { progressNotify: true });
      await watch.created;
      for (let round = 0; round < 3; round++) {
        const before = (await scene.direct.kv.put('elsewhere', '')).revision;
        const reported = await until(async () => {
          const { events, nextRevision } = await nextOf(watch);
          return events.length === 0 && nextRevision > before && nextRevision;
        });
        const fault = proxy.onCall(RPC.watch, 'holdReply');
        const { revision } = await scene.direct.kv.put('progress', String(round));
        assert.equal(revision, reported);
        await fault.hit();
        proxy.cut();
        fault.release();
        const seen = await until(async () => (await nextOf(watch)).events[0]?.kv);
        assert.equal(seen.modRevision, revision);
      }
      watch.close();
    });
  }
});
