import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, it } from 'node:test';

import { Client } from 'conclave';
import { until } from '../support/until.js';
import { conclave, exists, type Running, start } from './run.js';

/** What `--json` prints. */
interface Told {
  readonly endpoints: string[];
  readonly members: { readonly name: string; readonly endpoint: string; readonly pid: number }[];
  readonly pid: number;
}

/** The launcher that is used is told of by its own environment, so that npm test sees what is left running. */
const env = Object.fromEntries(
  ['CONCLAVE_ETCD', 'CONCLAVE_ETCD_PIDS'].flatMap((name) => {
    const value = process.env[name];
    return value === undefined ? [] : [[name, value]];
  }),
);

function startCluster(...args: readonly string[]): Running {
  return start(['cluster', 'start', '--json', ...args], { env });
}

async function told(running: Running): Promise<Told> {
  return JSON.parse((await running.lines(1))[0] ?? '') as Told;
}

/** The folder a member runs in, as Linux tells. */
function folderOf(pid: number): string {
  const args = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
  return path.dirname((args.find((arg) => arg.startsWith('--data-dir=')) ?? '').slice('--data-dir='.length));
}

describe('conclave cluster start', () => {
  it('starts three members that serve, goes on without one, and leaves neither process nor folder', async () => {
    await using running = startCluster('--port', '0');
    const { endpoints, members, pid } = await told(running);
    assert.equal(pid, running.pid);
    assert.deepEqual(
      members.map(({ endpoint }) => endpoint),
      endpoints,
    );
    await using client = new Client({ endpoints });
    assert.equal((await client.cluster.memberList()).length, 3);
    const [first] = members;
    assert.ok(first);
    const folder = folderOf(first.pid);
    assert.ok(existsSync(folder));
    process.kill(first.pid, 'SIGKILL');
    await until(() => running.stderr.includes('has ended'));
    assert.equal(running.stderr, `conclave cluster: member 1, pid ${first.pid}, has ended; 2 left\n`);
    // A read is asked of the others until the two agree on a leader, if the killed one was it.
    assert.equal(await client.kv.get('a', { timeoutMs: 20_000 }), undefined);
    running.kill('SIGTERM');
    assert.equal(await running.ended, 0);
    for (const member of members) assert.ok(!exists(member.pid), `${member.name} still runs`);
    assert.ok(!existsSync(folder));
  });

  it('keeps data, ports and number of members in a folder, and leaves no process there', async () => {
    const dataDir = mkdtempSync(path.join(tmpdir(), 'conclave-cluster-'));
    try {
      let seen: Told | undefined;
      for (const life of ['one', 'two']) {
        // The second life says neither ports nor members.
        const more = seen === undefined ? ['--port', '0', '--members', '1'] : [];
        await using running = startCluster('--data-dir', dataDir, ...more);
        const now = await told(running);
        await using client = new Client({ endpoints: now.endpoints });
        if (seen === undefined) await client.kv.put('life', life);
        else {
          assert.deepEqual(now.endpoints, seen.endpoints);
          assert.equal((await client.kv.get('life'))?.string(), 'one');
        }
        seen = now;
        running.kill('SIGINT');
        assert.equal(await running.ended, 0);
        assert.ok(now.members.every((member) => !exists(member.pid)));
      }
      assert.deepEqual(readdirSync(dataDir), ['conclave-cluster.json', 'member-1', 'member-1.log']);
      const { code, stderr } = await conclave(['cluster', 'start', '--data-dir', dataDir, '--members', '3'], {
        env,
      });
      assert.equal(code, 69);
      assert.match(stderr, /^conclave cluster: cannot start: .* has the data of 1 members, not of 3\n$/);
      const tests = path.join(dataDir, '..');
      const other = await conclave(['cluster', 'start', '--data-dir', tests], { env });
      assert.match(other.stderr, /cannot start: the folder .* is not empty, and has no cluster's data\n$/);
    } finally {
      rmSync(dataDir, { force: true, recursive: true });
    }
  });

  it('gives its members what follows "--", and says what etcd says when it does not start', async () => {
    const { code, stderr } = await conclave(['cluster', 'start', '--port', '0', '--', '--no-such-flag'], {
      env,
    });
    assert.equal(code, 69);
    assert.match(stderr, /cannot start: etcd ended while starting.*no-such-flag/s);
  });

  it('says in one line how to get etcd when there is none, and that a port is taken', async () => {
    const missing = await conclave(['cluster', 'start', '--etcd', '/nowhere/etcd']);
    assert.equal(missing.code, 69);
    assert.match(
      missing.stderr,
      /^conclave cluster: cannot start: no etcd found at \/nowhere\/etcd: on Debian.*\n$/,
    );
    await using server = start(['serve', '--port', '0', '--json']);
    const { endpoint } = JSON.parse((await server.lines(1))[0] ?? '') as { endpoint: string };
    const { port } = new URL(endpoint);
    const taken = await conclave(['cluster', 'start', '--port', port], { env });
    assert.equal(taken.code, 69);
    assert.match(
      taken.stderr,
      new RegExp(
        `^conclave cluster: cannot start: port ${port} of 127.0.0.1 is taken; choose another --port.*\n$`,
      ),
    );
  });

  it('ends while it starts when it is asked to, and leaves nothing', async () => {
    await using running = startCluster('--port', '0');
    await until(() => childrenOf(running.pid).length > 0);
    running.kill('SIGTERM');
    assert.equal(await running.ended, 0);
  });
});

/** The etcd processes that a process has started. */
function childrenOf(pid: number): string[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ');
  return children.filter((child) => child !== '' && readFileSync(`/proc/${child}/comm`, 'utf8') === 'etcd\n');
}
