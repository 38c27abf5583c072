// What administers a cluster does what it says, on a real one of three members.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { Client, hasCode } from 'conclave';
import { type EtcdCluster, startEtcd } from 'conclave/testing';

import { startFakeEtcd } from '../support/fake-etcd.js';
import { until } from '../support/until.js';

describe('a cluster of three', () => {
  let etcd: EtcdCluster;
  let client: Client;
  before(async () => {
    etcd = await startEtcd({ members: 3 });
    client = new Client({ endpoints: etcd.endpoints, timeoutMs: 10_000 });
  });
  after(async () => {
    await client.close();
    await etcd.close();
  });

  test('lists its members, as a quorum knows them and as one does', async () => {
    const members = await client.cluster.memberList();
    assert.deepEqual(members.flatMap(({ clientUrls }) => clientUrls).sort(), [...etcd.endpoints].sort());
    assert.ok(members.every(({ id, isLearner, name }) => id > 0n && !isLearner && name !== ''));
    const seen = await client.cluster.memberList({ serializable: true });
    assert.deepEqual(seen.map(({ id }) => id).sort(), members.map(({ id }) => id).sort());
  });

  test('takes a learner, lets its addresses be changed, does not promote it before it has caught up, and drops it', async () => {
    const { cluster } = client;
    const added = await cluster.memberAdd(['http://127.0.0.1:1'], { learner: true });
    assert.equal(added.isLearner, true);
    const changed = await cluster.memberUpdate(added.id, ['http://127.0.0.1:2']);
    assert.deepEqual(changed.find(({ id }) => id === added.id)?.peerUrls, ['http://127.0.0.1:2']);
    await assert.rejects(cluster.memberPromote(added.id), (error) => hasCode(error, 'LEARNER_NOT_READY'));
    assert.equal((await cluster.memberRemove(added.id)).length, 3);
    await assert.rejects(cluster.memberRemove(added.id), (error) => hasCode(error, 'MEMBER_NOT_FOUND'));
  });

  test('hands its leadership to the member that is named, when its leader is asked', async () => {
    const all = await Promise.all(
      etcd.endpoints.map(async (endpoint) => ({
        endpoint,
        ...(await client.maintenance.status({ endpoint })),
      })),
    );
    const leader = all.find(({ leader: its, memberId }) => its === memberId);
    const follower = all.find(({ leader: its, memberId }) => its !== memberId);
    assert.ok(leader && follower);
    const move = (endpoint: string): Promise<void> =>
      client.maintenance.moveLeader(follower.memberId, { endpoint });
    await assert.rejects(move(follower.endpoint), (error) => hasCode(error, 'NOT_LEADER'));
    await move(leader.endpoint);
    await until(async () => (await client.maintenance.status()).leader === follower.memberId);
  });

  test('tells of each member its state and a hash, which are the same; gives back space; has no alarm', async () => {
    const { revision } = await client.kv.put('hashed', '1');
    await until(async () => {
      const all = await Promise.all(
        etcd.endpoints.map((endpoint) => client.maintenance.status({ endpoint })),
      );
      return all.every((status) => status.revision >= revision);
    });
    const hashes = await Promise.all(
      etcd.endpoints.map((endpoint) => client.maintenance.hashKv(revision, { endpoint })),
    );
    assert.equal(new Set(hashes.map(({ hash }) => hash)).size, 1);
    const { endpoint } = etcd;
    const whole = await client.maintenance.hash({ endpoint });
    assert.deepEqual(await client.maintenance.hash({ endpoint }), whole);
    assert.ok(whole.hash > 0 && whole.revision >= revision);
    for (const each of etcd.endpoints) {
      await client.maintenance.defragment({ endpoint: each, timeoutMs: 20_000 });
      const { dbSize, dbSizeInUse, errors, isLearner } = await client.maintenance.status({ endpoint: each });
      assert.ok(dbSizeInUse > 0n && dbSizeInUse <= dbSize);
      assert.deepEqual([...errors, isLearner], [false]);
    }
    assert.deepEqual(await client.maintenance.alarmList(), []);
    assert.deepEqual(await client.maintenance.alarmDisarm(), []);
    await client.kv.delete('hashed');
  });

  test('keeps users, roles and what they may', async () => {
    const { auth } = client;
    await auth.userAdd('ada', 'secret');
    await auth.userChangePassword('ada', 'other');
    await auth.roleAdd('reader');
    await auth.roleAdd('writer');
    await auth.roleGrantPermission('reader', 'read', { prefix: 'a/' });
    await auth.roleGrantPermission('writer', 'readwrite', 'b');
    await auth.userGrantRole('ada', 'reader');
    await auth.userGrantRole('ada', 'writer');
    assert.deepEqual([...(await auth.userGet('ada'))].sort(), ['reader', 'writer']);
    assert.ok((await auth.userList()).includes('ada'));
    assert.deepEqual([...(await auth.roleList())].sort(), ['reader', 'writer']);
    const [permission, ...more] = await auth.roleGet('reader');
    assert.equal(permission?.access, 'read');
    assert.equal(more.length, 0);
    await auth.roleRevokePermission('reader', { prefix: 'a/' });
    assert.deepEqual(await auth.roleGet('reader'), []);
    await auth.userRevokeRole('ada', 'reader');
    assert.deepEqual(await auth.userGet('ada'), ['writer']);
    for (const role of ['reader', 'writer']) await auth.roleDelete(role);
    await auth.userDelete('ada');
    await assert.rejects(auth.userGet('ada'), (error) => hasCode(error, 'USER_NOT_FOUND'));
    assert.deepEqual([await auth.userList(), await auth.roleList()], [[], []]);
  });

  test('says whether it could be downgraded, and whether authentication is on, since etcd 3.5', async () => {
    await using one = new Client({ endpoints: etcd.endpoint });
    const [, minor = ''] = (await one.maintenance.serverVersion()).split('.');
    const downgrade = () => one.maintenance.downgrade('validate', `3.${Number(minor) - 1}.0`);
    const status = () => one.auth.status();
    if (Number(minor) < 5) {
      const isTooEarly = (error: unknown): boolean =>
        hasCode(error, 'NOT_ETCD') && /a later etcd does/.test(error.message);
      await assert.rejects(downgrade, isTooEarly);
      await assert.rejects(status, isTooEarly);
      return;
    }
    assert.match((await downgrade()).version, /^3\.\d+/);
    assert.equal((await status()).enabled, false);
  });
});

