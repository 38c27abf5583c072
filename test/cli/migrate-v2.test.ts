import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';

import { copyTree, type Outcome } from '#conclave/cli/migrate-v2/copy.js';
import { Client } from 'conclave';
import { EmbeddedServer } from 'conclave/embedded';
import { KeysAPI, type KeysNode } from 'conclave/keys';
import { type EtcdCluster, startEtcd } from 'conclave/testing';

import { until } from '../support/until.js';
import { conclave, start } from './run.js';

const ENABLE_V2 = ['--enable-v2'];

/** Puts into the v2 store; the body says what, as in `value=1&ttl=5`. */
async function put(endpoint: string, key: string, body: string): Promise<void> {
  const response = await fetch(`${endpoint}/v2/keys${key}`, {
    body,
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    method: 'PUT',
  });
  assert.ok(response.ok, await response.text());
}

/** All below a directory of ours, by path: a file's value, `dir` for a directory. */
async function ours(keys: KeysAPI, directory = '/'): Promise<Record<string, string>> {
  const all: Record<string, string> = {};
  const add = (nodes: readonly KeysNode[] = []): void => {
    for (const node of nodes) {
      all[node.key] = node.dir ? 'dir' : `=${node.value ?? ''}`;
      add(node.nodes);
    }
  };
  add((await keys.get(directory, { recursive: true })).node.nodes);
  return all;
}

