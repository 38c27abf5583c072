/** What can be wrong with a connection to etcd, and what the error then says. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Client, hasCode, Mutex, Session } from 'conclave';
import { type EtcdCluster, FaultProxy, startEtcd } from 'conclave/testing';
import { until } from '../support/until.js';
import { failsClearly } from './support/failures.js';
import { withCode } from './support/rejections.js';

describe('TLS', () => {
  let etcd: EtcdCluster;
  const warnings: Error[] = [];
  const note = (warning: Error): void => void warnings.push(warning);
  before(async () => {
    // Node warns once in a process, so from the first connection on.
    process.on('warning', note);
    etcd = await startEtcd({ clientCertAuth: true, tls: true });
  });
  after(async () => {
    process.off('warning', note);
    await etcd.close();
  });

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

  test('a name or an IP address of the certificate is accepted, told or in the endpoint, and Node warns of nothing', async () => {
    const { tls } = etcd;
    const { port } = new URL(etcd.endpoint);
    const ways = [
      ['127.0.0.1'],
      ['localhost'],
      ['127.0.0.1', 'localhost'],
      ['localhost', '127.0.0.1'],
      ['127.0.0.1', '::1'],
    ] as const;
    for (const [host, serverName] of ways) {
      await using client = new Client({ endpoints: `https://${host}:${port}`, tls: { ...tls, serverName } });
      assert.equal(await client.kv.get('a'), undefined, `${host} ${serverName ?? ''}`);
    }
    // A warning is told of at the next turn.
    await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual(
      warnings.filter(({ message }) => !message.includes('20615')),
      [],
    );
  });

  test('a wrong authority, a missing or a stranger’s certificate, and a wrong name are TLS_FAILED', async () => {
    const { endpoints, tls, strangerTls } = etcd;
    assert.ok(tls !== undefined && strangerTls !== undefined);
    const host = new URL(endpoints[0] ?? '').host;
    await failsClearly({ endpoints, tls: { ...tls, ca: strangerTls.ca } }, ['TLS_FAILED'], host, 'tls.ca');
    await failsClearly({ endpoints, tls: { ca: tls.ca } }, ['TLS_FAILED'], host);
    await failsClearly({ endpoints, tls: { ...strangerTls, ca: tls.ca } }, ['TLS_FAILED'], host);
    for (const serverName of ['elsewhere.example', '127.0.0.2', '::2'])
      await failsClearly({ endpoints, tls: { ...tls, serverName } }, ['TLS_FAILED'], host, serverName);
    await failsClearly({ endpoints }, ['TLS_FAILED'], host);
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

  test('that authentication is off is asked once, and found out again when it is switched on', async () => {
    await using plain = await startEtcd();
    await using proxy = await FaultProxy.start(plain.endpoint, { grpc: true });
    await using client = new Client({ auth, endpoints: proxy.endpoint });
    for (let at = 0; at < 5; at++) await client.kv.put('a', String(at));
    assert.equal(proxy.requests('/etcdserverpb.Auth/Authenticate'), 1);
    await client.auth.userAdd('root', auth.password);
    await client.auth.userGrantRole('root', 'root');
    await client.auth.enable();
    await client.kv.put('a', 'x');
    assert.equal((await client.kv.get('a'))?.string(), 'x');
    assert.equal(proxy.requests('/etcdserverpb.Auth/Authenticate'), 2);
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
    await using cache = reader.cache({ prefix: 'a/' });
    assert.equal((await cache.get('a/1'))?.string(), 'x');
    const refused = reader.cache({ prefix: '' });
    await assert.rejects(refused.get('a/1', { consistency: 'local' }), denied);
    assert.throws(() => refused.entries(), denied);
    const session = await Session.open(reader);
    await assert.rejects(new Mutex(session, 'b').lock(), denied);
    assert.equal(session.state, 'active');
    await session.close();
    // What is taken back holds for what asks etcd; a local read asks nobody.
    await root.auth.roleRevokePermission('read-a', { prefix: 'a/' });
    await assert.rejects(cache.get('a/1'), denied);
    await root.kv.delete({ prefix: 'a/' });
  });
});