/** A handler of one call that always answers the same. */
function says(reply: object) {
  return (_: unknown, answer: (error: null, reply: object) => void): void => answer(null, reply);
}

describe('what only later versions of etcd tell', () => {
  test('is undefined where etcd does not tell it', async (t) => {
    const endpoint = await startFakeEtcd(t, {
      Maintenance: { hashKv: says({ hash: 5 }), status: says({ dbSize: 1n, version: '3.5.30' }) },
    });
    await using client = new Client({ endpoints: endpoint });
    const { dbSizeQuota, downgradeInfo, storageVersion } = await client.maintenance.status();
    assert.deepEqual([dbSizeQuota, downgradeInfo, storageVersion], [undefined, undefined, undefined]);
    assert.equal((await client.maintenance.hashKv()).hashRevision, undefined);
  });

  test('is given as it is told (a member that is played)', async (t) => {
    const told = {
      dbSizeQuota: 2_147_483_648n,
      downgradeInfo: { enabled: true, targetVersion: '3.6.0' },
      storageVersion: '3.7.0',
    };
    const endpoint = await startFakeEtcd(t, {
      Maintenance: {
        hashKv: says({ hash: 5, hashRevision: 9n }),
        status: says({ ...told, version: '3.7.0' }),
      },
    });
    await using client = new Client({ endpoints: endpoint });
    const { dbSizeQuota, downgradeInfo, storageVersion } = await client.maintenance.status();
    assert.deepEqual({ dbSizeQuota, downgradeInfo: { ...downgradeInfo }, storageVersion }, told);
    assert.equal((await client.maintenance.hashKv()).hashRevision, 9n);
  });
});