describe('conclave migrate-v2 (etcd)', () => {
  let cluster: EtcdCluster;
  let client: Client;

  before(async () => {
    cluster = await startEtcd({ args: ENABLE_V2 });
    client = new Client({ endpoints: [cluster.endpoint] });
  });

  after(async () => {
    await client.close();
    await cluster.close();
  });

  /** Copies `of` to the tree of that prefix; the outcome as printed. */
  async function migrate(
    prefix: string,
    ...args: string[]
  ): Promise<{ code: unknown; stderr: string; said: Record<string, unknown> }> {
    const named = ['--endpoints', cluster.endpoint, '--prefix', prefix, '--json'];
    const { code, stderr, stdout } = await conclave(['migrate-v2', ...named, ...args]);
    return { code, said: stdout === '' ? {} : (JSON.parse(stdout) as Record<string, unknown>), stderr };
  }

  it('copies directories, empty ones too, values, what is left of TTLs, and hidden nodes that are named', async () => {
    const { endpoint } = cluster;
    await put(endpoint, '/all/empty', 'dir=true');
    await put(endpoint, '/all/text', `value=${encodeURIComponent('ü 語 𝄞 \u2028\n"\\ \ufffd \\ufffd')}`);
    await put(endpoint, '/all/none', 'value=');
    await put(endpoint, `/all/${encodeURIComponent('a b?#%&+"\\ü')}/c`, 'value=odd');
    await put(endpoint, '/all/short', 'value=s&ttl=600');
    await put(endpoint, '/all/dying', 'dir=true&ttl=900');
    await put(endpoint, '/all/dying/file', 'value=d');
    await put(endpoint, '/all/_hidden/file', 'value=h');

    const first = await migrate('all', '/all');
    assert.equal(first.code, 0, first.stderr);
    const keys = new KeysAPI(client, { prefix: 'all' });
    const all = {
      '/all': 'dir',
      '/all/a b?#%&+"\\ü': 'dir',
      '/all/a b?#%&+"\\ü/c': '=odd',
      '/all/dying': 'dir',
      '/all/dying/file': '=d',
      '/all/empty': 'dir',
      '/all/none': '=',
      '/all/short': '=s',
      '/all/text': '=ü 語 𝄞 \u2028\n"\\ \ufffd \\ufffd',
    };
    assert.deepEqual(await ours(keys), all);
    for (const [key, most] of Object.entries({ '/all/dying': 900, '/all/short': 600 })) {
      const { ttl = 0 } = (await keys.get(key)).node;
      assert.ok(ttl > most - 60 && ttl <= most, `${key}: ${ttl}`);
    }
    assert.equal((await keys.get('/all/text')).node.ttl, undefined);
    await assert.rejects(keys.get('/all/_hidden'), { errorCode: 100 });

    const again = await migrate('all', '/all', '/all/_hidden');
    assert.deepEqual([again.code, again.said['created'], again.said['same']], [0, 2, 9], again.stderr);
    assert.deepEqual(await ours(keys, '/all/_hidden'), { '/all/_hidden/file': '=h' });
  });

  it('copies all from the root by default', async () => {
    await put(cluster.endpoint, '/at-root', 'value=r');
    const { code, stderr } = await migrate('root');
    assert.equal(code, 0, stderr);
    assert.equal((await new KeysAPI(client, { prefix: 'root' }).get('/at-root')).node.value, 'r');
  });

  it('gives a path named below a directory that expires the directory with its TTL, and none of its other nodes', async () => {
    await put(cluster.endpoint, '/above', 'dir=true&ttl=700');
    await put(cluster.endpoint, '/above/it', 'value=i');
    await put(cluster.endpoint, '/above/other', 'value=o');
    assert.equal((await migrate('above', '/above/it')).code, 0);
    const keys = new KeysAPI(client, { prefix: 'above' });
    assert.deepEqual(await ours(keys), { '/above': 'dir', '/above/it': '=i' });
    assert.ok(((await keys.get('/above')).node.ttl ?? 0) > 600);
  });

  it('overwrites nothing, and names what differs; with --force the v2 store wins, but for what is of another kind', async () => {
    const { endpoint } = cluster;
    for (const name of ['same', 'value', 'ttl', 'file']) await put(endpoint, `/over/${name}`, 'value=v2');
    await put(endpoint, '/over/dir/file', 'value=v2');
    await put(endpoint, '/over/life', 'dir=true&ttl=500');
    const keys = new KeysAPI(client, { prefix: 'over' });
    await keys.set('/over/same', 'v2');
    await keys.set('/over/value', 'v3');
    await keys.set('/over/ttl', 'v2', { ttl: 300 });
    await keys.set('/over/file', undefined, { dir: true });
    await keys.set('/over/dir', 'v3');
    await keys.set('/over/life', undefined, { dir: true });
    const before = await ours(keys);

    const gentle = await migrate('over', '/over');
    assert.equal(gentle.code, 65);
    assert.deepEqual(await ours(keys), before);
    const leftOut = gentle.said['leftOut'] as readonly Outcome[];
    assert.deepEqual(
      leftOut.map(({ fate, path: key, why }) => [key, fate, why]).sort(),
      [
        ['/over/dir', 'blocked', 'a file is there, and here a directory is wanted'],
        ['/over/dir/file', 'blocked', 'a file stands on the way to it'],
        ['/over/file', 'blocked', 'a directory is there, and here a file is wanted'],
        ['/over/life', 'different', 'what is there does not expire'],
        ['/over/ttl', 'different', 'what is there expires'],
        ['/over/value', 'different', 'another value is there'],
      ],
      gentle.stderr,
    );
    for (const { path: key } of leftOut) assert.ok(gentle.stderr.includes(`"${key}" is left out`));

    const dry = await migrate('over', '/over', '--force', '--dry-run');
    assert.equal(dry.said['replaced'], 3, dry.stderr);
    assert.deepEqual(await ours(keys), before);
    const forced = await migrate('over', '/over', '--force');
    assert.deepEqual([forced.code, forced.said['replaced'], forced.said['blocked']], [65, 3, 3]);
    assert.deepEqual(await ours(keys), { ...before, '/over/value': '=v2' });
    assert.equal((await keys.get('/over/ttl')).node.ttl, undefined);
    assert.ok(((await keys.get('/over/life')).node.ttl ?? 0) > 400);
  });

  it('writes nothing with --dry-run, and prints what it would', async () => {
    await put(cluster.endpoint, '/dry/a/b', 'value=1');
    const named = ['--endpoints', cluster.endpoint, '--prefix', 'dry'];
    const { code, stdout } = await conclave(['migrate-v2', ...named, '--dry-run', '/dry']);
    assert.equal(code, 0);
    assert.match(
      stdout,
      /^create {3}"\/dry"\ncreate {3}"\/dry\/a"\ncreate {3}"\/dry\/a\/b"\n3 would be created,/,
    );
    assert.deepEqual(await client.kv.range({ prefix: 'dry' }).then(({ kvs }) => kvs), []);
  });

  it('names what is not UTF-8, has a NUL in its name or lies too deep, and copies the rest', async () => {
    const { endpoint } = cluster;
    await put(endpoint, '/unfit/bytes', 'value=%ff');
    await put(endpoint, '/unfit/n%ff', 'value=1');
    await put(endpoint, '/unfit/n%00', 'value=1');
    await put(endpoint, `/unfit/${Array.from({ length: 100 }, () => 'd').join('/')}`, 'value=1');
    await put(endpoint, '/unfit/fine', 'value=1');
    const { code, said, stderr } = await migrate('unfit', '/unfit');
    assert.equal(code, 65);
    const leftOut = said['leftOut'] as readonly Outcome[];
    assert.deepEqual([said['unfit'], leftOut.length], [4, 4], stderr);
    const why = Object.fromEntries(leftOut.map((each) => [each.path, each.why]));
    assert.equal(why['/unfit/bytes'], 'its name or value is not UTF-8');
    assert.equal(why['/unfit/n\ufffd'], 'its name or value is not UTF-8');
    assert.match(why['/unfit/n\0'] ?? '', /NUL/);
    assert.match(stderr, /at most 100 parts, not 101/);
    const there = await ours(new KeysAPI(client, { prefix: 'unfit' }));
    // The directories down to the hundredth, the root of them all, and the file.
    assert.equal(Object.keys(there).length, 99 + 1 + 1);
    assert.equal(there['/unfit/fine'], '=1');
  });

  it('killed in the middle, it goes on with the next run', async () => {
    const names = Array.from({ length: 600 }, (_, at) => `/many/${at % 20}/${at}`);
    const left = names.values();
    const lane = async (): Promise<void> => {
      for (const name of left) await put(cluster.endpoint, name, `value=${name}`);
    };
    await Promise.all(Array.from({ length: 16 }, lane));
    const args = ['migrate-v2', '--endpoints', cluster.endpoint, '--prefix', 'many', '/many'];
    const written = async (): Promise<number> =>
      client.kv.range({ prefix: 'many/' }, { countOnly: true }).then(({ count }) => Number(count));
    await using killed = start(args);
    await until(async () => (await written()) > 50, { timeoutMs: 20_000, what: 'fifty nodes' });
    killed.kill('SIGKILL');
    await killed.ended;
    assert.ok((await written()) < 621, 'it was over before it was killed');
    const { code, said, stderr } = await migrate('many', '/many');
    assert.equal(code, 0, stderr);
    assert.equal(Number(said['created']) + Number(said['same']), 621);
    assert.ok(Number(said['same']) > 50);
    const there = await ours(new KeysAPI(client, { prefix: 'many' }));
    assert.equal(Object.keys(there).length, 621);
    for (const name of names) assert.equal(there[name], `=${name}`);
  });

  it('lets createInOrder go on above the names that v2 has given', async () => {
    await put(cluster.endpoint, '/line/00000000900000000000', 'value=last');
    assert.equal((await migrate('line', '/line')).code, 0);
    const keys = new KeysAPI(client, { prefix: 'line' });
    const next = [await keys.createInOrder('/line', 'a'), await keys.createInOrder('/line', 'b')];
    assert.deepEqual(
      next.map(({ node }) => node.key),
      ['/line/00000000900000000001', '/line/00000000900000000002'],
    );
    assert.equal((await migrate('line', '/line')).code, 0);
    assert.equal((await keys.createInOrder('/line', 'c')).node.key, '/line/00000000900000000003');
  });

  it('says what is wrong with the source or the target, with exit code 69', async () => {
    const none = await migrate('none', '/nothing/here');
    assert.deepEqual([none.code, none.said], [69, {}]);
    assert.match(none.stderr, /there is no "\/nothing\/here" in the v2 store/);
    const nobody = await migrate('none', '--from', '127.0.0.1:1');
    assert.equal(nobody.code, 69);
    assert.match(nobody.stderr, /127\.0\.0\.1:1: nothing listens there; check --from/);
    const tls = await migrate('none', '--from', cluster.endpoint.replace('http:', 'https:'));
    assert.match(tls.stderr, /does not speak TLS/);
    const target = await conclave(['migrate-v2', '--from', cluster.endpoint, '--endpoints', '127.0.0.1:1']);
    assert.equal(target.code, 69);
    assert.match(target.stderr, /nothing listens at 127\.0\.0\.1:1/);
    await using plain = await startEtcd({});
    const without = await conclave(['migrate-v2', '--endpoints', plain.endpoint]);
    assert.equal(without.code, 69);
    assert.match(without.stderr, /no v2 API is there \(HTTP 404\).*--enable-v2/);
  });

  it('asks the next member when one is gone', async () => {
    await put(cluster.endpoint, '/next', 'value=1');
    const { code, stderr } = await migrate('next', '--from', `127.0.0.1:1,${cluster.endpoint}`, '/next');
    assert.equal(code, 0, stderr);
  });
});

