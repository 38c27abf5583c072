/** What can be wrong with a connection, and what the error then says. On real etcd, and on servers that are not etcd. */
import assert from 'node:assert/strict';
import { createServer as createHttp } from 'node:http';
import { once } from 'node:events';
import { type AddressInfo, createServer as createTcp, type Server as TcpServer, type Socket } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { Server as GrpcServer, ServerCredentials } from '@grpc/grpc-js';
import { Client, type ClientOptions, ConclaveError, type ErrorCode, hasCode, Mutex, Session } from 'conclave';
import { type EtcdCluster, startEtcd } from 'conclave/testing';
import { until } from '../support/until.js';
import { withCode } from './support/rejections.js';

/** Every kind of call fails within its deadline, with one of these codes, in words that hold every part. */
async function failsClearly(
  options: ClientOptions,
  codes: readonly ErrorCode[],
  ...parts: readonly string[]
): Promise<void> {
  await using client = new Client({ timeoutMs: 1000, ...options });
  const calls = {
    get: () => client.kv.get('a'),
    grant: () => client.lease.grant(5),
    keepAliveOnce: () => client.lease.keepAliveOnce(5n),
    put: () => client.kv.put('a', 'x'),
    session: () => Session.open(client),
    status: () => client.maintenance.status(),
  };
  const check = async ([name, call]: [string, () => Promise<unknown>]): Promise<void> => {
    const startedAt = performance.now();
    const error = await call().then(
      () => assert.fail(`${name} resolved`),
      (reason: unknown) => reason,
    );
    const tookMs = performance.now() - startedAt;
    assert.ok(error instanceof ConclaveError, `${name}: ${String(error)}`);
    assert.ok(codes.includes(error.code), `${name}: ${error.code}: ${error.message}`);
    for (const part of parts) assert.ok(error.message.includes(part), `${name}: ${error.message}`);
    assert.ok(tookMs < 2000, `${name}: ${tookMs} ms`);
  };
  await Promise.all(Object.entries(calls).map(check));
}

describe('a server that is not etcd', () => {
  /** Runs `work` with a TCP server on a free port. */
  async function serving(server: TcpServer, work: (host: string) => Promise<void>): Promise<void> {
    const sockets = new Set<Socket>();
    server.on('connection', (socket: Socket) => sockets.add(socket));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    try {
      await work(`127.0.0.1:${(server.address() as AddressInfo).port}`);
    } finally {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    }
  }

  test('nobody listens: UNAVAILABLE, with the endpoint and what to check', async () => {
    const free = createTcp();
    let host = '';
    await serving(free, async (taken) => void (host = taken));
    await failsClearly({ endpoints: host }, ['UNAVAILABLE'], host);
    await failsClearly({ endpoints: [`http://${host}`, 'http://127.0.0.1:1'] }, ['UNAVAILABLE'], '127.0.0.1');
  });

  test('a host that does not exist', async () => {
    await failsClearly(
      { endpoints: 'http://no-such-host.invalid:2379' },
      ['UNAVAILABLE'],
      'no-such-host.invalid',
    );
  });

  test('a server that says nothing', async () => {
    await serving(createTcp(), (host) =>
      failsClearly({ endpoints: host }, ['UNAVAILABLE', 'DEADLINE_EXCEEDED'], host),
    );
  });

  test('a server that closes every connection', async () => {
    const slams = createTcp((socket) => socket.destroy());
    await serving(slams, (host) =>
      failsClearly({ endpoints: host }, ['UNAVAILABLE', 'UNKNOWN_OUTCOME'], host),
    );
  });

  test('a server of HTTP/1', async () => {
    const http = createHttp((_, response) => response.end('hello'));
    await serving(http, (host) => failsClearly({ endpoints: host }, ['NOT_ETCD', 'UNAVAILABLE'], host));
  });

  test('a gRPC server without etcd’s services: NOT_ETCD', async () => {
    const server = new GrpcServer();
    const port = await new Promise<number>((resolve, reject) => {
      server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
        error === null ? resolve(bound) : reject(error),
      );
    });
    await failsClearly({ endpoints: `127.0.0.1:${port}` }, ['NOT_ETCD'], String(port), 'etcd');
    server.forceShutdown();
  });
});

