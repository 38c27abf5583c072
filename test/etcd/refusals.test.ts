// What etcd refuses while a client is at work: it is told so at once, under the documented code, and works on.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { Client, compare, op } from 'conclave';
import { type EtcdCluster, FaultProxy, startEtcd } from 'conclave/testing';

import { withCode } from '../contract/support/rejections.js';
import { nextOf, timed } from '../faults/scene.js';
import { further, load } from '../support/load.js';
import { joinMember, removeMember } from '../support/members.js';
import { until } from '../support/until.js';

const rootAuth = { password: 'secret', username: 'root' };

describe('a user', () => {
  let etcd: EtcdCluster;
  let root: Client;
  before(async () => {
    etcd = await startEtcd({ auth: { rootPassword: rootAuth.password } });
    root = new Client({ auth: rootAuth, endpoints: etcd.endpoints });
    await root.auth.roleAdd('reads');
  });
  after(async () => {
    await root.close();
    await etcd.close();
  });

  const add = async (name: string): Promise<Client> => {
    await root.auth.roleGrantPermission('reads', 'read', { prefix: 'a/' });
    await root.auth.userAdd(name, 'pass');
    await root.auth.userGrantRole(name, 'reads');
    return new Client({ auth: { password: 'pass', username: name }, endpoints: etcd.endpoints });
  };

  test('who is removed is AUTH_FAILED, and let in again when he is back', async () => {
    await using client = await add('removed');
    await client.kv.get('a/1');
    await root.auth.userDelete('removed');
    const { error, ms } = await timed(client.kv.get('a/1'));
    withCode('AUTH_FAILED')(error);
    assert.ok(ms < 1000, `${ms} ms`);
    await using back = await add('removed');
    assert.equal(await back.kv.get('a/1'), undefined);
    assert.equal(await client.kv.get('a/1'), undefined);
  });

  test('who loses a permission while a watch runs loses the watch with the next connection, and nothing else', async () => {
    await using proxy = await FaultProxy.start(etcd.endpoint);
    await (await add('loser')).close();
    await using client = new Client({
      auth: { password: 'pass', username: 'loser' },
      endpoints: proxy.endpoint,
    });
    await root.auth.roleGrantPermission('reads', 'read', { prefix: 'b/' });
    const [lost, kept] = [client.watch({ prefix: 'a/' }), client.watch({ prefix: 'b/' })];
    await Promise.all([lost.created, kept.created]);
    await root.auth.roleRevokePermission('reads', { prefix: 'a/' });
    await assert.rejects(client.kv.get('a/1'), withCode('PERMISSION_DENIED'));
    proxy.cut();
    await assert.rejects(lost.next(), withCode('PERMISSION_DENIED'));
    const { revision } = await root.kv.put('b/1', 'x');
    assert.equal((await nextOf(kept)).events[0]?.kv.modRevision, revision);
    kept.close();
    assert.equal((await client.kv.get('b/1'))?.string(), 'x');
  });
});

describe('a cluster', () => {
  // Without the check: else etcd lets a member go only when all have known one another for 5 s.
  const quick = {
    args: ['--strict-reconfig-check=false'],
    electionTimeoutMs: 500,
    heartbeatIntervalMs: 50,
  } as const;

  test('whose member is removed while it is in use loses no call of its clients', async (t) => {
    const etcd = await startEtcd({ ...quick, members: 3 });
    t.after(() => etcd.close());
    const leader = await until(() => etcd.leader());
    const leaving = etcd.members.find((member) => member !== leader);
    assert.ok(leaving !== undefined);
    await using admin = new Client({ endpoints: leader.endpoint });
    const clients: Client[] = [];
    t.after(() => Promise.all(clients.map((client) => client.close())));
    while (!clients.some(({ endpoint }) => endpoint === leaving.endpoint)) {
      const client = new Client({ endpoints: etcd.endpoints });
      clients.push(client);
      await client.kv.get('a');
    }
    const client = clients.at(-1) ?? admin;
    const watch = client.watch('seen');
    await watch.created;
    let written = 0;
    const calls = load(async (name) => {
      const key = `${name}/${++written}`;
      await client.kv.txn({ if: [compare.missing(key)], then: [op.put(key, 'x')] }, { idempotent: true });
      assert.ok((await client.kv.get(key)) !== undefined);
    });
    await further(calls);
    const members = await admin.cluster.memberList();
    const { id } = members.find(({ clientUrls }) => clientUrls.includes(leaving.endpoint)) ?? { id: 0n };
    await removeMember(admin, id);
    await leaving.ended();
    await further(calls);
    await calls.stop();
    await client.kv.put('seen', 'x');
    assert.equal((await nextOf(watch)).events.length, 1);
    watch.close();
  });

  test('whose learner is the only endpoint says so at once, and the client works on with others', async (t) => {
    const etcd = await startEtcd(quick);
    t.after(() => etcd.close());
    await using voter = new Client({ endpoints: etcd.endpoint });
    await voter.kv.put('a', 'x');
    const learner = await joinMember(t, voter, { learner: true });
    await using client = new Client({ endpoints: learner.endpoint });
    await until(
      () =>
        client.maintenance.status().then(
          ({ isLearner, revision }) => isLearner && revision >= 2n,
          () => false,
        ),
      { what: 'it has started' },
    );
    const refused = withCode('NOT_SUPPORTED_FOR_LEARNER');
    const calls = [() => client.kv.get('a'), () => client.kv.put('a', 'y'), () => client.lease.grant(5)];
    for (const call of calls) {
      const { error, ms } = await timed<unknown>(call());
      refused(error);
      assert.ok(ms < 1000, `${ms} ms`);
    }
    await assert.rejects(client.watch('a').next(), refused);
    client.setEndpoints(etcd.endpoint);
    assert.equal((await client.kv.get('a'))?.string(), 'x');
  });

  test('whose snapshot is cut in the middle says UNAVAILABLE, and gives another', async (t) => {
    const etcd = await startEtcd();
    t.after(() => etcd.close());
    await using proxy = await FaultProxy.start(etcd.endpoint);
    await using client = new Client({ endpoints: proxy.endpoint });
    for (let at = 0; at < 20; at++) await client.kv.put(`large/${at}`, Buffer.alloc(1_000_000));
    let bytes = 0;
    const reading = (async () => {
      for await (const part of client.maintenance.snapshot()) {
        if (bytes === 0) proxy.cut();
        bytes += part.length;
      }
    })();
    await assert.rejects(reading, withCode('UNAVAILABLE'));
    const { dbSize } = await client.maintenance.status();
    assert.ok(bytes > 0 && bytes < dbSize);
    let again = 0;
    for await (const part of client.maintenance.snapshot()) again += part.length;
    assert.ok(again > 20_000_000);
  });
});
