/** Endpoints at which something else answers than etcd, or etcd in another way: what the error says, and when. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer as createHttp } from 'node:http';
import { createServer as createHttps } from 'node:https';
import { type AddressInfo, createServer as createTcp, type Server as TcpServer, type Socket } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { Server as GrpcServer, ServerCredentials } from '@grpc/grpc-js';
import { Client, type ClientOptions, hasCode, Session } from 'conclave';
import { EmbeddedServer } from 'conclave/embedded';
import { type EtcdCluster, FaultProxy, startEtcd } from 'conclave/testing';
import { failsClearly } from './support/failures.js';
import { withCode } from './support/rejections.js';

/** Runs `work` with a server on a free port. */
async function serving(server: TcpServer, work: (host: string) => Promise<void>): Promise<void> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => sockets.add(socket.on('error', () => undefined)));
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

/** Runs `work` with a gRPC server that knows nothing of etcd. */
async function servingGrpc(work: (host: string) => Promise<void>): Promise<void> {
  const server = new GrpcServer();
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  try {
    await work(`127.0.0.1:${port}`);
  } finally {
    server.forceShutdown();
  }
}

/** Every kind of call, and a watch, fails long before its deadline. */
async function failsAtOnce(options: ClientOptions, ...parts: readonly string[]): Promise<void> {
  await failsClearly({ ...options, timeoutMs: 60_000 }, ['NOT_ETCD'], ...parts);
  await using client = new Client(options);
  await assert.rejects(client.watch('a').next(), withCode('NOT_ETCD'));
}

const http = (): TcpServer => createHttp((_, response) => response.end('hello'));

describe('an endpoint of something else', () => {
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

  test('a server of HTTP/1, with and without TLS in the endpoint', async () => {
    await serving(http(), async (host) => {
      await failsAtOnce({ endpoints: host }, `${host} speaks HTTP/1`, 'client port');
      await failsAtOnce({ endpoints: `https://${host}` }, `${host} does not speak TLS`);
    });
  });

  test('a server of another protocol', async () => {
    const ssh = createTcp((socket) => socket.write('SSH-2.0-OpenSSH_9.2\r\n'));
    await serving(ssh, (host) => failsAtOnce({ endpoints: host }, host, '"SSH-2.0-'));
  });

  test('a gRPC server without etcd’s services', async () => {
    await servingGrpc((host) => failsAtOnce({ endpoints: host }, host, 'is it an etcd v3 server?'));
  });
});

describe('an endpoint with the wrong scheme', () => {
  let secure: EtcdCluster;
  let plain: EtcdCluster;
  before(async () => {
    secure = await startEtcd({ clientCertAuth: true, tls: true });
    plain = await startEtcd();
  });
  after(async () => {
    await secure.close();
    await plain.close();
  });

  test('http:// to TLS', async () => {
    const { host } = new URL(secure.endpoint);
    await failsAtOnce({ endpoints: `http://${host}` }, `${host} speaks TLS: use https://${host}`);
    const { cert = '', key = '' } = secure.tls ?? {};
    const https = createHttps({ cert, key }, (_, response) => response.end('hello'));
    await serving(https, (other) =>
      failsAtOnce({ endpoints: other }, `${other} speaks TLS: use https://${other}`),
    );
  });

  test('https:// to plain text, of etcd and of the embedded server', async () => {
    await using embedded = await EmbeddedServer.start({ port: 0 });
    for (const { host } of [new URL(plain.endpoint), new URL(embedded.endpoint)]) {
      await failsAtOnce({ endpoints: `https://${host}` }, `${host} does not speak TLS: use http://${host}`);
      await failsAtOnce({ endpoints: host, tls: { ca: secure.tls?.ca } }, `use http://${host}`);
    }
  });

  test('https:// to TLS without HTTP/2', async () => {
    const { ca, cert = '', key = '' } = secure.tls ?? {};
    const https = createHttps({ cert, key }, (_, response) => response.end('hello'));
    await serving(https, (host) =>
      failsAtOnce({ endpoints: `https://${host}`, tls: { ca } }, host, 'no HTTP/2'),
    );
  });
});

describe('one bad endpoint of several', () => {
  let etcd: EtcdCluster;
  let secure: EtcdCluster;
  before(async () => {
    etcd = await startEtcd();
    secure = await startEtcd({ tls: true });
  });
  after(async () => {
    await etcd.close();
    await secure.close();
  });

  /** Runs `work` with each kind of bad endpoint. */
  async function withBad(work: (bad: string) => Promise<void>): Promise<void> {
    await serving(http(), (host) => work(`http://${host}`));
    await servingGrpc((host) => work(`http://${host}`));
    await work(`http://${new URL(secure.endpoint).host}`); // TLS there.
    await work(secure.endpoint); // An authority that we do not know.
  }

  test('does not disturb calls, sessions and watches', async () => {
    await withBad(async (bad) => {
      // Where a client begins is left to chance.
      for (let at = 0; at < 6; at++) {
        await using client = new Client({ endpoints: [bad, etcd.endpoint] });
        await using session = await Session.open(client);
        await client.lease.keepAliveOnce(session.leaseId);
        await using watch = client.watch('several');
        await client.kv.put('several', 'x');
        assert.equal((await client.kv.get('several'))?.string(), 'x', bad);
        assert.equal((await watch.next()).value?.events.length, 1);
        await client.kv.delete('several');
      }
    });
  });

  test('does not end calls, sessions and watches that wait for the good one', async () => {
    await withBad(async (bad) => {
      await using front = await FaultProxy.start(etcd.endpoint);
      await front.refuse();
      await using client = new Client({ endpoints: [bad, front.endpoint], timeoutMs: 30_000 });
      const watch = client.watch('waits');
      const opening = Session.open(client);
      const waiting = Promise.all([
        watch.created,
        opening,
        client.kv.get('waits'),
        client.kv.delete('waits'),
      ]);
      waiting.catch(() => undefined);
      // Whoever knows no other endpoint has long been told.
      await using single = new Client({ endpoints: bad });
      await assert.rejects(single.kv.get('waits'), (error) => hasCode(error, 'NOT_ETCD', 'TLS_FAILED'));
      await front.accept();
      await waiting;
      watch.close();
      await (await opening).close();
    });
  });

  test('is named when the others are bad as well', async () => {
    await serving(http(), (host) =>
      servingGrpc((other) => failsAtOnce({ endpoints: [host, other] }, '127.0.0.1:')),
    );
  });
});
