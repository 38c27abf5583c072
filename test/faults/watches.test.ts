// Watches under faults: no event is lost, repeated or reordered, and a watch that cannot go on says why.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { type Client, op, type WatchBatch, type Watcher } from 'conclave';
import { services } from '#conclave/proto/services.js';
import { until } from '../support/until.js';
import { Random } from './random.js';
import { assertSame, etcdOfSuite, nextOf, RPC, Scene } from './scene.js';

const replyOf = (message: Buffer): ReturnType<typeof services.Watch.Watch.responseDeserialize> =>
  services.Watch.Watch.responseDeserialize(message);

/** Writes to one key until told to stop; resolves with the revisions of its writes. */
function writeOn(client: Client, key: string): { readonly count: number; stop(): Promise<bigint[]> } {
  const revisions: bigint[] = [];
  const state = { writing: true };
  const done = (async () => {
    while (state.writing) revisions.push((await client.kv.put(key, String(revisions.length))).revision);
  })();
  return {
    get count() {
      return revisions.length;
    },
    async stop() {
      state.writing = false;
      await done;
      return revisions;
    },
  };
}

/** Reads a watch until it has seen `revision`; resolves with the revisions of all events, one for each. */
async function readTo(watch: Watcher, revision: () => bigint | undefined): Promise<bigint[]> {
  const seen: bigint[] = [];
  for await (const { events } of watch) {
    seen.push(...events.map((event) => event.kv.modRevision));
    const last = revision();
    if (last !== undefined && (seen.at(-1) ?? 0n) >= last) return seen.filter((each) => each <= last);
  }
  throw new Error('the watch ended before its last event');
}

