// Who a client is to etcd: by the name in its certificate, or by a JWT that etcd made; and how it reaches one by a socket.
import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, test, type TestContext } from 'node:test';

import { Client, type ClientOptions, compare, Mutex, op, Session, type Watcher } from 'conclave';
import { type EtcdCluster, FaultProxy, makeCertificates, startEtcd } from 'conclave/testing';

import { assertSame, nextOf } from '../faults/scene.js';
import { freePorts } from '#conclave/testing/ports.js';
import { failsClearly } from '../contract/support/failures.js';
import { withCode } from '../contract/support/rejections.js';
import { further, load } from '../support/load.js';
import { until } from '../support/until.js';

const AUTHENTICATE = '/etcdserverpb.Auth/Authenticate';
const rootAuth = { password: 'secret', username: 'root' };
const denied = withCode('PERMISSION_DENIED');

function folderOf(t: TestContext): string {
  const folder = mkdtempSync(path.join(tmpdir(), 'conclave-identity-'));
  t.after(() => rmSync(folder, { recursive: true }));
  return folder;
}

/** Fails unless what was written at these revisions comes, each once and in order. */
async function assertSeen(watch: Watcher, written: readonly bigint[]): Promise<void> {
  const seen: bigint[] = [];
  while (seen.length < written.length)
    seen.push(...(await nextOf(watch)).events.map(({ kv }) => kv.modRevision));
  watch.close();
  assertSame(
    seen,
    [...written].sort((a, b) => Number(a - b)),
  );
}

describe('a user by the common name of a certificate', () => {
  let etcd: EtcdCluster;
  let root: Client;
  before(async () => {
    etcd = await startEtcd({
      auth: { rootPassword: rootAuth.password },
      clientCertAuth: true,
      tls: { clientName: 'root' },
    });
    root = new Client({ endpoints: etcd.endpoints, tls: etcd.tls });
    await root.auth.userAdd('worker');
    await root.auth.roleAdd('works');
    await root.auth.roleGrantPermission('works', 'readwrite', { prefix: 'work/' });
    await root.auth.userGrantRole('worker', 'works');
  });
  after(async () => {
    await root.close();
    await etcd.close();
  });

  /** A client with a certificate of this name, and neither password nor token. */
  const named = (t: TestContext, name: string): Client => {
    const tls = etcd.certificates?.issue({ name });
    const client = new Client({ endpoints: etcd.endpoints, tls });
    t.after(() => client.close());
    return client;
  };

  test('may what its roles let it, in calls, watches and locks, and no more', async (t) => {
    const worker = named(t, 'worker');
    const watch = worker.watch({ prefix: 'work/data/' });
    const { revision } = await worker.kv.put('work/data/a', 'x');
    assert.equal((await watch.next()).value?.events[0]?.kv.modRevision, revision);
    watch.close();
    await using session = await Session.open(worker.namespace('work/'), { ttlSeconds: 5 });
    await new Mutex(session, 'lock').run((lock) => lock.txn({ then: [op.put('data/a', 'y')] }));
    await assert.rejects(worker.kv.put('other', 'x'), denied);
    await assert.rejects(worker.watch('other').next(), denied);
    await assert.rejects(worker.auth.userList(), denied);
    assert.equal((await root.kv.get('work/data/a'))?.string(), 'y');
  });

  test('that etcd does not know may nothing', async (t) => {
    const stranger = named(t, 'stranger');
    await assert.rejects(stranger.kv.get('work/a'), denied);
    await assert.rejects(stranger.watch('work/a').next(), denied);
  });

  test('that has a password, too, is who logged in with it', async (t) => {
    await root.auth.userAdd('guest', 'guess');
    t.after(() => root.auth.userDelete('guest'));
    const tls = etcd.certificates?.issue({ name: 'worker' });
    await using guest = new Client({
      auth: { password: 'guess', username: 'guest' },
      endpoints: etcd.endpoints,
      tls,
    });
    await assert.rejects(guest.kv.get('work/a'), denied);
  });

  test('keeps its calls, watches and sessions while users come and go', async (t) => {
    const worker = named(t, 'worker');
    await using session = await Session.open(worker.namespace('work/'), { ttlSeconds: 2 });
    const watch = worker.watch({ prefix: 'work/load/' });
    await watch.created;
    const written: bigint[] = [];
    const calls = load(async (name) => {
      written.push((await worker.kv.put(`work/${name}`, 'x')).revision);
      assert.equal((await worker.kv.get(`work/${name}`))?.string(), 'x');
      const other = worker.watch(`work/${name}`);
      await other.created;
      other.close();
      await worker.lease.keepAliveOnce(session.leaseId);
    });
    for (let round = 0; round < 40; round++) {
      await root.auth.userAdd(`passing-${round}`);
      await root.auth.userDelete(`passing-${round}`);
    }
    await further(calls);
    await calls.stop();
    await assertSeen(watch, written);
    assert.equal(session.state, 'active');
  });
});

