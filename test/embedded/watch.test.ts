import assert from 'node:assert/strict';
import { connect } from 'node:http2';
import test from 'node:test';

import { services } from '#conclave/proto/services.js';

import { Bench, bytes, OPEN, TestClock } from './harness.js';

const { KV } = services;
const all = { key: bytes('\0'), rangeEnd: OPEN };

test('a watch from now sees every later write, all of a revision at once', async () => {
  await using bench = await Bench.start();
  await bench.put('a', '0');
  const watch = bench.watch();
  watch.send({ createRequest: { ...all, prevKv: true } });
  const created = await watch.next();
  assert.deepEqual([created.created, created.watchId, created.header?.revision], [true, 0n, 2n]);
  await bench.put('a', '1');
  await bench.delete('a');
  await bench.call(KV.Txn, {
    success: [{ requestPut: { key: bytes('x') } }, { requestPut: { key: bytes('y') } }],
  });
  assert.equal(await watch.line(), '0 PUT a=1@3 was 0');
  assert.equal(await watch.line(), '0 DELETE a=@4 was 1');
  assert.equal(await watch.line(), '0 PUT x=@5 PUT y=@5');
  watch.cancel();
});

test('a watch from the past reads history first, then goes on live', async () => {
  await using bench = await Bench.start();
  for (const value of ['1', '2', '3']) await bench.put('a', value);
  const watch = bench.watch();
  watch.send({ createRequest: { key: bytes('a'), startRevision: 3n, filters: ['NODELETE'] } });
  assert.equal(await watch.line(), '0 created');
  const past = await watch.next();
  assert.deepEqual(
    past.events.map(({ kv }) => kv?.modRevision),
    [3n, 4n],
  );
  assert.equal(past.header?.revision, 4n);
  await bench.delete('a');
  await bench.put('a', '4');
  assert.equal(await watch.line(), '0 PUT a=4@6');
  watch.cancel();
});

test('a watch from the future waits for its revision', async () => {
  await using bench = await Bench.start();
  const watch = bench.watch();
  watch.send({ createRequest: { key: bytes('a'), startRevision: 4n } });
  assert.equal(await watch.line(), '0 created');
  for (const value of ['1', '2', '3']) await bench.put('a', value);
  assert.equal(await watch.line(), '0 PUT a=3@4');
  watch.cancel();
});

test('a watch from a compacted revision is created, then cancelled', async () => {
  await using bench = await Bench.start();
  for (const value of ['1', '2', '3']) await bench.put('a', value);
  await bench.call(KV.Compact, { revision: 3n });
  const watch = bench.watch();
  watch.send({ createRequest: { key: bytes('a'), startRevision: 2n } });
  watch.send({ createRequest: { key: bytes('a'), startRevision: 3n } });
  assert.equal(await watch.line(), '0 created');
  assert.equal(await watch.line(), '0 canceled compacted 3');
  assert.equal(await watch.line(), '1 created');
  assert.equal(await watch.line(), '1 PUT a=2@3 PUT a=3@4');
  watch.cancel();
});

test('a watch that cannot be is created and cancelled in one response', async () => {
  await using bench = await Bench.start();
  const watch = bench.watch();
  watch.send({ createRequest: { key: bytes('b'), rangeEnd: bytes('a') } });
  watch.send({ createRequest: { key: bytes('a'), startRevision: -1n } });
  watch.send({ createRequest: { key: bytes('a'), watchId: 7n } });
  watch.send({ createRequest: { key: bytes('b'), watchId: 7n } });
  const answers = [await watch.next(), await watch.next(), await watch.next(), await watch.next()];
  assert.deepEqual(
    answers.map(({ watchId, canceled, cancelReason }) => [watchId, canceled, cancelReason]),
    [
      [-1n, true, 'mvcc: watcher range is empty'],
      [-1n, true, 'etcdserver: mvcc: required revision has been compacted'],
      [7n, false, ''],
      [-1n, true, 'mvcc: duplicate watch ID provided on the WatchStream'],
    ],
  );
  watch.cancel();
});

