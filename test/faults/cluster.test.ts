// Three members: some frozen, killed, restarted or cut off, with and without a proxy before each.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { type Client, compare, Election, hasCode, type Lock, Mutex, op, type Session } from 'conclave';
import { type EtcdMember } from 'conclave/testing';
import { until } from '../support/until.js';
import { Random } from './random.js';
import { etcdOfSuite, Scene, timed } from './scene.js';

/** Writes numbered keys until told to stop; resolves with the keys whose write was confirmed. */
function writeOn(client: Client, prefix: string): { stop(): Promise<string[]>; readonly count: number } {
  const confirmed: string[] = [];
  const state = { writing: true };
  const done = (async () => {
    for (let at = 0; state.writing; at++) {
      const key = `${prefix}${at}`;
      const { error } = await timed(
        client.kv.txn({ if: [compare.missing(key)], then: [op.put(key, '')] }, { idempotent: true }),
      );
      if (error === undefined) confirmed.push(key);
    }
  })();
  return {
    get count() {
      return confirmed.length;
    },
    async stop() {
      state.writing = false;
      await done;
      return confirmed;
    },
  };
}

describe('a cluster of three members', () => {
  const etcd = etcdOfSuite({ electionTimeoutMs: 500, heartbeatIntervalMs: 50, members: 3 });

  /** One member that leads and two that follow. */
  async function roles(): Promise<{ leads: EtcdMember; follows: readonly EtcdMember[] }> {
    const leads = await until(() => etcd.leader(), { what: 'the cluster has a leader' });
    return { follows: etcd.members.filter((member) => member !== leads), leads };
  }

  test('a session of 2 s outlives a frozen member, whichever it is connected to', async (t) => {
    const scene = new Scene(t, etcd);
    const { follows } = await roles();
    const [frozen] = follows;
    assert.ok(frozen);
    const sessions: Session[] = [];
    for (let at = 0; at < 6; at++)
      sessions.push(await scene.session(scene.client(etcd.endpoints), { ttlSeconds: 2 }));
    await frozen.pause();
    // Each is renewed for two times to live more.
    const renewals = sessions.map(async (session) => {
      const until2 = performance.now() + 4000;
      for await (const term of session.client.lease.keepAlive(session.leaseId))
        if (term.sentAt > until2) break;
    });
    const [lost] = await Promise.all([Promise.allSettled(renewals)]);
    await frozen.resume();
    assert.deepEqual(
      lost.map(({ status }) => status),
      sessions.map(() => 'fulfilled'),
    );
    assert.deepEqual(
      sessions.map((session) => session.alive),
      sessions.map(() => true),
    );
  });

  test('the leader of the cluster is killed: nothing is lost, nothing is seen twice, the lock is held on', async (t) => {
    const scene = new Scene(t, etcd);
    const { leads } = await roles();
    const client = scene.client(etcd.endpoints);
    const session = await scene.session(client, { ttlSeconds: 10 });
    const lock = await new Mutex(session, 'kill').lock();
    const seen: string[] = [];
    const watch = client.watch({ prefix: 'kill-data/' }, { filter: 'nodelete' });
    await watch.created;
    const watching = (async () => {
      for await (const { events } of watch) seen.push(...events.map((event) => event.kv.key));
    })();
    const writer = writeOn(client, 'kill-data/');
    await until(() => writer.count > 50);
    await leads.kill();
    const before = writer.count;
    await until(() => writer.count > before + 200, { timeoutMs: 15_000 });
    await leads.restart();
    const confirmed = await writer.stop();
    const end = confirmed.at(-1) ?? '';
    await until(() => seen.includes(end), { what: 'the last write is seen' });
    watch.close();
    await watching;
    assert.equal(new Set(seen).size, seen.length);
    const numbers = seen.map((key) => Number(key.slice('kill-data/'.length)));
    assert.deepEqual(
      numbers,
      [...numbers].sort((a, b) => a - b),
    );
    assert.deepEqual(
      confirmed.filter((key) => !seen.includes(key)),
      [],
    );
    assert.ok(lock.held);
    await lock.txn({ then: [op.delete({ prefix: 'kill-data/' })] });
    await lock.unlock();
  });

  test('a waiter outlives a time without a leader', async (t) => {
    const scene = new Scene(t, etcd);
    const { follows, leads } = await roles();
    const holder = await new Mutex(await scene.session(scene.direct, { ttlSeconds: 30 }), 'outlive').lock();
    const client = scene.client(leads.endpoint, { timeoutMs: 700 });
    const session = await scene.session(client, { timeoutMs: 5000, ttlSeconds: 30 });
    const waiting = timed(new Mutex(session, 'outlive').lock());
    await scene.untilKeys('outlive/', 2);
    await Promise.all(follows.map((member) => member.pause()));
    for (let at = 0; at < 4; at++) await timed(client.kv.get('x'));
    await Promise.all(follows.map((member) => member.resume()));
    await roles();
    await until(
      () =>
        holder.unlock().then(
          () => true,
          () => false,
        ),
      { timeoutMs: 20_000 },
    );
    const { error, value } = await waiting;
    assert.ok(value?.held, String(error));
    await value.unlock();
  });

  test('all members are restarted, one after the other: a leadership and its observer go on', async (t) => {
    const scene = new Scene(t, etcd);
    const client = scene.client(etcd.endpoints);
    const session = await scene.session(client, { ttlSeconds: 10 });
    const leadership = await new Election(session, 'rolling').campaign('0');
    const seen: (string | undefined)[] = [];
    const observing = (async () => {
      for await (const leader of new Election(session, 'rolling').observe()) {
        seen.push(leader?.string());
        if (leader === undefined) break;
      }
    })();
    for (const [at, member] of etcd.members.entries()) {
      await member.restart();
      await until(() =>
        leadership.proclaim(String(at + 1)).then(
          () => true,
          (error: unknown) => {
            if (hasCode(error, 'NOT_HELD')) throw error;
            return false;
          },
        ),
      );
    }
    assert.ok(leadership.held);
    await leadership.resign();
    await observing;
    assert.deepEqual(seen, ['0', '1', '2', '3', undefined]);
  });

  test('contended locks through random faults before each member: one holder, growing tokens, nothing left', async (t) => {
    const random = new Random(t);
    const scene = new Scene(t, etcd);
    const proxies = [await scene.proxy(0), await scene.proxy(1), await scene.proxy(2)];
    const clients = [0, 1, 2].map(() => scene.client(proxies, { timeoutMs: 1500 }));
    const held: Lock[] = [];
    const violations: string[] = [];
    let highest = 0n;
    let rounds = 0;
    let busy = true;
    const work = async (client: Client, first: Session): Promise<void> => {
      let session = first;
      while (busy) {
        if (!session.alive) {
          const opened = await timed(scene.session(client, { ttlSeconds: 4 }));
          if (opened.value === undefined) continue;
          session = opened.value;
        }
        const { value: lock } = await timed(
          new Mutex(session, 'chaos').lock({ timeoutMs: 100 + random.below(3000) }),
        );
        if (lock === undefined) continue;
        if (held.some((other) => other.held)) violations.push('two holders');
        if (lock.fencingToken <= highest) violations.push(`token ${lock.fencingToken} after ${highest}`);
        highest = lock.fencingToken;
        held.push(lock);
        await timed(lock.txn({ then: [op.put('chaos-data', String(lock.fencingToken))] }));
        rounds += 1;
        await timed(lock.unlock());
      }
    };
    const starts = [...clients, ...clients].map(async (client) => {
      const session = await scene.session(client, { ttlSeconds: 4 });
      return () => work(client, session);
    });
    const workers = (await Promise.all(starts)).map((start) => start());
    const endAt = performance.now() + 12_000;
    for (let at = 0; performance.now() < endAt; at++) {
      const proxy = random.pick(proxies);
      const strike = random.below(6);
      if (strike === 0) proxy.cut();
      else if (strike === 1) proxy.drop(random.pick(['both', 'toClient', 'toServer']));
      else if (strike === 2) proxy.pause();
      else if (strike === 3) {
        await proxy.refuse();
        proxy.cut();
      } else if (strike === 4)
        proxy.onCall('*', 'dropReply', { then: random.pick(['cut', 'reset', 'silence']), times: 3 });
      else proxy.delay(random.below(100));
      const enough = rounds + 20;
      await until(() => rounds >= enough || performance.now() > endAt, { timeoutMs: 15_000 });
      if (random.below(3) > 0) await proxy.heal();
      else if (proxies.every((each) => each !== proxy)) continue;
      else for (const each of proxies) if (random.below(2) === 0) await each.heal();
    }
    for (const proxy of proxies) await proxy.heal();
    const healed = rounds;
    await until(() => rounds >= healed + 50, {
      timeoutMs: 30_000,
      what: 'all go on once there are no more faults',
    });
    busy = false;
    await Promise.all(workers);
    assert.deepEqual(violations, []);
    await scene.untilKeys('chaos/', 0, 30_000);
    await scene.direct.kv.delete('chaos-data');
  });
});
