// A mirror copies a prefix at one revision, follows it revision by revision, and goes on wherever it was stopped.
import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';

import { Client, type KeyValue, type Mirror, type MirrorOptions, op, type WatchEvent } from 'conclave';
import { EmbeddedServer } from 'conclave/embedded';
import { FaultProxy } from 'conclave/testing';

import { type Backend, onBackends } from '../support/backends.js';
import { until } from '../support/until.js';
import { code } from '../support/world.js';

const TXN = '/etcdserverpb.KV/Txn';
const RANGE = '/etcdserverpb.KV/Range';
const STOPPED = new Error('stopped');

/** A mirror under way. */
interface Running {
  /** Stops it, and waits until it has. */
  stop(): Promise<void>;
  /** What it ended with. */
  readonly ended: Promise<unknown>;
}

function start(mirror: Mirror): Running {
  const stop = new AbortController();
  const ended = mirror.run({ signal: stop.signal }).catch((error: unknown) => error);
  return {
    ended,
    stop: async () => {
      stop.abort(STOPPED);
      assert.equal(await ended, STOPPED);
    },
  };
}

const pairsOf = (kvs: readonly KeyValue[], prefix: string): string[] =>
  kvs.map((kv) => `${kv.key.slice(prefix.length)}=${kv.string()}`);

/** What a client has below a prefix, without it. */
async function below(client: Client, prefix: string): Promise<string[]> {
  return pairsOf((await client.kv.range({ prefix })).kvs, prefix);
}

/** Resolves once the target has got to a revision of the source. */
async function reached(mirror: Mirror, revision: bigint): Promise<void> {
  await until(async () => ((await mirror.progress())?.revision ?? 0n) >= revision);
}

/** A client whose calls a proxy sees, until the test ends. */
async function throughProxy(t: TestContext, backend: Backend) {
  const proxy = await FaultProxy.start(backend.endpoints[0] ?? '', { grpc: true });
  const to = new Client({ endpoints: proxy.endpoint });
  t.after(async () => {
    await to.close();
    await proxy.close();
  });
  return { proxy, to };
}

/** A source and a target of a server, which are empty again at the end of the test. */
function sides(t: TestContext, backend: Backend) {
  const client = backend.client();
  t.after(() => client.kv.delete({ prefix: '' }));
  const options = (some: Partial<MirrorOptions> = {}): MirrorOptions => ({
    prefix: 'to/',
    to: client,
    ...some,
  });
  return { client, kv: client.kv, mirror: client.mirror({ prefix: 'from/' }, options()), options };
}

/** Writes so many keys, on more than one page. */
async function fill(client: Client, count: number): Promise<void> {
  for (let from = 0; from < count; from += 100)
    await client.kv.txn({
      then: Array.from({ length: 100 }, (_, at) => op.put(`from/${from + at}`, String(at))),
    });
}

/** What happens below `to/` until the returned function is called: the events of each revision. */
function recorded(client: Client, t: TestContext): () => string[][] {
  const watcher = client.watch({ prefix: 'to/' });
  t.after(() => watcher.close());
  const all: string[][] = [];
  void (async () => {
    let last = 0n;
    const text = ({ kv, type }: WatchEvent) => `${type} ${kv.key.slice(3)} ${kv.string()}`.trim();
    for await (const { events } of watcher) {
      for (const event of events) {
        if (event.kv.modRevision === last) all.at(-1)?.push(text(event));
        else all.push([text(event)]);
        last = event.kv.modRevision;
      }
    }
  })();
  return () => all;
}

