import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { get as httpsGet } from 'node:https';
import { createServer } from 'node:http';
import path from 'node:path';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { type EtcdCluster, startEtcd } from 'conclave/testing';
import { until } from '../support/until.js';

const open: EtcdCluster[] = [];
after(async () => {
  for (const cluster of open) await cluster.close();
});

async function started(...args: Parameters<typeof startEtcd>): Promise<EtcdCluster> {
  const cluster = await startEtcd(...args);
  open.push(cluster);
  return cluster;
}

/** One call through the JSON gateway. */
async function call(
  endpoint: string,
  rpc: string,
  body: object,
  token = '',
): Promise<Record<string, unknown>> {
  const answer = await fetch(`${endpoint}/v3/${rpc}`, {
    method: 'POST',
    body: JSON.stringify(body),
    headers: token === '' ? {} : { authorization: token },
    signal: AbortSignal.timeout(5000),
  });
  return (await answer.json()) as Record<string, unknown>;
}

/** Gateways of different age name it differently. */
const errorOf = (answer: Record<string, unknown>): string => String(answer['error'] ?? answer['message']);
const base64 = (text: string): string => Buffer.from(text).toString('base64');

function isAlive(pid: number): boolean {
  try {
    // One that has ended stays as a Z until its parent, here init, has taken note.
    return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}

function pidOf(cluster: EtcdCluster): number {
  const pid = cluster.members[0]?.pid;
  assert.ok(pid !== undefined);
  return pid;
}

describe('startEtcd', () => {
  test('starts a server that answers, and leaves neither process nor folder', async () => {
    const cluster = await started();
    assert.match(cluster.version, /^3\.\d+\.\d+/);
    assert.equal(cluster.endpoints.length, 1);
    const answer = await call(cluster.endpoint, 'kv/put', { key: base64('a'), value: base64('1') });
    assert.ok('header' in answer);
    const pid = pidOf(cluster);
    await cluster.close();
    await cluster.close();
    assert.equal(isAlive(pid), false);
    assert.equal(cluster.members[0]?.running, false);
  });

  test('keeps data and port over a kill and a restart', async () => {
    const cluster = await started();
    const [member] = cluster.members;
    assert.ok(member);
    await call(cluster.endpoint, 'kv/put', { key: base64('a'), value: base64('kept') });
    await member.kill();
    assert.equal(member.pid, undefined);
    await assert.rejects(call(cluster.endpoint, 'kv/range', { key: base64('a') }));
    await member.restart();
    const { kvs } = await call(cluster.endpoint, 'kv/range', { key: base64('a') });
    assert.equal((kvs as { value: string }[])[0]?.value, base64('kept'));
    await cluster.close();
  });

  test('a paused member is silent until it resumes, and can be closed while paused', async () => {
    const cluster = await started();
    const [member] = cluster.members;
    assert.ok(member);
    await member.pause();
    let answered = false;
    const asked = call(cluster.endpoint, 'kv/range', { key: base64('a') }).then(() => (answered = true));
    await assert.rejects(fetch(`${cluster.endpoint}/health`, { signal: AbortSignal.timeout(150) }));
    assert.equal(answered, false);
    await member.resume();
    await asked;
    await member.pause();
    await cluster.close();
    assert.equal(member.running, false);
  });

  test('three members elect another leader when theirs is killed', async () => {
    const cluster = await started({ members: 3 });
    const first = await until(() => cluster.leader(), { what: 'a leader' });
    await first.kill();
    const second = await until(() => cluster.leader(), { what: 'another leader' });
    assert.notEqual(second.name, first.name);
    await first.restart();
    await cluster.close();
  });

  test("serves TLS, and with clientCertAuth refuses who shows no certificate or a stranger's", async () => {
    const cluster = await started({ tls: true, clientCertAuth: true });
    const { tls, strangerTls } = cluster;
    assert.ok(tls && strangerTls);
    const refused = { code: /^ERR_SSL_.*(CERTIFICATE|ALERT)/ };
    const ask = async (options: object): Promise<number | undefined> => {
      const request = httpsGet(`${cluster.endpoint}/health`, { agent: false, ...options });
      const [response] = (await once(request, 'response')) as [{ statusCode?: number; resume(): void }];
      response.resume();
      return response.statusCode;
    };
    assert.equal(await ask(tls), 200);
    // It answers to the one it knows, so it is there; to these it sends a TLS alert.
    await assert.rejects(ask({ ca: tls.ca }), refused, 'no certificate');
    await assert.rejects(
      ask({ ...tls, cert: strangerTls.cert, key: strangerTls.key }),
      refused,
      'a stranger',
    );
    await assert.rejects(ask({ ...tls, ca: strangerTls.ca }), { code: /SELF_SIGNED|UNABLE_TO_VERIFY/ });
    assert.ok(await cluster.leader());
    await cluster.close();
  });

  test('serves TLS to clients without a certificate when clientCertAuth is off', async () => {
    const cluster = await started({ tls: true });
    const request = httpsGet(`${cluster.endpoint}/health`, { agent: false, ca: cluster.tls?.ca });
    const [response] = (await once(request, 'response')) as [{ statusCode?: number; resume(): void }];
    response.resume();
    assert.equal(response.statusCode, 200);
    await cluster.close();
  });

  test('turns auth on, with tokens that live as long as asked', async () => {
    const cluster = await started({ auth: { rootPassword: 'secret' }, authTokenTtlSeconds: 1 });
    const denied = await call(cluster.endpoint, 'kv/range', { key: base64('a') });
    assert.match(errorOf(denied), /user name is empty/);
    const { token } = await call(cluster.endpoint, 'auth/authenticate', { name: 'root', password: 'secret' });
    const allowed = await call(cluster.endpoint, 'kv/range', { key: base64('a') }, String(token));
    assert.ok('header' in allowed);
    await until(async () => {
      // Each use renews it, so it has to be left alone for its time, which etcd looks at once a second.
      await new Promise((resolve) => setTimeout(resolve, 2200));
      const late = await call(cluster.endpoint, 'kv/range', { key: base64('a') }, String(token));
      return errorOf(late).includes('invalid auth token');
    });
    await cluster.close();
  });

  test('takes other ports when the first are taken, and says what etcd logged when it cannot start', async () => {
    await assert.rejects(startEtcd({ args: ['--no-such-flag'] }), /etcd ended while starting.*no-such-flag/s);
    const squatter = createServer().listen(0, '127.0.0.1');
    await once(squatter, 'listening');
    const { port } = squatter.address() as { port: number };
    const url = `http://127.0.0.1:${port}`;
    await assert.rejects(startEtcd({ args: [`--listen-client-urls=${url}`] }), /address already in use/);
    squatter.close();
  });

  test('says in one line how to get etcd when there is none', async () => {
    await assert.rejects(startEtcd({ binary: '/nowhere/etcd' }), (error: Error) => {
      assert.match(
        error.message,
        /^no etcd found at \/nowhere\/etcd: .*apt-get install etcd-server.*CONCLAVE_ETCD/,
      );
      assert.ok(!error.message.includes('\n'));
      return true;
    });
  });

  test('refuses unknown options', async () => {
    const watchdogs = (): string[] => {
      const { stdout } = spawnSync('ps', ['-A', '-o', 'ppid=,pid=,args='], { encoding: 'utf8' });
      const ours = new RegExp(`^ *${process.pid} .*conclave-etcd-watchdog`);
      return stdout.split('\n').filter((line) => ours.test(line));
    };
    const before = new Set(watchdogs());
    await assert.rejects(startEtcd({ memebers: 3 } as object), TypeError);
    await assert.rejects(startEtcd({ clientCertAuth: true }), TypeError);
    assert.deepEqual(
      watchdogs().filter((line) => !before.has(line)),
      [],
      'nothing was started for it',
    );
  });
});

describe('an etcd whose parent ends without closing it', () => {
  const script = path.join(path.dirname(fileURLToPath(import.meta.url)), 'etcd-parent.js');

  /** Runs a process that starts an etcd and then ends in the given way; resolves with the ids once it has ended. */
  async function orphan(way: string): Promise<{ pid: number; folder: string }> {
    const parent = spawn(process.execPath, [script, way], { stdio: ['pipe', 'pipe', 'ignore'] });
    const [line] = (await once(parent.stdout, 'data')) as [Buffer];
    if (way.startsWith('SIG')) parent.kill(way as NodeJS.Signals);
    else parent.stdin.end('go\n');
    await once(parent, 'exit');
    return JSON.parse(line.toString()) as { pid: number; folder: string };
  }

  for (const way of ['exit', 'throw', 'drain', 'SIGTERM', 'SIGINT', 'SIGKILL']) {
    test(`is gone, with its folder, after: ${way}`, async () => {
      const { pid, folder } = await orphan(way);
      await until(() => !isAlive(pid), { what: `etcd ${pid} is gone` });
      await until(() => !existsSync(folder), { what: `${folder} is gone` });
    });
  }
});
