// `maintenance.snapshot`: what it yields is a whole database, or it throws what ended it.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, test, type TestContext } from 'node:test';
import { type ServiceError, status } from '@grpc/grpc-js';
import { Client } from 'conclave';
import { ManualClock } from 'conclave/testing';
import type { SnapshotRequest, SnapshotResponseInput } from '#conclave/proto/messages.gen.js';
import { exactly, withCode } from '../contract/support/rejections.js';
import { etcdOfSuite, Scene } from '../faults/scene.js';
import { type Answers, startFakeEtcd } from '../support/fake-etcd.js';

const SNAPSHOT = '/etcdserverpb.Maintenance/Snapshot';
type Sent = Answers<SnapshotRequest, SnapshotResponseInput>;

async function whole(parts: AsyncIterable<Buffer>): Promise<Buffer> {
  const all: Buffer[] = [];
  for await (const part of parts) all.push(part);
  return Buffer.concat(all);
}

const sha256 = (bytes: Buffer): Buffer => createHash('sha256').update(bytes).digest();
const PAGES = [Buffer.alloc(512, 1), Buffer.alloc(512, 2), Buffer.alloc(512, 3)];
const SHA = sha256(Buffer.concat(PAGES));

/** A client of a member that plays `snapshot`, and takes only the tokens of `tokens`. */
async function clientOf(
  t: TestContext,
  snapshot: (stream: Sent) => void,
  tokens?: readonly string[],
): Promise<Client> {
  let given = 0;
  const endpoint = await startFakeEtcd(t, {
    Auth: {
      authenticate: (_: unknown, answer: (error: null, reply: object) => void) =>
        answer(null, { token: tokens?.[given++] ?? 'the last one' }),
    },
    Maintenance: { snapshot },
  });
  const auth = tokens === undefined ? undefined : { password: 'secret', username: 'root' };
  const client = new Client({ auth, endpoints: endpoint });
  t.after(() => client.close());
  return client;
}

function send(stream: Sent, ...blobs: readonly Buffer[]): void {
  for (const blob of blobs) stream.write({ blob, remainingBytes: 0n });
}

describe('snapshot of etcd', () => {
  const etcd = etcdOfSuite();

  test('is the whole database, ending with its sha256', async (t) => {
    const { direct } = new Scene(t, etcd);
    for (const endpoint of [undefined, direct.endpoints[0]]) {
      const bytes = await whole(direct.maintenance.snapshot({ endpoint }));
      const [data, sum] = [bytes.subarray(0, -32), bytes.subarray(-32)];
      assert.ok(data.length > 0 && data.length % 512 === 0);
      assert.deepEqual(sha256(data), sum);
    }
  });

  test('ends with the reason of its signal while the member says nothing', async (t) => {
    const scene = new Scene(t, etcd);
    const proxy = await scene.proxy();
    const abort = new AbortController();
    const fault = proxy.onCall(SNAPSHOT, 'holdReply');
    const parts = scene.client(proxy).maintenance.snapshot({ signal: abort.signal });
    const next = parts.next();
    next.catch(() => undefined); // It may reject before it is waited for.
    await fault.hit();
    abort.abort('enough');
    await assert.rejects(next, exactly('enough'));
    assert.equal((await parts.next()).done, true);
  });
});

describe('snapshot of a member that is played', () => {
  test('ends with the reason of its signal, CLOSED, or its time limit in the middle, too', async (t) => {
    const client = await clientOf(t, (stream) => send(stream, ...PAGES.slice(0, 1)));
    const abort = new AbortController();
    const aborted = client.maintenance.snapshot({ signal: abort.signal });
    const closed = client.maintenance.snapshot();
    const late = client.maintenance.snapshot({ timeoutMs: 1000 });
    for (const parts of [aborted, closed, late]) assert.deepEqual((await parts.next()).value, PAGES[0]);
    const ends = [
      assert.rejects(aborted.next(), exactly('enough')),
      assert.rejects(late.next(), withCode('DEADLINE_EXCEEDED')),
    ];
    abort.abort('enough');
    await Promise.all(ends);
    const end = assert.rejects(closed.next(), withCode('CLOSED'));
    await client.close();
    await end;
  });

  test('the first piece must come within the client’s time limit; after that it may take long', async (t) => {
    const streams: Sent[] = [];
    const endpoint = await startFakeEtcd(t, {
      Maintenance: { snapshot: (stream: Sent) => void streams.push(stream) },
    });
    const clock = new ManualClock();
    const client = new Client({ clock, endpoints: endpoint, timeoutMs: 1000 });
    t.after(() => client.close());
    const arrived = async (count: number): Promise<Sent> => {
      while (streams.length < count) await new Promise((resolve) => setImmediate(resolve));
      return streams.at(-1) as Sent;
    };
    const silent = assert.rejects(client.maintenance.snapshot().next(), withCode('DEADLINE_EXCEEDED'));
    await arrived(1);
    await clock.advance(1000);
    await silent;
    const parts = client.maintenance.snapshot();
    const first = parts.next();
    const stream = await arrived(2);
    send(stream, ...PAGES.slice(0, 2));
    await first;
    await clock.advance(100_000);
    send(stream, ...PAGES.slice(2), SHA);
    stream.end();
    assert.deepEqual(await whole(parts), Buffer.concat([...PAGES.slice(1), SHA]));
  });

  test('one that ends early is an error, wherever it ends', async (t) => {
    for (let count = 0; count <= PAGES.length; count++) {
      const client = await clientOf(t, (stream) => {
        send(stream, ...PAGES.slice(0, count));
        stream.end();
      });
      await assert.rejects(whole(client.maintenance.snapshot()), withCode('UNAVAILABLE'), `${count} pages`);
    }
    const client = await clientOf(t, (stream) => {
      send(stream, ...PAGES, SHA);
      stream.end();
    });
    assert.equal((await whole(client.maintenance.snapshot())).length, 3 * 512 + 32);
  });

  test('a refused token is replaced before anything has come, and not for ever', async (t) => {
    const tokens: string[] = [];
    const refuse = (stream: Sent): void => {
      tokens.push(String(stream.metadata.get('token')[0]));
      const error = { code: status.UNAUTHENTICATED, details: 'etcdserver: invalid auth token' };
      stream.emit('error', error as ServiceError);
    };
    const client = await clientOf(
      t,
      (stream) => {
        if (stream.metadata.get('token')[0] !== 'second') refuse(stream);
        else {
          send(stream, ...PAGES, SHA);
          stream.end();
        }
      },
      ['first', 'second'],
    );
    assert.equal((await whole(client.maintenance.snapshot())).length, 3 * 512 + 32);
    assert.deepEqual(tokens, ['first']);
    const never = await clientOf(t, refuse, ['a', 'b', 'c', 'd', 'e']);
    await assert.rejects(whole(never.maintenance.snapshot()), withCode('INVALID_AUTH_TOKEN'));
    assert.deepEqual(tokens, ['first', 'a', 'b', 'c']);
  });

  test('what its reader throws into it comes out, and leaving it ends the stream', async (t) => {
    let cancelled = 0;
    const client = await clientOf(t, (stream) => {
      stream.on('cancelled', () => (cancelled += 1));
      send(stream, ...PAGES);
    });
    const mine = new Error('mine');
    const parts = client.maintenance.snapshot();
    await parts.next();
    await assert.rejects(parts.throw(mine), exactly(mine));
    for await (const part of client.maintenance.snapshot()) {
      assert.ok(part.length > 0);
      break;
    }
    while (cancelled < 2) await new Promise((resolve) => setImmediate(resolve));
  });
});