describe('watches under faults', { concurrency: 2 }, () => {
  const etcd = etcdOfSuite();

  for (const action of ['dropRequest', 'dropReply'] as const) {
    test(`a watch whose creation is lost (${action}) begins all the same, at its own revision`, async (t) => {
      const scene = new Scene(t, etcd);
      const proxy = await scene.proxy();
      const key = `created-${action}`;
      const first = await scene.direct.kv.put(key, '0');
      for (const then of ['cut', 'reset'] as const) {
        const fault = proxy.onCall(RPC.watch, action, { then, times: 2 });
        const client = scene.client(proxy);
        const now = client.watch(key);
        const past = client.watch(key, { startRevision: first.revision });
        await now.created;
        await fault.hit(action === 'dropRequest' ? 2 : 1);
        const { revision } = await scene.direct.kv.put(key, then);
        assert.equal((await nextOf(past)).events[0]?.kv.modRevision, first.revision);
        assert.equal((await nextOf(now)).events[0]?.kv.modRevision, revision);
        await client.close();
      }
      await scene.direct.kv.delete(key);
    });
  }

  test('a revision that comes in fragments is delivered whole and once, wherever it is cut', async (t) => {
    const scene = new Scene(t, etcd);
    const proxy = await scene.proxy();
    // More than etcd puts into one message, in each of three revisions.
    const startRevision = (await scene.direct.kv.put('parts/0', '')).revision;
    const written: bigint[] = [];
    for (let at = 0; at < 3; at++) {
      const wholes = Array.from({ length: 4 }, (_, part) =>
        op.put(`parts/${at}/${part}`, Buffer.alloc(350_000, 'x')),
      );
      written.push((await scene.direct.kv.txn({ then: wholes })).revision);
    }
    let fragments = 0;
    let cuts = 0;
    const fault = proxy.onCall(RPC.watch, 'holdReply', {
      where: (message) => {
        const { events, fragment } = replyOf(message);
        if (fragment || events.length > 0) fragments += 1;
        return cuts < 4 && fragments > cuts;
      },
    });
    const batches: WatchBatch[] = [];
    const reading = (async () => {
      for await (const batch of scene
        .client(proxy)
        .watch({ prefix: 'parts/' }, { fragments: true, startRevision })) {
        batches.push(batch);
        if (batch.events.at(-1)?.kv.modRevision === written.at(-1)) break;
      }
    })();
    while (cuts < 3) {
      await fault.hit(cuts + 1);
      cuts += 1;
      fragments = 0;
      proxy.cut();
    }
    cuts = 4;
    await fault.hit(1);
    fault.release();
    proxy.cut();
    await reading;
    const keys = batches.flatMap((batch) => batch.events.map((event) => event.kv.key));
    assert.equal(keys.length, 13);
    assert.equal(new Set(keys).size, 13);
    for (const revision of written) {
      const holding = batches.filter((batch) =>
        batch.events.some((event) => event.kv.modRevision === revision),
      );
      assert.equal(holding.length, 1, 'a revision is not torn apart');
    }
    await scene.direct.kv.delete({ prefix: 'parts/' });
  });

  test('random cuts, resets, pauses and slow links: every event once and in order, to every watch', async (t) => {
    const random = new Random(t);
    const scene = new Scene(t, etcd);
    const proxies = [await scene.proxy(), await scene.proxy()];
    const client = scene.client(proxies);
    const writer = writeOn(scene.direct, 'random-watch');
    await until(() => writer.count > 100);
    const end: { revision?: bigint } = {};
    const start = (await scene.direct.kv.get('random-watch'))?.modRevision ?? 0n;
    const watches = Array.from({ length: 5 }, (_, at) =>
      client.watch('random-watch', {
        bufferSize: at === 0 ? 1 : 1024,
        startRevision: start - BigInt(at * 10),
      }),
    );
    const reading = watches.map((watch) => readTo(watch, () => end.revision));
    for (let round = 0; round < 30; round++) {
      const proxy = random.pick(proxies);
      const strike = random.below(6);
      if (strike === 0) proxy.cut();
      else if (strike === 1) proxy.onCall(RPC.watch, 'dropReply', { then: random.pick(['cut', 'reset']) });
      else if (strike === 2)
        proxy.onCall(RPC.watch, 'fail', { status: { code: 14, message: 'etcdserver: no leader' } });
      else if (strike === 3) proxy.pause(random.pick(['both', 'toClient', 'toServer']));
      else if (strike === 4) proxy.delay(random.below(40));
      else {
        await proxy.refuse();
        proxy.cut();
      }
      const enough = writer.count + 20;
      await until(() => writer.count >= enough);
      if (random.below(2) === 0) proxy.cut();
      await proxy.heal();
    }
    const written = await writer.stop();
    const { revision } = await scene.direct.kv.put('random-watch', 'end');
    end.revision = revision;
    // For those that have seen it before it was known to be the last.
    await scene.direct.kv.put('random-watch', 'after the end');
    const all = [...written, revision];
    for (const [at, seen] of (await Promise.all(reading)).entries()) {
      assertSame(
        seen,
        all.filter((each) => each >= start - BigInt(at * 10)),
      );
    }
    await scene.direct.kv.delete('random-watch');
  });

  test('a watch that is cancelled while its stream is down is cancelled, and costs the others nothing', async (t) => {
    const scene = new Scene(t, etcd);
    const proxy = await scene.proxy();
    const client = scene.client(proxy);
    const [one, two] = [client.watch('cancel/a'), client.watch('cancel/b')];
    await Promise.all([one.created, two.created]);
    await proxy.refuse();
    proxy.cut();
    one.close();
    assert.deepEqual(await one.next(), { done: true, value: undefined });
    const stop = new AbortController();
    const three = client.watch('cancel/a', { signal: stop.signal });
    stop.abort(new Error('enough'));
    await assert.rejects(three.next(), /enough/);
    await proxy.accept();
    await scene.direct.kv.put('cancel/b', 'x');
    assert.equal((await nextOf(two)).events[0]?.kv.string(), 'x');
    two.close();
    // With the last watch the stream ends: nothing is opened for nobody.
    const accepted = proxy.accepted;
    proxy.cut();
    await scene.client(proxy).kv.get('x');
    assert.equal(proxy.accepted, accepted + 1);
    await scene.direct.kv.delete({ prefix: 'cancel/' });
  });

  test('a half-open connection is noticed, and the watch moves to the other endpoint', async (t) => {
    const scene = new Scene(t, etcd);
    const proxies = [await scene.proxy(), await scene.proxy()];
    const client = scene.client(proxies);
    const watch = client.watch('half');
    await watch.created;
    const [at, other] = proxies[0]?.replies(RPC.watch) === 1 ? [0, 1] : [1, 0];
    proxies[at]?.drop();
    const { revision } = await scene.direct.kv.put('half', 'x');
    assert.equal((await nextOf(watch)).events[0]?.kv.modRevision, revision);
    assert.ok((proxies[other]?.replies(RPC.watch) ?? 0) >= 2);
    watch.close();
    await scene.direct.kv.delete('half');
  });

  test('a watch of the future that is cut does not begin before its revision', async (t) => {
    const scene = new Scene(t, etcd);
    const proxy = await scene.proxy();
    const client = scene.client(proxy);
    const { revision } = await scene.direct.kv.put('future', '0');
    const watch = client.watch('future', { startRevision: revision + 1000n });
    await watch.created;
    proxy.cut();
    let reached = revision;
    while (reached < revision + 1001n) reached = (await scene.direct.kv.put('future', 'x')).revision;
    const batch = await nextOf(watch);
    assert.ok((batch.events[0]?.kv.modRevision ?? 0n) >= revision + 1000n);
    watch.close();
    await scene.direct.kv.delete('future');
  });
});

