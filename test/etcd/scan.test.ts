// `kv.scan` of many keys: one page, then one stream where the member has RangeStream, else pages; whatever is cut.
import assert from 'node:assert/strict';
import { beforeEach, describe, test, type TestContext } from 'node:test';
import { type sendUnaryData, type ServerUnaryCall, status } from '@grpc/grpc-js';
import { Client, type KeyValue, op } from 'conclave';
import { FaultProxy, ManualClock } from 'conclave/testing';
import type {
  RangeRequest,
  RangeResponseInput,
  RangeStreamResponseInput,
} from '#conclave/proto/messages.gen.js';
import { exactly, withCode } from '../contract/support/rejections.js';
import { type Backend, onEachBackend } from '../support/backends.js';
import { type Answers, startFakeEtcd } from '../support/fake-etcd.js';
import { until } from '../support/until.js';

const RANGE = '/etcdserverpb.KV/Range';
const RANGE_STREAM = '/etcdserverpb.KV/RangeStream';

async function gather(scan: AsyncIterable<KeyValue>): Promise<KeyValue[]> {
  const all: KeyValue[] = [];
  for await (const kv of scan) all.push(kv);
  return all;
}

/** Puts `count` keys, `s/00000` on. */
async function fill(client: Client, count: number, value = 'before'): Promise<string[]> {
  const keys = Array.from({ length: count }, (_, at) => `s/${String(at).padStart(5, '0')}`);
  for (let at = 0; at < count; at += 128)
    await client.kv.txn({ then: keys.slice(at, at + 128).map((key) => op.put(key, value)) });
  return keys;
}

async function proxied(t: TestContext, backend: Backend): Promise<{ client: Client; proxy: FaultProxy }> {
  const proxy = await FaultProxy.start(backend.endpoints[0] ?? '', { grpc: true });
  t.after(() => proxy.close());
  const client = new Client({ endpoints: proxy.endpoint });
  t.after(() => client.close());
  return { client, proxy };
}

onEachBackend('a scan of many keys', (backend) => {
  const hasStream = backend.kind === 'embedded';
  let direct: Client;
  beforeEach(() => {
    direct = backend.client();
  });

  test('is of one revision, whatever is written meanwhile', async () => {
    const keys = await fill(direct, 2100);
    const seen: string[] = [];
    for await (const kv of direct.kv.scan({ prefix: 's/' })) {
      assert.equal(kv.string(), 'before');
      if (seen.push(kv.key) % 900 !== 1) continue;
      await direct.kv.txn({
        then: [op.put('s/02050', 'after'), op.put('s/02050x', 'after'), op.delete('s/02060')],
      });
    }
    assert.deepEqual(seen, keys);
    await direct.kv.delete({ prefix: '' });
  });

  test('takes one stream where there is one; a member without is asked for it once per connection', async (t) => {
    const { client, proxy } = await proxied(t, backend);
    await fill(direct, 2100);
    const scan = async (): Promise<number> => (await gather(client.kv.scan({ prefix: 's/' }))).length;
    for (const round of [1, 2]) {
      assert.equal(await scan(), 2100);
      const counts = [proxy.requests(RANGE), proxy.requests(RANGE_STREAM)];
      assert.deepEqual(counts, hasStream ? [round, round] : [3 * round, 1]);
    }
    const named = client.kv.scan({ prefix: 's/' }, { endpoint: proxy.endpoint, pageSize: 2000 });
    assert.equal((await gather(named)).length, 2100);
    assert.equal(proxy.requests(RANGE_STREAM), hasStream ? 2 : 1);
    proxy.cut();
    await proxy.waitFor(({ connections }) => connections === 0);
    await client.kv.get('s/');
    assert.equal(await scan(), 2100);
    assert.equal(proxy.requests(RANGE_STREAM), hasStream ? 3 : 2);
    await direct.kv.delete({ prefix: '' });
  });

  test('goes on at the same revision behind the last key that came, when its connection is cut', async (t) => {
    const { client, proxy } = await proxied(t, backend);
    const keys = await fill(direct, 2100, 'v'.repeat(4000));
    const seen: string[] = [];
    for await (const kv of client.kv.scan({ prefix: 's/' })) {
      if (seen.push(kv.key) !== 1200) continue;
      await direct.kv.delete('s/02099');
      proxy.cut();
    }
    assert.deepEqual(seen, keys);
    if (hasStream) assert.equal(proxy.requests(RANGE), 2);
    await direct.kv.delete({ prefix: '' });
  });

  test('of a namespace, from a key on, and of keys only', async () => {
    const keys = await fill(direct, 1500);
    const app = direct.namespace('s/');
    const names = (await gather(app.kv.scan({ prefix: '' }))).map(({ key }) => key);
    assert.deepEqual(
      names,
      keys.map((key) => key.slice(2)),
    );
    const last = await gather(direct.kv.scan({ from: 's/00100' }, { keysOnly: true }));
    assert.equal(last.length, 1400);
    assert.ok(last.every((kv) => kv.value.length === 0));
    await app.close();
    await direct.kv.delete({ prefix: '' });
  });

  test('whose revision is compacted in the middle throws COMPACTED', async (t) => {
    const { client, proxy } = await proxied(t, backend);
    await fill(direct, 2100, 'v'.repeat(4000));
    const scan = client.kv.scan({ prefix: 's/' });
    for (let at = 0; at < 1000; at++) await scan.next();
    await direct.kv.compact((await direct.kv.delete({ prefix: 's/' })).revision);
    const rest = gather(scan);
    await assert.rejects(rest, withCode('COMPACTED'));
    assert.equal(proxy.requests(RANGE), 2);
  });
});