onBackends(['embedded', 'etcd'], 'a mirror', (backend) => {
  test('copies what is there, deletes what is not, and follows revision by revision', async (t) => {
    const { client, kv, mirror } = sides(t, backend);
    await kv.put('from/a', '1');
    await kv.put('from/b', '');
    await kv.put('to/b', 'old');
    await kv.put('to/c', 'to go');
    await kv.put('two', 'stays');
    assert.equal(await mirror.progress(), undefined);
    const running = start(mirror);
    await until(async () => (await mirror.progress())?.phase === 'following');
    assert.deepEqual(await below(client, 'to/'), ['a=1', 'b=']);
    const events = recorded(client, t);
    await kv.txn({ then: [op.put('from/x', '1'), op.put('elsewhere', '1'), op.delete('from/a')] });
    await kv.put('from/x', '2');
    const { revision } = await kv.delete({ prefix: 'from/' });
    await reached(mirror, revision);
    await until(() => events().length === 3);
    assert.deepEqual(
      events().map((each) => each.sort()),
      [['delete a', 'put x 1'], ['put x 2'], ['delete b', 'delete x']],
    );
    assert.equal((await kv.get('two'))?.string(), 'stays');
    await running.stop();
  });

  test('goes on where it was stopped, and does nothing twice', async (t) => {
    const { client, kv, mirror } = sides(t, backend);
    await fill(client, 300);
    const first = start(mirror);
    await until(async () => (await mirror.progress())?.phase === 'following');
    await first.stop();
    const before = await mirror.progress();
    const events = recorded(client, t);
    await kv.put('from/a', '1');
    await kv.put('from/a', '2');
    const { revision } = await kv.delete('from/7');
    const second = start(client.mirror({ prefix: 'from/' }, { prefix: 'to/', to: client }));
    await reached(mirror, revision);
    await second.stop();
    assert.ok(before !== undefined && before.revision < revision);
    await until(() => events().length >= 3);
    assert.deepEqual(events(), [['put a 1'], ['put a 2'], ['delete 7']]);
    const report = await mirror.verify();
    assert.deepEqual([report.isSame, report.revision, report.keys], [true, revision, 300]);
  });

  test('copies anew when history was compacted meanwhile, and touches only what differs', async (t) => {
    const { client, kv, mirror } = sides(t, backend);
    for (const key of ['a', 'b', 'c']) await kv.put(`from/${key}`, '1');
    const first = start(mirror);
    await until(async () => (await mirror.progress())?.phase === 'following');
    await first.stop();
    await kv.delete('from/a');
    await kv.put('from/b', '2');
    await kv.put('from/d', '');
    const events = recorded(client, t);
    const { revision } = await kv.put('from/d', '1');
    await kv.compact(revision);
    await assert.rejects(mirror.verify(), code('COMPACTED'));
    const second = start(mirror);
    await reached(mirror, revision);
    await until(() => events().length > 0);
    assert.deepEqual(events(), [['delete a', 'put b 2', 'put d 1']]);
    assert.ok((await mirror.verify()).isSame);
    await second.stop();
  });

  test('writes a revision that has more than a transaction takes in parts, and goes on within it', async (t) => {
    const { client, kv, options } = sides(t, backend);
    const { proxy, to } = await throughProxy(t, backend);
    const mirror = client.mirror({ prefix: 'from/' }, options({ maxTxnOps: 4, to }));
    const first = start(mirror);
    await until(async () => (await mirror.progress())?.phase === 'following');
    const events = recorded(client, t);
    const keys = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'];
    // The third transaction does not get through.
    let sent = 0;
    const fault = proxy.onCall(TXN, 'dropRequest', { times: 1000, where: () => ++sent > 2 });
    const { revision } = await kv.txn({ then: keys.map((key) => op.put(`from/${key}`, key)) });
    await fault.hit();
    const halfway = await mirror.progress();
    assert.ok(halfway !== undefined && halfway.isWithinRevision && halfway.revision < revision);
    await first.stop();
    await proxy.heal();
    fault.release();
    const second = start(client.mirror({ prefix: 'from/' }, options({ maxTxnOps: 100, to })));
    await reached(mirror, revision);
    await second.stop();
    await until(() => events().length === 3);
    assert.deepEqual(
      events().map(({ length }) => length),
      [3, 3, 2],
    );
    assert.deepEqual(
      events().flat(),
      keys.map((key) => `put ${key} ${key}`),
    );
    assert.deepEqual(
      await below(client, 'to/'),
      keys.map((key) => `${key}=${key}`),
    );
  });

  test('loses and doubles nothing when answers are lost and copies of its requests arrive late', async (t) => {
    const { client, kv, options } = sides(t, backend);
    const { proxy, to } = await throughProxy(t, backend);
    const mirror = client.mirror({ prefix: 'from/' }, options({ maxTxnOps: 3, to }));
    for (let at = 0; at < 20; at++) await kv.put(`from/${at}`, String(at));
    const copies = proxy.lateCopies({ seed: 1, withinMs: 30 });
    for (const action of ['dropReply', 'dropRequest'] as const) proxy.onCall(TXN, action);
    proxy.onCall(RANGE, 'dropReply');
    const running = start(mirror);
    await until(async () => (await mirror.progress())?.phase === 'following');
    const events = recorded(client, t);
    const sent: string[] = [];
    let last = 0n;
    for (let at = 0; at < 12; at++) {
      if (at % 3 === 0) proxy.onCall(TXN, at % 2 === 0 ? 'dropReply' : 'dropRequest');
      const key = `k${at % 4}`;
      last = (await kv.put(`from/${key}`, String(at))).revision;
      sent.push(`put ${key} ${at}`);
    }
    await reached(mirror, last);
    await copies.settled();
    await until(() => events().length >= sent.length);
    assert.deepEqual(
      events(),
      sent.map((each) => [each]),
    );
    assert.ok((await mirror.verify()).isSame);
    await running.stop();
  });

  test('does each step once, however many run', async (t) => {
    const { client, kv, mirror, options } = sides(t, backend);
    await fill(client, 300);
    const others = [1, 2].map(() => backend.client().mirror({ prefix: 'from/' }, options({ maxTxnOps: 20 })));
    const running = [mirror, ...others].map(start);
    await until(async () => (await mirror.progress())?.phase === 'following');
    const events = recorded(client, t);
    const sent: string[] = [];
    let last = 0n;
    for (let at = 0; at < 60; at++) {
      last = (await kv.put('from/x', String(at))).revision;
      sent.push(`put x ${at}`);
    }
    await reached(mirror, last);
    await until(() => events().length >= sent.length);
    assert.deepEqual(
      events(),
      sent.map((each) => [each]),
    );
    const report = await mirror.verify();
    assert.deepEqual([report.isSame, report.keys], [true, 301]);
    await Promise.all(running.map((each) => each.stop()));
  });

  test('tells what differs, and where', async (t) => {
    const { client, kv, mirror } = sides(t, backend);
    for (const key of ['a', 'b', 'c', 'd']) await kv.put(`from/${key}`, '1');
    const running = start(mirror);
    await until(async () => (await mirror.progress())?.phase === 'following');
    await running.stop();
    await kv.delete('to/a');
    await kv.put('to/b', '2');
    await kv.put('to/x', '1');
    const { different, differences, isSame } = await mirror.verify();
    assert.deepEqual([isSame, different], [false, 3]);
    assert.deepEqual(
      differences.map(({ is, key }) => `${key} ${is}`),
      ['from/a missing', 'from/b different', 'from/x extra'],
    );
    const short = await mirror.verify({ limit: 1 });
    assert.deepEqual([short.different, short.differences.length], [3, 1]);
    // It is not its task to mend that: a new copy does, once its progress is gone.
    await kv.delete({ prefix: '.conclave/mirror/' });
    const again = start(client.mirror({ prefix: 'from/' }, { prefix: 'to/', to: client }));
    await until(async () => (await mirror.progress())?.phase === 'following');
    assert.ok((await mirror.verify()).isSame);
    await again.stop();
  });

  test('waits with comparing until a copy is there, and compares with what is there where nothing has changed for long', async (t) => {
    const { kv, mirror } = sides(t, backend);
    await kv.put('from/a', '1');
    await assert.rejects(mirror.verify({ timeoutMs: 50 }), code('TIMEOUT'));
    const running = start(mirror);
    assert.ok((await mirror.verify()).isSame);
    const { revision } = await kv.put('elsewhere', '1');
    await kv.compact(revision);
    assert.ok((await mirror.verify()).isSame);
    await running.stop();
  });

  test('copies whole keyspaces of namespaces, keys that are no text, and leaves its own key alone', async (t) => {
    const { client } = sides(t, backend);
    const [one, other] = [client.namespace('one/'), client.namespace('other/')];
    const odd = Buffer.from([0xff, 0xfe, 0]);
    await one.kv.put(odd, odd);
    await one.kv.put('.conclave/mirror/', 'of another mirror');
    await other.kv.put('left', 'x');
    const mirror = one.mirror({ prefix: '' }, { to: other });
    const running = start(mirror);
    const report = await mirror.verify();
    assert.deepEqual([report.isSame, report.keys], [true, 1]);
    assert.ok((await other.kv.get(odd))?.value.equals(odd));
    assert.equal(await other.kv.get('left'), undefined);
    await running.stop();
  });

  test('refuses what is no mirror, another mirror’s progress, and to copy what it has copied', async (t) => {
    const { client, kv, mirror, options } = sides(t, backend);
    assert.throws(() => client.mirror({ prefix: 'a/' }, { prefix: 'a/b/', to: client }), RangeError);
    assert.throws(() => client.mirror({ prefix: 'a/' }, { to: client }), RangeError);
    assert.throws(() => client.mirror({ prefix: 'a/' }, options({ progressKey: 'a/at' })), RangeError);
    assert.throws(() => client.mirror({ prefix: 'a/' }, options({ maxTxnOps: 1 })), RangeError);
    assert.throws(() => client.mirror({ prefix: 'a/' }, {} as MirrorOptions), TypeError);
    await kv.put('.conclave/mirror/to/', 'what is this?');
    await assert.rejects(mirror.run(), code('MISMATCH'));
    await kv.delete('.conclave/mirror/to/');
    const running = start(mirror);
    await until(async () => (await mirror.progress())?.phase === 'following');
    await running.stop();
    await assert.rejects(client.mirror({ prefix: 'b/' }, options()).run(), code('MISMATCH'));
    const closing = backend.client();
    const ended = closing.mirror({ prefix: 'from/' }, options()).run();
    await closing.close();
    await assert.rejects(ended, code('CLOSED'));
  });
});