describe('TLS', () => {
  let etcd: EtcdCluster;
  before(async () => {
    etcd = await startEtcd({ clientCertAuth: true, tls: true });
  });
  after(() => etcd.close());

  test('with the right authority and a client certificate, all works', async () => {
    const { endpoints, tls } = etcd;
    assert.ok(tls !== undefined);
    await using client = new Client({ endpoints, tls });
    await using session = await Session.open(client);
    await new Mutex(session, 'tls').run(async (lock) => {
      assert.ok(lock.held);
    });
    assert.equal((await client.kv.put('a', 'x', { prevKv: true })).previous, undefined);
    const watch = client.watch('a');
    await client.kv.delete('a');
    assert.equal((await watch.next()).value?.events.length, 1);
    watch.close();
  });

  test('a wrong authority, a missing or a stranger’s certificate, and a wrong name are TLS_FAILED', async () => {
    const { endpoints, tls, strangerTls } = etcd;
    assert.ok(tls !== undefined && strangerTls !== undefined);
    const host = new URL(endpoints[0] ?? '').host;
    await failsClearly({ endpoints, tls: { ...tls, ca: strangerTls.ca } }, ['TLS_FAILED'], host, 'tls.ca');
    await failsClearly({ endpoints, tls: { ca: tls.ca } }, ['TLS_FAILED'], host);
    await failsClearly({ endpoints, tls: { ...strangerTls, ca: tls.ca } }, ['TLS_FAILED'], host);
    await failsClearly({ endpoints, tls: { ...tls, serverName: 'elsewhere.example' } }, ['TLS_FAILED'], host);
    await failsClearly({ endpoints }, ['TLS_FAILED'], host);
  });

  test('plain text to a TLS port fails in time', async () => {
    const host = new URL(etcd.endpoints[0] ?? '').host;
    await failsClearly(
      { endpoints: `http://${host}` },
      ['UNAVAILABLE', 'UNKNOWN_OUTCOME', 'NOT_ETCD', 'TLS_FAILED'],
      host,
    );
  });
});

describe('authentication', () => {
  let etcd: EtcdCluster;
  const auth = { password: 'secret', username: 'root' };
  before(async () => {
    etcd = await startEtcd({ auth: { rootPassword: 'secret' }, authTokenTtlSeconds: 1 });
  });
  after(() => etcd.close());

  test('a wrong password or user is AUTH_FAILED, none at all is refused', async () => {
    const { endpoints } = etcd;
    await failsClearly({ auth: { ...auth, password: 'wrong' }, endpoints }, ['AUTH_FAILED'], 'root');
    await failsClearly({ auth: { ...auth, username: 'nobody' }, endpoints }, ['AUTH_FAILED'], 'nobody');
    await using client = new Client({ endpoints });
    await assert.rejects(client.kv.get('a'), withCode('USER_EMPTY'));
    await assert.rejects(client.watch('a').next(), (error) =>
      hasCode(error, 'PERMISSION_DENIED', 'USER_EMPTY'),
    );
  });

  test('a user and password do no harm where authentication is off', async () => {
    await using plain = await startEtcd();
    await using client = new Client({ auth, endpoints: plain.endpoints });
    await client.kv.put('a', 'x');
    assert.equal((await client.kv.get('a'))?.string(), 'x');
  });

  test('calls, sessions, locks and watches go on when the token runs out', async () => {
    await using client = new Client({ auth, endpoints: etcd.endpoints });
    await using session = await Session.open(client, { ttlSeconds: 2 });
    const lock = await new Mutex(session, 'token').lock();
    const watch = client.watch({ prefix: 'tok/' });
    await watch.created;
    const end = performance.now() + 4500;
    let written = 0;
    await until(
      async () => {
        await client.kv.put(`tok/${written++}`, '');
        await new Promise((resolve) => setTimeout(resolve, 1200));
        return performance.now() > end;
      },
      { timeoutMs: 20_000 },
    );
    const late = client.watch({ prefix: 'tok/' });
    await client.kv.put('tok/late', '');
    const seen: string[] = [];
    for await (const { events } of watch) {
      seen.push(...events.map((event) => event.kv.key));
      if (seen.at(-1) === 'tok/late') break;
    }
    assert.deepEqual(seen, [...Array.from({ length: written }, (_, n) => `tok/${n}`), 'tok/late']);
    assert.equal((await late.next()).value?.events[0]?.kv.key, 'tok/late');
    late.close();
    assert.ok(lock.held && session.state === 'active');
    await lock.unlock();
    await client.kv.delete({ prefix: 'tok/' });
  });

  test('a user is held to his permissions, in calls and in watches', async () => {
    await using root = new Client({ auth, endpoints: etcd.endpoints });
    await root.auth.userAdd('reader', 'pass');
    await root.auth.roleAdd('read-a');
    await root.auth.roleGrantPermission('read-a', 'read', { prefix: 'a/' });
    await root.auth.userGrantRole('reader', 'read-a');
    await using reader = new Client({
      auth: { password: 'pass', username: 'reader' },
      endpoints: etcd.endpoints,
    });
    assert.equal(await reader.kv.get('a/1'), undefined);
    const denied = withCode('PERMISSION_DENIED');
    await assert.rejects(reader.kv.get('b'), denied);
    await assert.rejects(reader.kv.put('a/1', 'x'), denied);
    await assert.rejects(reader.watch('b').next(), denied);
    const allowed = reader.watch({ prefix: 'a/' });
    await allowed.created;
    await root.kv.put('a/1', 'x');
    assert.equal((await allowed.next()).value?.events[0]?.kv.string(), 'x');
    allowed.close();
    const session = await Session.open(reader);
    await assert.rejects(new Mutex(session, 'b').lock(), denied);
    assert.equal(session.state, 'active');
    await session.close();
    await root.kv.delete({ prefix: 'a/' });
  });
});