describe('conclave migrate-v2 with TLS and users (etcd)', () => {
  it('speaks TLS and gives the v2 user to the v2 store, the other one to etcd v3', async () => {
    await using cluster = await startEtcd({
      args: ENABLE_V2,
      auth: { rootPassword: 'third' },
      tls: true,
    });
    const folder = mkdtempSync(path.join(tmpdir(), 'conclave-cli-'));
    const ca = path.join(folder, 'ca.pem');
    try {
      writeFileSync(ca, cluster.tls?.ca ?? '');
      await ask(cluster, 'PUT', '/v2/keys/secret', 'value=s');
      await ask(cluster, 'PUT', '/v2/auth/users/root', '{"user":"root","password":"second"}');
      await ask(cluster, 'PUT', '/v2/auth/enable', '');
      const noMore = { kv: { read: ['/*'], write: ['/*'] } };
      await ask(cluster, 'PUT', '/v2/auth/roles/guest', JSON.stringify({ revoke: noMore, role: 'guest' }));

      const args = ['migrate-v2', '--endpoints', cluster.endpoint, '--cacert', ca];
      const nobody = await conclave(args);
      assert.equal(nobody.code, 69);
      assert.match(nobody.stderr, /the v2 store wants a user that may read \/: give --from-user/);
      const env = { CONCLAVE_FROM_PASSWORD: 'second', CONCLAVE_FROM_USER: 'root' };
      const onlyOne = await conclave(args, { env });
      assert.equal(onlyOne.code, 69);
      assert.match(onlyOne.stderr, /this server wants a user|user name is empty/);
      const { code, stderr, stdout } = await conclave([...args, '--user', 'root:third'], { env });
      assert.equal(code, 0, stderr);
      assert.match(stdout, /^1 created/);
      const stranger = await conclave([
        'migrate-v2',
        '--endpoints',
        cluster.endpoint,
        '--from-user',
        'root:x',
      ]);
      assert.match(stranger.stderr, /check --cacert/);
    } finally {
      rmSync(folder, { force: true, recursive: true });
    }
  });

  /** One request of v2's API, as root. */
  async function ask(cluster: EtcdCluster, method: string, where: string, body: string): Promise<void> {
    const type = body.startsWith('{') ? 'application/json' : 'application/x-www-form-urlencoded';
    const status = await new Promise<number>((resolve, reject) => {
      const asked = request(
        `${cluster.endpoint}${where}`,
        { agent: false, auth: 'root:second', ca: cluster.tls?.ca, headers: { 'content-type': type }, method },
        (reply) => {
          reply.resume();
          reply.on('end', () => resolve(reply.statusCode ?? 0));
        },
      );
      asked.on('error', reject);
      asked.end(body);
    });
    assert.ok(status < 300, `${where}: ${status}`);
  }
});

describe('copying a v2 tree', () => {
  it('leaves out what has expired since it was read, and makes no directory anew that has', async () => {
    await using server = await EmbeddedServer.start({ port: 0 });
    await using client = new Client({ endpoints: [server.endpoint] });
    const file = { dir: false, flaw: undefined, lastInOrder: undefined, value: 'x' };
    const past = client.clock.now() - 1;
    const outcomes: Outcome[] = [];
    await copyTree(
      [
        { ...file, dir: true, expiresAt: past, goneAt: past, path: '/gone' },
        { ...file, expiresAt: undefined, goneAt: past, path: '/gone/below' },
        { ...file, expiresAt: undefined, goneAt: Infinity, path: '/not-there/below' },
      ],
      {
        client,
        dryRun: false,
        force: true,
        prefix: 'p',
        report: (outcome) => outcomes.push(outcome),
        signal: new AbortController().signal,
      },
    );
    assert.deepEqual(
      outcomes.map(({ fate }) => fate),
      ['expired', 'expired', 'blocked'],
    );
    assert.match(outcomes[2]?.why ?? '', /has expired or was deleted there meanwhile; run it again/);
    assert.deepEqual((await client.kv.range({ prefix: '' })).kvs, []);
  });
});
