// Certificates, passwords and tokens that change while a client lives: none of its calls fails, and no session is lost.
import assert from 'node:assert/strict';
import { generateKeyPairSync, sign } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';

import { Client, hasCode, Mutex, op, Session } from 'conclave';
import { type EtcdCluster, FaultProxy, startEtcd, type TlsMaterial } from 'conclave/testing';

import { further, load } from '../support/load.js';
import { until } from '../support/until.js';

describe('certificates that change', () => {
  let etcd: EtcdCluster;
  let folder: string;
  const file = (name: string): string => path.join(folder, name);
  before(async () => {
    etcd = await startEtcd({ clientCertAuth: true, tls: true });
    folder = mkdtempSync(path.join(tmpdir(), 'conclave-pems-'));
  });
  after(async () => {
    await etcd.close();
    rmSync(folder, { recursive: true });
  });

  const issue = (validMs?: number): TlsMaterial => {
    assert.ok(etcd.certificates !== undefined);
    return etcd.certificates.issue({ validMs });
  };
  const write = ({ ca, cert, key }: TlsMaterial): void => {
    writeFileSync(file('ca.pem'), ca);
    writeFileSync(file('cert.pem'), cert);
    writeFileSync(file('key.pem'), key);
  };
  const files = (): Record<'caFile' | 'certFile' | 'keyFile', string> => ({
    caFile: file('ca.pem'),
    certFile: file('cert.pem'),
    keyFile: file('key.pem'),
  });

  test('files are read anew for each connection, and a pair that is half replaced is not used', async () => {
    write(issue());
    await using proxy = await FaultProxy.start(etcd.endpoint);
    await using client = new Client({ endpoints: proxy.endpoint, tls: files() });
    await using session = await Session.open(client, { ttlSeconds: 5 });
    await using lock = await new Mutex(session, 'certificates').lock();
    const watch = client.watch('seen');
    await watch.created;
    // What is cut off under way may be asked again, but for a plain write.
    const mutexes = new Map<string, Mutex>();
    const calls = load(async (name) => {
      const mutex = mutexes.get(name) ?? new Mutex(session, name);
      mutexes.set(name, mutex);
      await mutex.run((held) => held.txn({ then: [op.get(name)] }));
      await client.kv.get(name);
    });
    for (let round = 0; round < 3; round++) {
      await further(calls);
      const next = issue();
      writeFileSync(file('cert.pem'), next.cert);
      proxy.cut();
      await further(calls);
      writeFileSync(file('key.pem'), next.key);
      rmSync(file('ca.pem'));
      proxy.cut();
      await further(calls);
      write(next);
    }
    await calls.stop();
    await client.kv.put('seen', 'x');
    assert.equal((await watch.next()).value?.events[0]?.kv.string(), 'x');
    watch.close();
    assert.ok(lock.held);
    assert.equal(session.state, 'active');
  });

  test('one that has ended is replaced: what waited for a connection goes on', async () => {
    const validMs = 2000;
    const endsAt = Date.now() + validMs;
    write(issue(validMs));
    await using proxy = await FaultProxy.start(etcd.endpoint);
    await using client = new Client({ endpoints: proxy.endpoint, tls: files() });
    await using session = await Session.open(client, { ttlSeconds: 30 });
    await using lock = await new Mutex(session, 'ended').lock();
    const watch = client.watch('ended');
    await watch.created;
    await until(() => Date.now() > endsAt + 1000, { what: 'the certificate has ended' });
    assert.equal(await client.kv.get('ended'), undefined, 'on the connection that is open');
    proxy.cut();
    await assert.rejects(client.kv.get('ended', { timeoutMs: 1500 }), (error) => {
      assert.ok(
        hasCode(error, 'UNAVAILABLE') && /TLS with .* failed.*tls\.cert/.test(error.message),
        String(error),
      );
      return true;
    });
    const put = client.kv.put('ended', 'not yet');
    write(issue());
    await put;
    assert.equal((await watch.next()).value?.events[0]?.kv.string(), 'not yet');
    watch.close();
    assert.ok(lock.held);
    assert.equal(session.state, 'active');
  });

  test('functions are called for each connection, and say what is wrong when they fail', async () => {
    const material = issue();
    let asked = 0;
    let fails: unknown = new Error('the vault is sealed');
    const cert = async (): Promise<string> => {
      asked += 1;
      await Promise.resolve();
      if (fails !== undefined) throw fails;
      return material.cert;
    };
    const key = (): Buffer => Buffer.from(material.key);
    await using proxy = await FaultProxy.start(etcd.endpoint);
    await using client = new Client({ endpoints: proxy.endpoint, tls: { ca: material.ca, cert, key } });
    await assert.rejects(client.kv.get('a'), (error) => {
      assert.ok(hasCode(error, 'TLS_FAILED'), String(error));
      assert.match(error.message, /the function tls\.cert failed: the vault is sealed/);
      return true;
    });
    fails = undefined;
    await until(() =>
      client.kv.get('a').then(
        () => true,
        () => false,
      ),
    );
    const before = asked;
    proxy.cut();
    await client.kv.get('a');
    assert.ok(asked > before);
    fails = new Error('sealed again');
    proxy.cut();
    await client.kv.get('a'); // With what worked last.
  });

  test('what is no certificate, and files that are not there, are named', async () => {
    const wrongs = [
      [{ caFile: file('nowhere.pem') }, /tls\.caFile .*nowhere\.pem cannot be read: ENOENT/],
      [{ cert: () => 'not pem', key: () => 'nor this' }, /tls\.cert must be the content of a PEM file/],
      [{ ca: () => '/etc/ssl/ca.pem' }, /tls\.ca .* is none; if it is a path, give it as tls\.caFile/],
      [{ ca: (() => 7) as unknown as () => string }, /the function tls\.ca gave no text, but number/],
    ] as const;
    for (const [tls, words] of wrongs) {
      await using client = new Client({ endpoints: etcd.endpoint, tls });
      await assert.rejects(client.kv.get('a'), (error) => {
        assert.ok(hasCode(error, 'TLS_FAILED'), String(error));
        assert.match(error.message, words);
        return true;
      });
    }
  });
});

