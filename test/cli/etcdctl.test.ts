import assert from 'node:assert/strict';
import { afterEach, describe, it } from 'node:test';

import { onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';
import { conclave, Running, start } from './run.js';

/** Starts etcdctl, which Debian has in the package etcd-client. */
function etcdctl(endpoints: readonly string[], ...args: string[]): Running {
  return new Running('etcdctl', [`--endpoints=${endpoints.join(',')}`, ...args]);
}

/** Runs etcdctl to its end with `input`; resolves with its output, rejects unless it exits with 0. */
async function ask(endpoints: readonly string[], args: readonly string[], input = ''): Promise<string> {
  await using running = etcdctl(endpoints, ...args);
  running.process.stdin?.end(input);
  assert.equal(await running.ended, 0, `etcdctl ${args.join(' ')}: ${running.stderr}`);
  return running.stdout;
}

onEachBackend('etcdctl and conclave', (backend) => {
  const at = (): { env: Record<string, string> } => ({
    env: { CONCLAVE_ENDPOINTS: backend.endpoints.join(',') },
  });

  async function keysBelow(name: string, count: bigint): Promise<void> {
    const client = backend.client();
    await until(async () => (await client.kv.range({ prefix: `${name}/` })).count === count);
  }

  // etcdctl deletes its key when it ends but leaves its lease to run out.
  afterEach(async () => {
    const client = backend.client();
    for (const leaseId of await client.lease.list()) await client.lease.revoke(leaseId);
  });

  it('exclude each other from a lock: etcdctl lock first', async () => {
    await using theirs = etcdctl(backend.endpoints, 'lock', 'shared-a');
    await theirs.lines(1);
    assert.equal((await conclave(['lock', 'shared-a', '-n', '--', 'echo', 'ran'], at())).code, 75);
    await using ours = start(['lock', 'shared-a', '--', 'echo', 'ran'], at());
    await keysBelow('shared-a', 2n);
    assert.equal(ours.stdout, '');
    theirs.kill('SIGINT');
    assert.equal(await theirs.ended, 0);
    assert.equal(await ours.ended, 0);
    assert.equal(ours.stdout, 'ran\n');
  });

  it('exclude each other from a lock: conclave lock first', async () => {
    await using ours = start(['lock', 'shared-b'], at());
    await ours.lines(1);
    await using theirs = etcdctl(backend.endpoints, 'lock', 'shared-b');
    await keysBelow('shared-b', 2n);
    assert.equal(theirs.stdout, '');
    ours.kill('SIGINT');
    assert.equal(await ours.ended, 0);
    assert.match((await theirs.lines(1))[0] ?? '', /^shared-b\//);
    theirs.kill('SIGINT');
    assert.equal(await theirs.ended, 0);
  });

  it('exclude each other from a leadership: etcdctl elect first', async () => {
    await using theirs = etcdctl(backend.endpoints, 'elect', 'chair-a', 'theirs');
    await theirs.lines(1);
    assert.equal((await conclave(['elect', 'chair-a', '-n', '--', 'echo', 'ran'], at())).code, 75);
    await using ours = start(['elect', 'chair-a', '--', 'echo', 'ran'], at());
    await keysBelow('chair-a', 2n);
    assert.equal(ours.stdout, '');
    theirs.kill('SIGINT');
    assert.equal(await theirs.ended, 0);
    assert.equal(await ours.ended, 0);
    assert.equal(ours.stdout, 'ran\n');
  });

  it('exclude each other from a leadership: conclave elect first, seen by etcdctl elect -l', async () => {
    await using ours = start(['elect', 'chair-b', '--value', 'ours'], at());
    await ours.lines(1);
    await using listener = etcdctl(backend.endpoints, 'elect', '-l', 'chair-b');
    assert.equal((await listener.lines(2))[1], 'ours');
    await using theirs = etcdctl(backend.endpoints, 'elect', 'chair-b', 'theirs');
    await keysBelow('chair-b', 2n);
    assert.equal(theirs.stdout, '');
    ours.kill('SIGINT');
    assert.equal(await ours.ended, 0);
    assert.equal((await theirs.lines(2))[1], 'theirs');
    await until(() => listener.stdout.includes('theirs'));
    theirs.kill('SIGINT');
    assert.equal(await theirs.ended, 0);
  });
});

describe('etcdctl against conclave serve', () => {
  /** Runs `use` with a server of its own. */
  async function served(
    use: (etcd: (args: string, input?: string) => Promise<string>, endpoints: string[]) => Promise<void>,
  ): Promise<void> {
    await using server = start(['serve', '--port', '0', '--json']);
    const { endpoint } = JSON.parse((await server.lines(1))[0] ?? '') as { endpoint: string };
    const endpoints = [endpoint.replace('http://', '')];
    await use((args, input) => ask(endpoints, args.split(' '), input), endpoints);
    server.kill('SIGTERM');
    assert.equal(await server.ended, 0);
  }

  it('puts, gets, deletes and runs transactions', async () => {
    await served(async (etcd) => {
      assert.equal(await etcd('put a 1'), 'OK\n');
      assert.equal(await etcd('put a 2 --prev-kv'), 'OK\na\n1\n');
      assert.equal(await etcd('put b 3'), 'OK\n');
      assert.equal(await etcd('get a'), 'a\n2\n');
      assert.equal(await etcd('get a --rev=2'), 'a\n1\n');
      assert.equal(await etcd('get --keys-only --from-key a'), 'a\n\nb\n\n');
      const taken = await etcd('txn', 'mod("a") = "3"\nversion("b") = "1"\n\nput a 4\nget b\n\nput a 5\n\n');
      assert.equal(taken, 'SUCCESS\n\nOK\n\nb\n3\n');
      assert.match(await etcd('txn', 'value("a") = "2"\n\nput a 6\n\nget a\n\n'), /^FAILURE\n\na\n4\n/);
      assert.equal(await etcd('del a --prev-kv'), '1\na\n4\n');
      assert.equal(await etcd('get a'), '');
      assert.equal(await etcd('del --prefix b'), '1\n');
    });
  });

  it('watches, from now and from the past', async () => {
    await served(async (etcd, endpoints) => {
      await etcd('put w/1 a');
      await using past = etcdctl(endpoints, 'watch', '--prefix', 'w/', '--rev=1');
      assert.deepEqual(await past.lines(3), ['PUT', 'w/1', 'a']);
      await etcd('put w/1 b');
      await etcd('del w/1');
      // etcdctl prints a deletion with an empty value.
      assert.deepEqual(await past.lines(9), ['PUT', 'w/1', 'a', 'PUT', 'w/1', 'b', 'DELETE', 'w/1', '']);
    });
  });

  it('grants, renews, asks after and revokes leases', async () => {
    await served(async (etcd, endpoints) => {
      const [, id = ''] = /^lease (\w+) granted with TTL\(60s\)/.exec(await etcd('lease grant 60')) ?? [];
      await etcd(`put --lease=${id} leased x`);
      const life = new RegExp(
        `lease ${id} granted with TTL\\(60s\\), remaining\\((59|60)s\\), attached keys\\(\\[leased\\]\\)`,
      );
      assert.match(await etcd(`lease timetolive ${id} --keys`), life);
      assert.match(await etcd('lease list'), new RegExp(id));
      assert.match(
        await etcd(`lease keep-alive --once ${id}`),
        new RegExp(`lease ${id} keepalived with TTL\\(60\\)`),
      );
      await using alive = etcdctl(endpoints, 'lease', 'keep-alive', id);
      await alive.lines(1);
      assert.equal(await etcd(`lease revoke ${id}`), `lease ${id} revoked\n`);
      assert.equal(await etcd('get leased'), '');
      assert.match(await etcd(`lease timetolive ${id}`), /already expired/);
    });
  });

  it('locks and elects, one after the other', async () => {
    await served(async (etcd, endpoints) => {
      for (const verb of [
        ['lock', 'l'],
        ['elect', 'e', 'x'],
      ]) {
        await using first = etcdctl(endpoints, ...verb);
        await first.lines(1);
        await using second = etcdctl(endpoints, ...verb);
        await until(
          async () =>
            (await etcd(`get --prefix --keys-only ${verb[1] ?? ''}/`)).trim().split(/\n+/).length === 2,
        );
        assert.equal(second.stdout, '');
        first.kill('SIGINT');
        assert.equal(await first.ended, 0);
        await second.lines(1);
        second.kill('SIGINT');
        assert.equal(await second.ended, 0);
      }
      assert.equal(await etcd('lock l -- echo ran'), 'ran\n');
    });
  });

  it('tells the status of the endpoint and the members', async () => {
    await served(async (etcd, endpoints) => {
      const [endpoint = ''] = endpoints;
      const [status] = JSON.parse(await etcd('endpoint status -w json')) as [
        { Endpoint: string; Status: { header: { member_id: number }; version: string; leader: number } },
      ];
      assert.equal(status.Endpoint, endpoint);
      assert.match(status.Status.version, /^3\.\d+\.\d+/);
      assert.equal(status.Status.leader, status.Status.header.member_id);
      // Newer versions say so on stdout, 3.4 on stderr; the exit code is the same.
      await etcd('endpoint health');
      const { members } = JSON.parse(await etcd('member list -w json')) as {
        members: { clientURLs: string[] }[];
      };
      assert.deepEqual(
        members.map((member) => member.clientURLs),
        [[`http://${endpoint}`]],
      );
    });
  });

  it('compacts, after which the past cannot be read', async () => {
    await served(async (etcd, endpoints) => {
      for (const value of ['1', '2', '3']) await etcd(`put c ${value}`);
      assert.equal(await etcd('compaction 3'), 'compacted revision 3\n');
      assert.equal(await etcd('get c --rev=3'), 'c\n2\n');
      await using past = etcdctl(endpoints, 'get', 'c', '--rev=2');
      assert.notEqual(await past.ended, 0);
      assert.match(past.stderr, /required revision has been compacted/);
    });
  });
});