/** The keys of a member that is played: a to f. */
const KEYS = ['a', 'b', 'c', 'd', 'e', 'f'];

describe('a scan of a member that is played', () => {
  type Stream = Answers<RangeRequest, RangeStreamResponseInput>;
  const header = { clusterId: 1n, memberId: 1n, raftTerm: 2n, revision: 7n };
  const kvs = (...keys: string[]): NonNullable<RangeResponseInput['kvs']> =>
    keys.map((key) => ({ key: Buffer.from(key), modRevision: 1n, value: Buffer.from(key) }));

  interface Played {
    readonly client: Client;
    readonly clock: ManualClock;
    /** What was asked of Range and RangeStream: from which key on, and at which revision. */
    readonly asked: string[];
  }

  /** Range gives one key at a time; the stream is as the test says. */
  async function play(t: TestContext, stream: (call: Stream) => void, clusters = [1n]): Promise<Played> {
    const asked: string[] = [];
    const note = (what: string, { key, revision }: RangeRequest): string => {
      asked.push(`${what} ${key.toString('latin1').replace('\0', '+')} @${revision}`);
      return key.toString('latin1');
    };
    const endpoint = await startFakeEtcd(t, {
      KV: {
        range: (call: ServerUnaryCall<RangeRequest, RangeResponseInput>, answer: sendUnaryData<object>) => {
          const from = note('page', call.request);
          const left = KEYS.filter((key) => key >= from);
          const clusterId = clusters.length > 1 ? clusters.shift() : clusters[0];
          answer(null, {
            count: BigInt(left.length),
            header: { ...header, clusterId },
            kvs: kvs(...left.slice(0, 1)),
            more: left.length > 1,
          });
        },
        rangeStream: (call: Stream) => {
          note('stream', call.request);
          stream(call);
        },
      },
    });
    const clock = new ManualClock();
    const client = new Client({ clock, endpoints: endpoint });
    t.after(() => client.close());
    return { asked, client, clock };
  }

  const all = async (client: Client): Promise<string> =>
    (await gather(client.kv.scan({ prefix: '' }))).map(({ key }) => key).join('');

  test('takes what the stream brings, also in parts without keys or header, once it has ended well', async (t) => {
    const { asked, client } = await play(t, (call) => {
      call.write({ rangeResponse: { header: { clusterId: 1n } } });
      call.write({ rangeResponse: { kvs: kvs('b', 'c') } });
      call.write({});
      call.write({ rangeResponse: { count: 5n, header, kvs: kvs('d', 'e', 'f') } });
      call.end();
    });
    assert.equal(await all(client), 'abcdef');
    assert.deepEqual(asked, ['page + @0', 'stream a+ @7']);
  });

  test('reads a page, and then the rest, when the stream breaks off or ends without its last part', async (t) => {
    const ends: readonly ((call: Stream) => void)[] = [
      (call) => void call.emit('error', { code: status.UNAVAILABLE, details: 'gone' }),
      (call) => void call.emit('error', { code: status.INTERNAL, details: 'a bug' }),
      (call) => void call.end(),
    ];
    for (const end of ends) {
      const { asked, client } = await play(t, (call) => {
        const from = call.request.key.toString('latin1');
        if (from === 'a\0') {
          call.write({ rangeResponse: { kvs: kvs('b', 'c') } });
          end(call);
        } else {
          call.write({ rangeResponse: { header, kvs: kvs('e', 'f') } });
          call.end();
        }
      });
      assert.equal(await all(client), 'abcdef');
      assert.deepEqual(asked, ['page + @0', 'stream a+ @7', 'page c+ @7', 'stream d+ @7']);
    }
  });

  test('does not ask again for a stream that fails before it has begun, but for the next scan', async (t) => {
    const { asked, client } = await play(t, (call) => {
      call.emit('error', { code: status.PERMISSION_DENIED, details: 'a proxy does not pass it on' });
    });
    for (const scans of [1, 2]) {
      assert.equal(await all(client), 'abcdef');
      assert.equal(asked.filter((what) => what.startsWith('stream')).length, scans);
      assert.equal(asked.length, 7 * scans);
    }
  });

  test('goes on page by page when the stream keeps silent for the time of a call', async (t) => {
    const cancelled: string[] = [];
    const { asked, client, clock } = await play(t, (call) => {
      call.on('cancelled', () => cancelled.push('stream'));
      if (call.request.key.toString() === 'a\0') call.write({ rangeResponse: { kvs: kvs('b') } });
    });
    const scan = client.kv.scan({ prefix: '' }, { timeoutMs: 3000 });
    const rest = gather(scan);
    await until(() => asked.length === 2);
    while (asked.length < 7) {
      await clock.advance(1000);
      await new Promise((resolve) => setImmediate(resolve));
    }
    assert.equal((await rest).map(({ key }) => key).join(''), 'abcdef');
    await until(() => cancelled.length === 2);
    assert.deepEqual(asked.slice(0, 4), ['page + @0', 'stream a+ @7', 'page b+ @7', 'stream c+ @7']);
  });

  test('ends the stream when its reader leaves, and with the reason of its signal', async (t) => {
    let cancelled = 0;
    const { client } = await play(t, (call) => {
      call.on('cancelled', () => (cancelled += 1));
      call.write({ rangeResponse: { kvs: kvs('b') } });
    });
    for await (const { key } of client.kv.scan({ prefix: '' })) if (key === 'b') break;
    await until(() => cancelled === 1);
    const abort = new AbortController();
    const scan = client.kv.scan({ prefix: '' }, { signal: abort.signal });
    await scan.next();
    assert.equal((await scan.next()).value?.key, 'b');
    const third = scan.next();
    abort.abort('enough');
    await assert.rejects(third, exactly('enough'));
    await until(() => cancelled === 2);
  });

  test('throws HISTORY_REVERTED when another cluster answers', async (t) => {
    const pages = await play(t, (call) => void call.end(), [1n, 2n]);
    await assert.rejects(all(pages.client), withCode('HISTORY_REVERTED'));
    const streamed = await play(t, (call) => {
      call.write({ rangeResponse: { header: { ...header, clusterId: 2n }, kvs: kvs('b') } });
    });
    await assert.rejects(all(streamed.client), withCode('HISTORY_REVERTED'));
  });
});
