// History that goes back (src/etcd/transport/history.ts): etcd comes back empty, from a copy of earlier data, or another
// cluster answers at the same address.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { cp, rm } from 'node:fs/promises';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { describe, test, type TestContext } from 'node:test';

import {
  Barrier,
  Client,
  Election,
  hasCode,
  JobQueue,
  Mutex,
  RWLock,
  Session,
  type WatchBatch,
} from 'conclave';
import { EmbeddedServer } from 'conclave/embedded';
import { FaultProxy, startEtcd } from 'conclave/testing';
import { until } from '../support/until.js';

/** An etcd that can come back with another history. */
interface Returning {
  readonly endpoint: string;
  /** What is there from now on is what it is now. Restarts. */
  keep?: () => Promise<void>;
  /** Comes back: with what was kept, if anything was. */
  comeBack(): Promise<void>;
}

const KINDS: Readonly<Record<string, (t: TestContext) => Promise<Returning>>> = {
  'another cluster': async (t) => {
    const clusters = await Promise.all([startEtcd(), startEtcd()]);
    t.after(() => Promise.all(clusters.map((cluster) => cluster.close())));
    const sockets = new Set<Socket>();
    let target = Number(new URL(clusters[0].endpoint).port);
    const server = createServer((from) => {
      const to = connect(target, '127.0.0.1');
      for (const [one, other] of [
        [from, to],
        [to, from],
      ] as const) {
        sockets.add(one);
        one.on('error', () => other.destroy());
        one.on('close', () => {
          other.destroy();
          sockets.delete(one);
        });
        one.pipe(other);
      }
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    t.after(async () => {
      server.close();
      for (const socket of sockets) socket.destroy();
      await once(server, 'close');
    });
    return {
      comeBack: () => {
        target = Number(new URL(clusters[1].endpoint).port);
        for (const socket of sockets) socket.destroy();
        return Promise.resolve();
      },
      endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    };
  },
  'the embedded server, empty': async (t) => {
    let server = await EmbeddedServer.start();
    t.after(() => server.close());
    const port = Number(new URL(server.endpoint).port);
    return {
      comeBack: async () => {
        await server.close();
        server = await EmbeddedServer.start({ port });
      },
      endpoint: server.endpoint,
    };
  },
  'etcd, empty': async (t) => {
    const { endpoint, member } = await oneMember(t);
    return {
      comeBack: async () => {
        await member.kill();
        await rm(member.dataDir, { force: true, recursive: true });
        await member.restart();
      },
      endpoint,
    };
  },
  'etcd, with earlier data': earlier,
};

async function oneMember(t: TestContext) {
  const cluster = await startEtcd();
  t.after(() => cluster.close());
  const [member] = cluster.members;
  assert.ok(member !== undefined);
  return { endpoint: cluster.endpoint, member };
}

async function earlier(t: TestContext): Promise<Required<Returning>> {
  const { endpoint, member } = await oneMember(t);
  const copy = `${member.dataDir}.copy`;
  const keep = async (): Promise<void> => {
    await member.stop();
    await rm(copy, { force: true, recursive: true });
    await cp(member.dataDir, copy, { recursive: true });
    await member.restart();
  };
  await keep();
  return {
    comeBack: async () => {
      await member.kill();
      await rm(member.dataDir, { recursive: true });
      await cp(copy, member.dataDir, { recursive: true });
      await member.restart();
    },
    endpoint,
    keep,
  };
}

/** A client, closed when the test ends. */
function clientOf(t: TestContext, { endpoint }: Returning): Client {
  const client = new Client({ endpoints: [endpoint] });
  t.after(() => client.close());
  return client;
}

/** Collects what a loop brings, and why it ended. */
function collect<T>(items: AsyncIterable<T>): { readonly items: T[]; readonly end: Promise<unknown> } {
  const found: T[] = [];
  const end = (async (): Promise<unknown> => {
    try {
      for await (const item of items) found.push(item);
      return undefined;
    } catch (error) {
      return error;
    }
  })();
  return { end, items: found };
}

/** Raises the revision, so that the history to come is behind this one. */
async function grow(client: Client): Promise<void> {
  for (let at = 0; at < 50; at++) await client.kv.put('grown', String(at));
}

for (const [kind, start] of Object.entries(KINDS)) {
  describe(`history that goes back: ${kind}`, () => {
    test('a watch says so or reads anew, and follows what is there', async (t) => {
      const etcd = await start(t);
      const client = clientOf(t, etcd);
      await client.kv.put('w/old', '');
      await grow(client);
      const stop = new AbortController();
      const plain = collect(client.watch({ prefix: 'w/' }, { signal: stop.signal }));
      const anew = client.watch({ prefix: 'w/' }, { onCompacted: 'relist', signal: stop.signal });
      const relisted = collect<WatchBatch>(anew);
      await anew.created;
      await client.kv.put('w/first', '');
      await until(() => plain.items.length === 1 && relisted.items.length === 1);
      await etcd.comeBack();
      const error = await plain.end;
      assert.ok(hasCode(error, 'HISTORY_REVERTED'), String(error));
      assert.equal(error.key, 'w/');
      await until(() => relisted.items.length === 2);
      const [, { snapshot } = { snapshot: undefined }] = relisted.items;
      assert.deepEqual(
        snapshot?.map((kv) => kv.key),
        [],
      );
      await client.kv.put('w/next', '');
      await until(() => relisted.items.length === 3);
      assert.deepEqual(
        relisted.items[2]?.events.map(({ kv }) => kv.key),
        ['w/next'],
      );
      stop.abort(new Error('enough'));
      await relisted.end;
    });

    test('a cache has what is there, and tells what that changes', async (t) => {
      const etcd = await start(t);
      const client = clientOf(t, etcd);
      await client.kv.put('c/old', 'old');
      await grow(client);
      await using cache = client.cache({ prefix: 'c/' });
      const changes = collect(cache.changes());
      assert.equal((await cache.get('c/old'))?.string(), 'old');
      const before = cache.revision;
      await etcd.comeBack();
      // A read that is linearizable finds nothing of the old history, whoever notices first that it is gone.
      assert.deepEqual((await cache.list({ timeoutMs: 30_000 })).kvs, []);
      assert.ok(cache.revision < before);
      await client.kv.put('c/next', 'next');
      assert.equal((await cache.get('c/next'))?.string(), 'next');
      assert.equal((await cache.list()).kvs.length, 1);
      cache.close();
      assert.ok(hasCode(await changes.end, 'CLOSED'));
      const told = changes.items.map(({ events, relisted }) =>
        [relisted ? 'all' : 'one', ...events.map(({ kv, type }) => `${type} ${kv.key}`)].join(' '),
      );
      assert.deepEqual(told, ['all put c/old', 'all delete c/old', 'one put c/next']);
    });

    test('sessions are lost, observers see what is there, and others lock and lead through the same client', async (t) => {
      const etcd = await start(t);
      const client = clientOf(t, etcd);
      await grow(client);
      const old = await Session.open(client, { ttlSeconds: 600 });
      const lock = await new Mutex(old, 'm').lock();
      await new Election(old, 'e').campaign('old');
      const waiting = assert.rejects(new Mutex(old, 'other').run(() => new Mutex(old, 'm').lock()));
      const stop = new AbortController();
      const seen = collect(new Election(old, 'e').observe({ signal: stop.signal }));
      await until(() => seen.items.length === 1);
      await etcd.comeBack();
      await until(() => lock.signal.aborted);
      await until(() => old.signal.aborted);
      await waiting;
      const session = await Session.open(client, { ttlSeconds: 600 });
      await (await new Mutex(session, 'm').lock({ timeoutMs: 10_000 })).unlock();
      await (await new RWLock(session, 'rw').writeLock({ timeoutMs: 10_000 })).unlock();
      const leader = await new Election(session, 'e').campaign('new', { timeoutMs: 10_000 });
      await until(() => seen.items.at(-1)?.string() === 'new');
      await leader.resign();
      await until(() => seen.items.at(-1) === undefined);
      stop.abort(new Error('enough'));
      await seen.end;
      const queue = new JobQueue<number>(session, 'q');
      const done: number[] = [];
      queue.process((job) => void done.push(job.data));
      await queue.push(1);
      await queue.idle({ timeoutMs: 10_000 });
      assert.deepEqual(done, [1]);
      await queue.close();
      await session.close();
    });
  });
}

describe('history that goes back, and grows past what was seen before its watches are back', () => {
  test('is noticed by the answers to other calls', async (t) => {
    const { endpoint, member } = await oneMember(t);
    const proxy = await FaultProxy.start(endpoint, { grpc: true });
    t.after(() => proxy.close());
    const client = clientOf(t, { comeBack: () => Promise.resolve(), endpoint: proxy.endpoint });
    const sessions = await Promise.all([1, 2].map(() => Session.open(client, { ttlSeconds: 600 })));
    const [one, two] = sessions;
    assert.ok(one && two);
    const lock = await new Mutex(one, 'm').lock();
    const waiting = assert.rejects(new Mutex(two, 'm').lock());
    const stop = new AbortController();
    const plain = collect(client.watch({ prefix: 'w/' }, { signal: stop.signal }));
    let reason: unknown;
    void plain.end.then((error) => (reason = error));
    const relisted = collect<WatchBatch>(
      client.watch({ prefix: 'w/' }, { onCompacted: 'relist', signal: stop.signal }),
    );
    await client.kv.put('w/first', '');
    await until(() => plain.items.length === 1 && relisted.items.length === 1);
    const away = proxy.onCall('/etcdserverpb.Watch/Watch', 'fail', { times: Infinity });
    await member.kill();
    await rm(member.dataDir, { force: true, recursive: true });
    await member.restart();
    // The first of them tells; then history is longer than it was.
    await grow(client);
    await until(() => reason !== undefined);
    assert.ok(hasCode(reason, 'HISTORY_REVERTED'), String(reason));
    away.release();
    await until(() => relisted.items.length === 2);
    assert.deepEqual(relisted.items[1]?.snapshot, []);
    await until(() => lock.signal.aborted);
    await waiting;
    const session = await Session.open(client, { ttlSeconds: 600 });
    await (await new Mutex(session, 'm').lock({ timeoutMs: 10_000 })).unlock();
    await client.kv.put('w/next', '');
    await until(() => relisted.items.length === 3);
    stop.abort(new Error('enough'));
    await relisted.end;
    await session.close();
  });
});

describe('history that goes back: what was there then goes on', () => {
  test('holds, waits and workers whose keys are in it; what came after is lost', async (t) => {
    const etcd = await earlier(t);
    const client = clientOf(t, etcd);
    const session = await Session.open(client, { ttlSeconds: 600 });
    const other = await Session.open(client, { ttlSeconds: 600 });
    const lock = await new Mutex(session, 'm').lock();
    const barrier = new Barrier(session, 'b');
    const held = await barrier.hold();
    const early = new Mutex(other, 'm').lock();
    const queue = new JobQueue<number>(session, 'q');
    const done: number[] = [];
    queue.process((job) => void done.push(job.data));
    await queue.push(1);
    await until(() => done.length === 1);
    await until(async () => (await client.kv.range({ prefix: 'm/' })).kvs.length === 2);
    await queue.idle({ timeoutMs: 10_000 });
    await etcd.keep();
    await grow(client);
    const late = await new Mutex(session, 'late').lock();
    const open = new Barrier(other, 'b').wait({ timeoutMs: 60_000 });
    await etcd.comeBack();
    await until(() => late.signal.aborted);
    assert.ok(hasCode(late.signal.reason, 'TICKET_LOST'), String(late.signal.reason));
    assert.ok(session.alive && lock.held && held.held);
    assert.ok((await lock.txn({ then: [] })).succeeded);
    await lock.unlock();
    await (await early).unlock();
    await held.release();
    await open;
    await queue.push(2);
    await queue.idle({ timeoutMs: 20_000 });
    await until(() => done.includes(2));
    await queue.close();
    await Promise.all([session.close(), other.close()]);
  });
});