test('cancelling answers once and ends the events', async () => {
  await using bench = await Bench.start();
  const watch = bench.watch();
  watch.send({ createRequest: { key: bytes('a') } });
  watch.send({ cancelRequest: { watchId: 5n } });
  watch.send({ cancelRequest: { watchId: 0n } });
  watch.send({ createRequest: { key: bytes('a') } });
  assert.equal(await watch.line(), '0 created');
  assert.equal(await watch.line(), '0 canceled');
  assert.equal(await watch.line(), '1 created', 'an id is not chosen twice');
  await bench.put('a');
  assert.equal(await watch.line(), '1 PUT a=@2');
  watch.cancel();
});

test('progress is told on request, and by the clock to an idle watch that asked', async () => {
  const clock = new TestClock();
  await using bench = await Bench.start({ clock });
  const watch = bench.watch();
  watch.send({ createRequest: { key: bytes('a'), progressNotify: true } });
  watch.send({ createRequest: { key: bytes('b') } });
  watch.send({ progressRequest: {} });
  assert.deepEqual(
    [await watch.line(), await watch.line(), await watch.line()],
    ['0 created', '1 created', '-1'],
  );
  await bench.put('x');
  clock.advance(661_000);
  const told = await watch.next();
  assert.deepEqual([told.watchId, told.events.length, told.header?.revision], [0n, 0, 2n]);
  await bench.put('a');
  assert.equal(await watch.line(), '0 PUT a=@3');
  clock.advance(661_000);
  watch.send({ progressRequest: {} });
  assert.equal(await watch.line(), '-1', 'a watch that had events is not told');
  watch.cancel();
});

test('a reader that stops falls behind, and gets everything in order once it reads again', async () => {
  await using bench = await Bench.start();
  // Bare HTTP/2: grpc-js's client takes messages off the wire even when nobody reads them.
  const session = connect(bench.server.endpoint);
  const stream = session.request({
    ':method': 'POST',
    ':path': '/etcdserverpb.Watch/Watch',
    'content-type': 'application/grpc',
    te: 'trailers',
  });
  const { requestSerialize, responseDeserialize } = services.Watch.Watch;
  stream.write(frame(requestSerialize({ createRequest: { ...all, startRevision: 1n } })));
  const value = 'v'.repeat(10_000);
  for (let batch = 0; batch < 20; batch++) {
    await Promise.all(Array.from({ length: 100 }, (_, at) => bench.put(`k${at}`, value)));
  }
  let unread = Buffer.alloc(0);
  let nextRevision = 2n;
  let responses = 0;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    unread = Buffer.concat([unread, chunk]);
    while (unread.length >= 5 && unread.length >= 5 + unread.readUInt32BE(1)) {
      const end = 5 + unread.readUInt32BE(1);
      for (const { kv } of responseDeserialize(unread.subarray(5, end)).events) {
        assert.equal(kv?.modRevision, nextRevision++);
      }
      responses++;
      unread = unread.subarray(end);
    }
    if (nextRevision > 2001n) break;
  }
  assert.ok(
    responses < 200,
    `2000 writes came in ${responses} responses: what was not read was read from history`,
  );
  session.destroy();
});

/** A message as gRPC frames it. */
function frame(message: Buffer): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

test('a large response is cut into fragments for a watch that takes them', async () => {
  await using bench = await Bench.start();
  for (let at = 0; at < 5; at++) await bench.put(`k${at}`, 'v'.repeat(1_000_000));
  const watch = bench.watch();
  watch.send({ createRequest: { ...all, filters: ['NODELETE'] } });
  watch.send({ createRequest: { ...all, filters: ['NOPUT'], prevKv: true, fragment: true } });
  assert.deepEqual([await watch.line(), await watch.line()], ['0 created', '1 created']);
  await bench.call(KV.DeleteRange, all);
  const parts = [await watch.next(), await watch.next(), await watch.next()];
  const shape = parts.map(({ fragment, events }) => `${events.length}${fragment ? ' and more' : ''}`);
  assert.deepEqual(shape, ['2 and more', '2 and more', '1']);
  watch.cancel();
});