describe('passwords and tokens that change', () => {
  test('a password is asked for whenever a token is fetched; one that comes late is waited for', async (t) => {
    const etcd = await startEtcd({ auth: { rootPassword: 'secret' }, authTokenTtlSeconds: 1 });
    t.after(() => etcd.close());
    await using root = new Client({
      auth: { password: 'secret', username: 'root' },
      endpoints: etcd.endpoints,
    });
    await root.auth.userAdd('worker', 'first');
    await root.auth.userGrantRole('worker', 'root');
    let password = 'first';
    let asked = 0;
    const auth = {
      password: async (): Promise<string> => {
        asked += 1;
        return Promise.resolve(password);
      },
      username: 'worker',
    };
    await using client = new Client({ auth, endpoints: etcd.endpoints });
    await using session = await Session.open(client, { ttlSeconds: 5 });
    await using lock = await new Mutex(session, 'password').lock();
    const watch = client.watch({ prefix: 'load/' });
    const calls = load(async (name) => {
      await client.kv.put(name, 'x');
      assert.equal((await client.kv.get(name))?.string(), 'x');
    });
    for (const next of ['second', 'third']) {
      await further(calls);
      const before = asked;
      await root.auth.userChangePassword('worker', next);
      await until(() => asked > before + 1, { what: 'the old password was refused' });
      password = next;
      await further(calls);
    }
    await calls.stop();
    assert.ok((await watch.next()).value?.events.length !== 0);
    watch.close();
    assert.ok(lock.held);
    password = 'wrong';
    await using stranger = new Client({ auth, endpoints: etcd.endpoints });
    await assert.rejects(stranger.kv.get('a'), (error) => hasCode(error, 'AUTH_FAILED'));
  });

  test('a token of one’s own making is sent, and another asked for when it is refused', async (t) => {
    const folder = mkdtempSync(path.join(tmpdir(), 'conclave-jwt-'));
    t.after(() => rmSync(folder, { recursive: true }));
    const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const [pub, priv] = [path.join(folder, 'pub.pem'), path.join(folder, 'priv.pem')];
    writeFileSync(pub, publicKey.export({ format: 'pem', type: 'spki' }));
    writeFileSync(priv, privateKey.export({ format: 'pem', type: 'pkcs1' }));
    const jwt = `jwt,pub-key=${pub},priv-key=${priv},sign-method=RS256,ttl=1m`;
    const etcd = await startEtcd({ args: [`--auth-token=${jwt}`], auth: { rootPassword: 'secret' } });
    t.after(() => etcd.close());
    await using root = new Client({
      auth: { password: 'secret', username: 'root' },
      endpoints: etcd.endpoints,
    });
    let revision = 0;
    let asked = 0;
    const token = (validSeconds = 60): string => {
      asked += 1;
      const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');
      const claims = {
        exp: Math.floor(Date.now() / 1000) + validSeconds,
        revision,
        username: 'root',
      };
      const text = `${part({ alg: 'RS256', typ: 'JWT' })}.${part(claims)}`;
      return `${text}.${sign('sha256', Buffer.from(text), privateKey).toString('base64url')}`;
    };
    /** How often users and roles were changed, which only etcd 3.5 tells: less than that is too old. */
    const takes = async (): Promise<boolean> => {
      revision += 1;
      await using asker = new Client({ auth: { token: token() }, endpoints: etcd.endpoints });
      return await asker.kv.get('jwt').then(
        () => true,
        (error: unknown) => !hasCode(error, 'AUTH_OLD_REVISION') && assert.fail(String(error)),
      );
    };
    await until(takes);
    asked = 0;
    await using client = new Client({ auth: { token }, endpoints: etcd.endpoints });
    await client.kv.put('jwt', 'x');
    await client.kv.get('jwt');
    assert.equal(asked, 1);
    await root.auth.userAdd('somebody', 'x');
    revision += 1;
    // The old token is of an old revision now.
    assert.equal((await client.kv.get('jwt'))?.string(), 'x');
    assert.equal(asked, 2);
    await using fixed = new Client({ auth: { token: token() }, endpoints: etcd.endpoints });
    assert.equal((await fixed.kv.get('jwt'))?.string(), 'x');
    for (const refused of ['nonsense', token(-60)]) {
      await using wrong = new Client({ auth: { token: refused }, endpoints: etcd.endpoints });
      await assert.rejects(wrong.kv.get('jwt'), (error) => hasCode(error, 'INVALID_AUTH_TOKEN'));
    }
  });
});
