/** What the calls for operators refuse before any request: options, choices, names, and ids that would become another's. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Client } from 'conclave';
import { ManualClock } from 'conclave/testing';
import { startFakeEtcd } from '../support/fake-etcd.js';
import { badInput, wrong } from './support/bad-input.js';
import { withCode } from './support/rejections.js';

const TOO_LARGE = 2n ** 64n + 5n;

describe('bad input of operators', () => {
  const input = badInput();
  const { refuse } = input;

  test('users and roles', async () => {
    const { auth } = input.client;
    await refuse([
      [() => auth.userAdd(wrong(7)), 'name', '7'],
      [() => auth.userAdd('u', wrong(7)), 'password', '7'],
      [() => auth.userGet('u', wrong({ timeout: 5 })), '"timeout"', 'timeoutMs'],
      [() => auth.userList(wrong({ limit: 5 })), '"limit"'],
      [() => auth.userDelete(wrong(undefined)), 'name', 'undefined'],
      [() => auth.userChangePassword('u', wrong(undefined)), 'password', 'undefined'],
      [() => auth.userGrantRole('u', wrong(null)), 'role', 'null'],
      [() => auth.userRevokeRole(wrong(5), 'r'), 'user', '5'],
      [() => auth.roleAdd(wrong(['r'])), 'name'],
      [() => auth.roleGet('r', { timeoutMs: -1 }), 'timeoutMs', '-1'],
      [() => auth.roleDelete('r', { signal: wrong('stop') }), 'signal', 'stop'],
      [() => auth.roleGrantPermission('r', wrong('rw'), 'k'), 'access', 'rw', 'readwrite'],
      [() => auth.roleGrantPermission('r', 'read', ''), 'key', 'empty'],
      [() => auth.roleRevokePermission('r', wrong(5)), 'range'],
      [() => auth.roleList(wrong(5)), 'options', '5'],
      [() => auth.status(wrong({ member: 'x' })), '"member"'],
      [() => auth.enable(wrong({ force: true })), '"force"'],
      [() => auth.disable(wrong({ force: true })), '"force"'],
    ]);
  });

  test('members', async () => {
    const { cluster } = input.client;
    await refuse([
      [() => cluster.memberList(wrong({ linearizable: false })), 'linearizable', 'serializable'],
      [() => cluster.memberList({ serializable: wrong('no') }), 'serializable', 'no'],
      [() => cluster.memberAdd(wrong('http://127.0.0.1:2380')), 'peerUrls', 'array'],
      [() => cluster.memberAdd([wrong(2380)]), 'peer URL', '2380'],
      [() => cluster.memberAdd(['http://a:1'], { learner: wrong(1) }), 'learner', '1'],
      [() => cluster.memberAdd(['http://a:1'], wrong({ isLearner: true })), 'isLearner'],
      [() => cluster.memberRemove(TOO_LARGE), 'id', String(TOO_LARGE)],
      [() => cluster.memberRemove(-1n), 'id', '-1'],
      [() => cluster.memberRemove(wrong(5)), 'id', 'bigint', '5'],
      [() => cluster.memberUpdate(TOO_LARGE, ['http://a:1']), 'id', String(TOO_LARGE)],
      [() => cluster.memberUpdate(5n, wrong('http://a:1')), 'peerUrls'],
      [() => cluster.memberPromote(TOO_LARGE), 'id', String(TOO_LARGE)],
      [() => cluster.memberPromote(5n, wrong({ wait: true })), '"wait"'],
    ]);
  });

  test('maintenance', async () => {
    const { maintenance } = input.client;
    const alarm = { alarm: 'NOSPACE', memberId: 5n } as const;
    await refuse([
      [() => maintenance.status(wrong({ url: 'x' })), '"url"', 'endpoint'],
      [() => maintenance.status({ endpoint: 'http://127.0.0.1:1' }), 'http://127.0.0.1:1', 'endpoints'],
      [() => maintenance.status({ endpoint: wrong(5) }), 'endpoint', '5'],
      [() => maintenance.knownFaults(wrong({ version: 'x' })), '"version"', 'endpoint'],
      [() => maintenance.knownFaults({ endpoint: 'http://127.0.0.1:1' }), 'http://127.0.0.1:1', 'endpoints'],
      [() => maintenance.alarmList(wrong({ endpoint: 'x' })), '"endpoint"'],
      [() => maintenance.alarmDisarm(alarm, wrong({ all: true })), '"all"'],
      [() => maintenance.alarmDisarm({ alarm: wrong('FULL'), memberId: 5n }), 'alarm.alarm', 'FULL'],
      [() => maintenance.alarmDisarm({ alarm: 'NOSPACE', memberId: TOO_LARGE }), 'alarm.memberId'],
      [() => maintenance.defragment({ timeoutMs: Number.NaN }), 'timeoutMs', 'NaN'],
      [() => maintenance.hashKv(2n ** 70n), 'revision', String(2n ** 70n)],
      [() => maintenance.hashKv(-1n), 'revision', '-1'],
      [() => maintenance.hashKv(wrong(5)), 'revision', '5'],
      [() => maintenance.moveLeader(TOO_LARGE), 'targetId', String(TOO_LARGE)],
      [() => maintenance.downgrade(wrong('validat')), 'action', 'validat', 'validate'],
      [() => maintenance.downgrade('enable', wrong(3.5)), 'version', '3.5'],
      [() => maintenance.snapshot(wrong({ timeout: 5 })), '"timeout"', 'timeoutMs'],
      [() => maintenance.snapshot({ timeoutMs: -5 }), 'timeoutMs', '-5'],
      [() => input.client.lease.list(wrong({ limit: 5 })), '"limit"'],
    ]);
  });
});

describe('one time limit for several calls', () => {
  test('alarmDisarm ends after its timeoutMs, however many alarms there are', async (t) => {
    const asked: string[] = [];
    const alarms = Array.from({ length: 5 }, (_, n) => ({ alarm: 'NOSPACE', memberID: BigInt(n + 1) }));
    const clock = new ManualClock();
    const endpoint = await startFakeEtcd(t, {
      Maintenance: {
        alarm: (call: { request: { action: string } }, answer: (error: null, reply: object) => void) => {
          asked.push(call.request.action);
          // Each takes 300 ms, so the third alarm's is not answered in time.
          clock.jump(300);
          if (asked.length < 4) answer(null, { alarms });
        },
      },
    });
    const client = new Client({ clock, endpoints: endpoint });
    t.after(() => client.close());
    const disarmed = assert.rejects(
      client.maintenance.alarmDisarm(undefined, { timeoutMs: 1000 }),
      withCode('UNKNOWN_OUTCOME'),
    );
    while (asked.length < 4) await new Promise((resolve) => setImmediate(resolve));
    // It is over already; what is left is that the timer fires.
    await clock.advance(0);
    await disarmed;
    assert.deepEqual(asked, ['GET', 'DEACTIVATE', 'DEACTIVATE', 'DEACTIVATE']);
  });

  test('lease.grant that finds its lease granted keeps its time limit while it asks for how long', async (t) => {
    const clock = new ManualClock();
    let grants = 0;
    let asked = 0;
    const endpoint = await startFakeEtcd(t, {
      Lease: {
        leaseGrant: (_: unknown, answer: (error: object | null, reply?: object) => void) => {
          grants += 1;
          if (grants === 1) answer({ code: 14, details: 'the answer is lost' });
          else {
            clock.jump(600);
            answer({ code: 9, details: 'etcdserver: lease already exists' });
          }
        },
        leaseTimeToLive: () => (asked += 1),
      },
    });
    const client = new Client({ clock, endpoints: endpoint });
    t.after(() => client.close());
    const granted = assert.rejects(client.lease.grant(10, { timeoutMs: 1000 }), withCode('UNKNOWN_OUTCOME'));
    while (grants < 2) await clock.advance(20);
    while (asked < 1) await new Promise((resolve) => setImmediate(resolve));
    await clock.advance(400);
    await granted;
    assert.ok(clock.now() < 1100, `${clock.now()} ms`);
  });
});