describe('a JWT that etcd made', () => {
  test('is fetched anew when its time is over: calls, a watch, a session and its lock go on', async (t) => {
    const folder = folderOf(t);
    const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const [pub, priv] = [path.join(folder, 'pub.pem'), path.join(folder, 'priv.pem')];
    writeFileSync(pub, publicKey.export({ format: 'pem', type: 'spki' }));
    writeFileSync(priv, privateKey.export({ format: 'pem', type: 'pkcs1' }));
    const etcd = await startEtcd({
      args: [`--auth-token=jwt,pub-key=${pub},priv-key=${priv},sign-method=RS256,ttl=1s`],
      auth: { rootPassword: rootAuth.password },
    });
    t.after(() => etcd.close());
    await using proxy = await FaultProxy.start(etcd.endpoint, { grpc: true });
    await using client = new Client({ auth: rootAuth, endpoints: proxy.endpoint });
    await using session = await Session.open(client, { ttlSeconds: 2 });
    await using lock = await new Mutex(session, 'lock').lock();
    const watch = client.watch({ prefix: 'load/' });
    await watch.created;
    const written: string[] = [];
    const calls = load(async (name) => {
      const key = `${name}/${written.length}`;
      // What is cut off under way may be asked again, but for a plain write.
      await client.kv.txn({ if: [compare.missing(key)], then: [op.put(key, 'x')] }, { idempotent: true });
      written.push(key);
      await client.kv.get(name);
    });
    const startedAt = performance.now();
    for (let tokens = 1; tokens <= 4; tokens++) {
      await until(() => proxy.requests(AUTHENTICATE) > tokens, { what: 'another token is fetched' });
      // The stream of the watch is opened anew, with a token that is new.
      proxy.cut();
      await further(calls);
    }
    await until(() => performance.now() - startedAt > 2500, { what: 'the session would have ended' });
    await calls.stop();
    const seen: string[] = [];
    while (seen.length < written.length) seen.push(...(await nextOf(watch)).events.map(({ kv }) => kv.key));
    watch.close();
    assert.deepEqual(seen.sort(), written.sort());
    assert.ok(lock.held);
    assert.equal(session.state, 'active');
    await client.lease.keepAliveOnce(session.leaseId);
  });
});

describe('an etcd on a socket', () => {
  const certificates = makeCertificates();
  const { client: tls, stranger } = certificates;

  /** Starts one that listens there as well, under a name that etcd 3.4 takes, too; resolves with the socket's path. */
  async function listening(t: TestContext, scheme: 'unix' | 'unixs', name: string): Promise<string> {
    const folder = folderOf(t);
    const server = certificates.issue({ host: name.replace(/:.*/, ''), name: 'etcd' });
    const file = (flag: string, text: string): string => {
      writeFileSync(path.join(folder, flag), text);
      return `--${flag}=${path.join(folder, flag)}`;
    };
    const [port = 0] = await freePorts(1);
    const secure = [
      file('cert-file', server.cert),
      file('key-file', server.key),
      file('trusted-ca-file', server.ca),
      '--client-cert-auth',
    ];
    const listen = `--listen-client-urls=http://127.0.0.1:${port},${scheme}://${name}`;
    const etcd = await startEtcd({ args: [listen, ...(scheme === 'unixs' ? secure : [])], port });
    t.after(() => etcd.close());
    // etcd takes such a name for a file where it runs.
    return path.join(path.dirname(etcd.members[0]?.dataDir ?? ''), name);
  }

  /** All is done there that goes by calls and by streams. */
  async function serves(options: ClientOptions): Promise<void> {
    await using client = new Client(options);
    const watch = client.watch('socket');
    await client.kv.put('socket', 'x');
    assert.equal((await nextOf(watch)).events[0]?.kv.string(), 'x');
    watch.close();
    await using session = await Session.open(client);
    await new Mutex(session, 'lock').run((lock) => assert.ok(lock.held));
  }

  test('unix:', async (t) => {
    const socket = await listening(t, 'unix', 'localhost:1');
    for (const endpoints of [`unix://${socket}`, `unix:${socket}`]) await serves({ endpoints });
    await failsClearly({ endpoints: `unixs://${socket}` }, ['NOT_ETCD'], `use unix://${socket} without`);
    await failsClearly({ endpoints: `unix://${socket}`, tls }, ['NOT_ETCD'], 'does not speak TLS');
    await failsClearly({ endpoints: `unix://${socket}0` }, ['UNAVAILABLE'], `${socket}0`, 'ENOENT');
  });

  test('unixs:, and unix: with certificates, as etcdctl has it', async (t) => {
    const socket = await listening(t, 'unixs', 'localhost:1');
    for (const endpoints of [`unixs://${socket}`, `unixs:${socket}`, `unix://${socket}`])
      await serves({ endpoints, tls });
    const endpoints = `unixs://${socket}`;
    await failsClearly({ endpoints: `unix://${socket}` }, ['NOT_ETCD'], `speaks TLS: use ${endpoints}`);
    await failsClearly({ endpoints, tls: { ...tls, ca: stranger.ca } }, ['TLS_FAILED'], 'tls.ca');
    await failsClearly({ endpoints, tls: { ca: tls.ca } }, ['TLS_FAILED'], socket);
  });

  test('unixs:, with a certificate for the name of the socket, as etcdctl expects it', async (t) => {
    const endpoints = `unixs://${await listening(t, 'unixs', 'member.example:1')}`;
    await serves({ endpoints, tls });
    await serves({ endpoints, tls: { ...tls, serverName: 'member.example' } });
    await failsClearly({ endpoints, tls: { ...tls, serverName: 'localhost' } }, ['TLS_FAILED'], 'localhost');
  });
});
