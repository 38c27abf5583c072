// Three members: some frozen, killed, restarted or cut off, with and without a proxy before each.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { hasCode, Mutex } from 'conclave';
import { type EtcdCluster, type EtcdMember, startEtcd } from 'conclave/testing';
import { until } from '../support/until.js';
import { assertNothingLeft, Scene, timed } from './scene.js';

describe('a cluster of three members', () => {
  let etcd: EtcdCluster;
  before(async () => {
    etcd = await startEtcd({ electionTimeoutMs: 500, heartbeatIntervalMs: 50, members: 3 });
  });
  after(async () => {
    await assertNothingLeft(etcd);
    await etcd.close();
  });

  async function leader(): Promise<EtcdMember> {
    return until(() => etcd.leader(), { what: 'the cluster has a leader' });
  }

  /** One member that leads and two that follow. */
  async function roles(): Promise<{ leads: EtcdMember; follows: readonly EtcdMember[] }> {
    const leads = await leader();
    return { follows: etcd.members.filter((member) => member !== leads), leads };
  }

  test('a waiter outlives a time without a leader', async (t) => {
    const scene = new Scene(t, etcd);
    const { follows, leads } = await roles();
    const holder = await new Mutex(await scene.session(scene.direct, { ttlSeconds: 30 }), 'outlive').lock();
    const client = scene.client(leads.endpoint, { timeoutMs: 700 });
    const session = await scene.session(client, { ttlSeconds: 30, timeoutMs: 5000 });
    // The line of the name is opened while nobody can answer its first read.
    const waiting = new Mutex(session, 'outlive').lock();
    await Promise.all(follows.map((member) => member.pause()));
    for (let at = 0; at < 6; at++) await timed(client.kv.get('x'));
    await Promise.all(follows.map((member) => member.resume()));
    await leader();
    await until(
      () =>
        holder.unlock().then(
          () => true,
          () => false,
        ),
      { timeoutMs: 20_000 },
    );
    const settled = await timed(waiting);
    // What could not be written was refused; a place in line that was taken is kept.
    assert.ok(
      settled.value !== undefined || hasCode(settled.error, 'NO_LEADER', 'UNKNOWN_OUTCOME', 'UNAVAILABLE'),
      String(settled.error),
    );
    await settled.value?.unlock();
    await scene.untilKeys('outlive/', 0);
  });
});
