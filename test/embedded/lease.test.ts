import assert from 'node:assert/strict';
import { once } from 'node:events';
import test from 'node:test';
import { Worker } from 'node:worker_threads';

import { services } from '#conclave/proto/services.js';
import type { LeaseKeepAliveResponse } from '#conclave/proto/messages.gen.js';

import { Bench, bytes, OPEN, TestClock } from './harness.js';

const { Lease } = services;

test('a lease ends at its deadline, with its keys, in one revision', async () => {
  const clock = new TestClock();
  await using bench = await Bench.start({ clock });
  assert.equal(clock.pending, 0, 'an idle server has no timer');
  await bench.call(Lease.LeaseGrant, { ID: 7n, TTL: 10n });
  for (const key of ['b', 'a', 'c']) await bench.put(key, '1', 7n);
  await bench.put('c', '2');
  const watch = bench.watch();
  watch.send({ createRequest: { key: bytes('\0'), rangeEnd: OPEN } });
  assert.equal(await watch.line(), '0 created');
  clock.advance(9_999);
  assert.equal(await bench.get('a'), '1');
  clock.advance(1);
  assert.equal(await watch.line(), '0 DELETE a=@6 DELETE b=@6');
  assert.equal(await bench.get('c'), '2', 'a put without the lease detached it');
  assert.equal(clock.pending, 0);
  watch.cancel();
});

test('a renewal gives the full time again; an unknown lease is answered with 0', async () => {
  const clock = new TestClock();
  await using bench = await Bench.start({ clock });
  await bench.call(Lease.LeaseGrant, { ID: 7n, TTL: 10n });
  await bench.call(Lease.LeaseGrant, { ID: 8n, TTL: 10n });
  const { path, requestSerialize, responseDeserialize } = Lease.LeaseKeepAlive;
  const stream = bench.grpc.makeBidiStreamRequest(path, requestSerialize, responseDeserialize);
  const answers = stream[Symbol.asyncIterator]() as AsyncIterator<LeaseKeepAliveResponse, undefined>;
  const renew = async (ID: bigint): Promise<bigint | undefined> => {
    stream.write({ ID });
    return (await answers.next()).value?.TTL;
  };
  clock.advance(9_000);
  assert.equal(await renew(7n), 10n);
  assert.equal(await renew(99n), 0n);
  clock.advance(9_000);
  const { leases } = await bench.call(Lease.LeaseLeases, {});
  assert.deepEqual(
    leases.map(({ ID }) => ID),
    [7n],
    'the lease that was not renewed is gone',
  );
  assert.equal(await renew(8n), 0n);
  const left = await bench.call(Lease.LeaseTimeToLive, { ID: 7n });
  assert.deepEqual([left.TTL, left.grantedTTL], [1n, 10n]);
  stream.end();
  assert.equal((await answers.next()).done, true);
});

test('a renewal that comes after the deadline is too late, also when the timer is', async () => {
  const clock = new TestClock();
  await using bench = await Bench.start({ clock });
  for (const ID of [7n, 8n]) await bench.call(Lease.LeaseGrant, { ID, TTL: 10n });
  await bench.put('a', '1', 7n);
  const { path, requestSerialize, responseDeserialize } = Lease.LeaseKeepAlive;
  const stream = bench.grpc.makeBidiStreamRequest(path, requestSerialize, responseDeserialize);
  const answers = stream[Symbol.asyncIterator]() as AsyncIterator<LeaseKeepAliveResponse, undefined>;
  const renew = async (ID: bigint): Promise<bigint | undefined> => {
    stream.write({ ID });
    return (await answers.next()).value?.TTL;
  };
  clock.jump(9_999);
  assert.equal(await renew(8n), 10n);
  clock.jump(1);
  assert.equal(await renew(7n), 0n);
  assert.equal(await bench.get('a'), undefined, 'it has ended, and its key with it');
  assert.equal(await renew(8n), 10n);
  stream.end();
  assert.equal((await answers.next()).done, true);
});

test('granting and revoking answer as etcd does', async () => {
  await using bench = await Bench.start();
  const grant = async (ID: bigint, TTL: bigint): Promise<bigint> =>
    (await bench.call(Lease.LeaseGrant, { ID, TTL })).TTL;
  assert.equal(await grant(1n, 1n), 2n, 'the shortest lease is 2 seconds');
  assert.equal(await grant(-2n, -1n), 2n);
  assert.equal(await grant(3n, 9_000_000_000n), 9_000_000_000n);
  await assert.rejects(grant(4n, 9_000_000_001n), {
    message: '11 OUT_OF_RANGE: etcdserver: too large lease TTL',
  });
  await assert.rejects(grant(1n, 5n), { message: '9 FAILED_PRECONDITION: etcdserver: lease already exists' });
  const { ID } = await bench.call(Lease.LeaseGrant, { TTL: 60n });
  assert.ok(ID > 0n, 'the server picks a positive id');
  await bench.put('k', 'v', ID);
  const { keys } = await bench.call(Lease.LeaseTimeToLive, { ID, keys: true });
  assert.deepEqual(keys.map(String), ['k']);
  await bench.call(Lease.LeaseRevoke, { ID });
  assert.equal(await bench.get('k'), undefined);
  const notFound = { message: '5 NOT_FOUND: etcdserver: requested lease not found' };
  await assert.rejects(bench.call(Lease.LeaseRevoke, { ID }), notFound);
  await assert.rejects(bench.put('k', 'v', ID), notFound);
  assert.equal((await bench.call(Lease.LeaseTimeToLive, { ID })).TTL, -1n);
});

test('many leases that are revoked or renewed end when they should', async () => {
  const clock = new TestClock();
  await using bench = await Bench.start({ clock });
  for (let id = 1n; id <= 300n; id++) {
    await bench.call(Lease.LeaseGrant, { ID: id, TTL: 2n + (id % 10n) });
    await bench.put(`k${String(id)}`, '', id);
    if (id % 2n === 0n) await bench.call(Lease.LeaseRevoke, { ID: id });
  }
  for (let second = 1; second <= 12; second++) {
    clock.advance(1000);
    const { leases } = await bench.call(Lease.LeaseLeases, {});
    // Ids 1, 3, 5, ... have 3, 5, 7, 9 or 11 seconds, 30 of each.
    assert.equal(
      leases.length,
      [3, 5, 7, 9, 11].filter((ttl) => ttl > second).length * 30,
      `after ${second} s`,
    );
  }
  assert.equal(clock.pending, 0);
});

test('renewals that waited in the socket while the event loop was busy were in time', async (t) => {
  await using bench = await Bench.start();
  const ids = [1n, 2n, 3n, 4n, 5n, 6n, 7n, 8n];
  for (const ID of [...ids, 9n]) await bench.call(Lease.LeaseGrant, { ID, TTL: 2n });
  const renewer = new Worker(new URL('renewer.js', import.meta.url), {
    workerData: { endpoint: bench.server.endpoint, everyMs: 200, ids },
  });
  t.after(() => renewer.terminate());
  await once(renewer, 'message');
  // Nothing is read and no timer fires for longer than the leases last.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2500);
  let left: bigint[];
  do left = (await bench.call(Lease.LeaseLeases, {})).leases.map(({ ID }) => ID);
  while (left.includes(9n));
  assert.deepEqual(left.sort(), ids, 'only the one that nobody renewed has ended');
});