describe('watches under faults and compaction', () => {
  const etcd = etcdOfSuite();

  test('compaction in the middle of catching up: a watch that relists misses nothing that is still there', async (t) => {
    const scene = new Scene(t, etcd);
    const proxy = await scene.proxy();
    const { revision: startRevision } = await scene.direct.kv.put('mid/0', '');
    for (let at = 1; at < 2500; at += 50) {
      await Promise.all(
        Array.from({ length: 50 }, (_, n) => scene.direct.kv.put(`mid/${(at + n) % 100}`, 'x'.repeat(300))),
      );
    }
    let batches = 0;
    const fault = proxy.onCall(RPC.watch, 'holdReply', {
      where: (message) => replyOf(message).events.length > 0 && ++batches === 2,
    });
    const client = scene.client(proxy);
    const state = new Map<string, bigint>();
    let highest = 0n;
    let snapshots = 0;
    const reading = (async () => {
      for await (const { events, snapshot } of client.watch(
        { prefix: 'mid/' },
        { onCompacted: 'relist', startRevision },
      )) {
        if (snapshot !== undefined) {
          snapshots += 1;
          state.clear();
          for (const kv of snapshot) state.set(kv.key, kv.modRevision);
        }
        for (const { kv, type } of events) {
          assert.ok(kv.modRevision >= highest, 'events come in order');
          highest = kv.modRevision;
          if (type === 'put') state.set(kv.key, kv.modRevision);
          else state.delete(kv.key);
        }
        if (state.get('mid/end') !== undefined) break;
      }
    })();
    await fault.hit();
    await proxy.refuse();
    proxy.cut();
    fault.release();
    await scene.direct.kv.delete('mid/7');
    const { revision } = await scene.direct.kv.put('mid/8', 'after');
    await scene.direct.kv.compact(revision);
    // The first read of the snapshot fails, too.
    proxy.onCall(RPC.range, 'dropReply', { then: 'cut', times: 2 });
    await proxy.accept();
    await until(() => snapshots > 0);
    const reached = (await scene.direct.kv.put('mid/end', '')).revision;
    await reading;
    const { kvs } = await scene.direct.kv.range({ prefix: 'mid/' });
    assert.deepEqual([...state].sort(), kvs.map((kv) => [kv.key, kv.modRevision]).sort());
    assert.equal(state.get('mid/end'), reached);
    assert.equal(snapshots, 1);
    await scene.direct.kv.delete({ prefix: 'mid/' });
  });
});
