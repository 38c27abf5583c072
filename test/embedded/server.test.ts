import assert from 'node:assert/strict';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import process from 'node:process';
import test from 'node:test';

import { EmbeddedServer } from '#conclave/embedded/index.js';
import { services } from '#conclave/proto/services.js';

import { Bench, bytes } from './harness.js';

test('closing ends every stream with etcd’s word for it and frees the port', async () => {
  const bench = await Bench.start();
  const port = Number(new URL(bench.server.endpoint).port);
  const watch = bench.watch();
  watch.send({ createRequest: { key: bytes('a') } });
  assert.equal(await watch.line(), '0 created');
  await Promise.all([bench.server.close(), bench.server.close()]);
  const { code, details } = await watch.ended;
  assert.deepEqual([code, details], [14, 'etcdserver: server stopped']);
  bench.grpc.close();
  await using again = await Bench.start({ port });
  assert.equal(await again.get('a'), undefined);
});

test('a taken port is an error', async () => {
  await using server = await EmbeddedServer.start();
  await assert.rejects(EmbeddedServer.start({ port: Number(new URL(server.endpoint).port) }), /EADDRINUSE/);
});

test('it listens at a Unix socket and leaves no file behind', async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'conclave-embedded-'));
  const socketPath = path.join(folder, 'etcd.sock');
  {
    await using bench = await Bench.start({ socketPath });
    assert.equal(bench.server.endpoint, `unix://${socketPath}`);
    await bench.put('a', '1');
    assert.equal(await bench.get('a'), '1');
    await assert.rejects(EmbeddedServer.start({ socketPath }), /EADDRINUSE/);
    assert.equal(await bench.get('a'), '1', 'the running server is left alone');
  }
  await assert.rejects(stat(socketPath), { code: 'ENOENT' });
  await rm(folder, { recursive: true });
});

test('bad options are refused by name', async () => {
  await assert.rejects(EmbeddedServer.start({ port: 70_000 }), RangeError);
  await assert.rejects(EmbeddedServer.start({ ports: 1 } as object), /ports/);
  // Node would cut the path off and listen at what is left.
  await assert.rejects(
    EmbeddedServer.start({ socketPath: `/tmp/${'x'.repeat(99)}` }),
    /RangeError.*socketPath.*103/,
  );
});

test('it reports itself as the only member, and what it cannot do as unimplemented', async () => {
  await using bench = await Bench.start();
  await bench.put('a', '123');
  const { members, header } = await bench.call(services.Cluster.MemberList, {});
  assert.deepEqual(
    members.map(({ ID, name, clientURLs }) => [ID, name, clientURLs]),
    [[header?.memberId, 'default', [bench.server.endpoint]]],
  );
  const status = await bench.call(services.Maintenance.Status, {});
  assert.deepEqual([status.version, status.leader, status.dbSize], ['3.5.23+conclave', header?.memberId, 4n]);
  assert.deepEqual((await bench.call(services.Maintenance.Alarm, {})).alarms, []);
  assert.equal((await bench.call(services.Auth.AuthStatus, {})).enabled, false);
  await assert.rejects(bench.call(services.Auth.Authenticate, { name: 'x', password: 'y' }), {
    message: '9 FAILED_PRECONDITION: etcdserver: authentication is not enabled',
  });
  await assert.rejects(bench.call(services.Auth.UserList, {}), { code: 12 });
});

test('two servers with the same contents have the same hash, the one etcd computes', async () => {
  await using bench = await Bench.start();
  await bench.put('a', '1');
  await bench.put('a', '2');
  await bench.put('b');
  await bench.delete('b');
  const { hash } = await bench.call(services.Maintenance.HashKV, {});
  assert.notEqual(hash, 0);
  await using other = await Bench.start();
  for (const value of ['1', '2']) await other.put('a', value);
  await other.put('b');
  await other.delete('b');
  assert.equal((await other.call(services.Maintenance.HashKV, {})).hash, hash);
});

test('a Unix socket in a folder that is not there is called that', async () => {
  const missing = path.join(tmpdir(), `conclave-missing-${process.pid}`);
  await assert.rejects(EmbeddedServer.start({ socketPath: path.join(missing, 'etcd.sock') }), {
    code: 'ENOENT',
    message: new RegExp(missing),
  });
});