describe('a mirror of a source whose history goes back', () => {
  test('copies anew, also where it had stopped, and refuses to fight over a target', async (t) => {
    let source = await EmbeddedServer.start({ port: 0 });
    const port = Number(new URL(source.endpoint).port);
    const target = await EmbeddedServer.start({ port: 0 });
    const client = new Client({ endpoints: source.endpoint });
    const to = new Client({ endpoints: target.endpoint });
    t.after(async () => {
      await Promise.all([client.close(), to.close()]);
      await Promise.all([source.close(), target.close()]);
    });
    const comeBack = async (): Promise<void> => {
      await source.close();
      source = await EmbeddedServer.start({ port });
    };
    const mirror = client.mirror({ prefix: 'a/' }, { to });
    for (let at = 0; at < 5; at++) await client.kv.put(`a/${at}`, 'old');
    const running = start(mirror);
    assert.ok((await mirror.verify()).isSame);
    await comeBack();
    await client.kv.put('a/1', 'new');
    await until(async () => (await below(to, 'a/')).join() === '1=new');
    await running.stop();
    await comeBack();
    await client.kv.put('a/2', 'newer');
    const again = start(mirror);
    await until(async () => (await below(to, 'a/')).join() === '2=newer');
    assert.ok((await mirror.verify()).isSame);

    // Another source takes the target over: one of them must give in.
    const stranger = await EmbeddedServer.start({ port: 0 });
    const third = new Client({ endpoints: stranger.endpoint });
    t.after(async () => {
      await third.close();
      await stranger.close();
    });
    await third.kv.put('a/3', 'other');
    const other = start(third.mirror({ prefix: 'a/' }, { to }));
    await until(async () => (await below(to, 'a/')).join() === '3=other');
    await client.kv.put('a/2', 'newest');
    assert.ok(code('MISMATCH')(await again.ended));
    assert.deepEqual(await below(to, 'a/'), ['3=other']);
    await other.stop();
  });

  test('goes on from what the target has, when that was lost', async (t) => {
    const source = await EmbeddedServer.start({ port: 0 });
    let target = await EmbeddedServer.start({ port: 0 });
    const port = Number(new URL(target.endpoint).port);
    const client = new Client({ endpoints: source.endpoint });
    const to = new Client({ endpoints: target.endpoint });
    t.after(async () => {
      await Promise.all([client.close(), to.close()]);
      await Promise.all([source.close(), target.close()]);
    });
    await client.kv.put('a/1', 'x');
    const running = start(client.mirror({ prefix: 'a/' }, { to }));
    await until(async () => (await below(to, 'a/')).length === 1);
    await target.close();
    target = await EmbeddedServer.start({ port });
    await client.kv.put('a/2', 'y');
    await until(async () => (await below(to, 'a/')).join() === '1=x,2=y');
    await running.stop();
  });
});
