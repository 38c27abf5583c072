// Which member a call goes to, and when to another one: by a clock that the tests move.
import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { Client, compare, hasCode, op } from 'conclave';
import { ManualClock } from 'conclave/testing';
import { Deferred } from '#conclave/util/deferred.js';
import { until } from '../support/until.js';
import { FakeMember, HEALTH, OK, type WireAnswer } from './fake-member.js';

const RANGE = '/etcdserverpb.KV/Range';
const PUT = '/etcdserverpb.KV/Put';
const TXN = '/etcdserverpb.KV/Txn';
const DEFRAGMENT = '/etcdserverpb.Maintenance/Defragment';
const HASH_KV = '/etcdserverpb.Maintenance/HashKV';

/** Three members, and a client of them all. */
class Trio {
  readonly clock = new ManualClock({ nowMs: 1000 });
  readonly members: readonly FakeMember[];
  readonly client: Client;

  private constructor(members: readonly FakeMember[]) {
    this.members = members;
    const endpoints = members.map(({ endpoint }) => endpoint);
    this.client = new Client({ clock: this.clock, endpoints, timeoutMs: 60_000 });
  }

  static async start(t: TestContext): Promise<Trio> {
    const members = await Promise.all([FakeMember.start(), FakeMember.start(), FakeMember.start()]);
    const trio = new Trio(members);
    t.after(async () => {
      await trio.client.close();
      for (const member of members) await member[Symbol.asyncDispose]();
    });
    await trio.settle();
    return trio;
  }

  /** Holds the calls of `path` at every member; returns how to answer that of the nth to ask. */
  hold(path: string): {
    answer(at: number, answer?: WireAnswer): void;
    readonly asked: readonly FakeMember[];
  } {
    const held: { member: FakeMember; answer: Deferred<WireAnswer> }[] = [];
    for (const member of this.members) {
      member.answer = (asked) => {
        if (asked !== path) return OK;
        const answer = new Deferred<WireAnswer>();
        held.push({ answer, member });
        return answer.promise;
      };
    }
    return {
      answer: (at, answer = OK) => held[at]?.answer.resolve(answer),
      get asked() {
        return held.map(({ member }) => member);
      },
    };
  }

  /** Lets time pass, and what it brings about. */
  async pass(ms: number): Promise<void> {
    for (let passed = 0; passed < ms; passed += 250) {
      await this.clock.advance(250);
      await this.settle();
    }
  }

  /** Resolves when all that is on its way between the client and members that answer has arrived. */
  async settle(): Promise<void> {
    for (const member of this.members)
      if (!member.frozen) await this.client.maintenance.status({ endpoint: member.endpoint });
  }
}

/** Whether a promise has settled by now. */
async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  const seen = { settled: false };
  const settle = (): void => void (seen.settled = true);
  promise.then(settle, settle);
  await new Promise((resolve) => setImmediate(resolve));
  return seen.settled;
}

describe('with several members', () => {
  const heavy: Readonly<Record<string, { path: string; send: (client: Client) => Promise<unknown> }>> = {
    defragment: { path: DEFRAGMENT, send: (client) => client.maintenance.defragment() },
    hashKv: { path: HASH_KV, send: (client) => client.maintenance.hashKv() },
    'a range of many keys': { path: RANGE, send: (client) => client.kv.range({ prefix: 'a' }) },
    'a scan': { path: RANGE, send: (client) => client.kv.scan({ prefix: 'a' }).next() },
    'a transaction that reads many keys': {
      path: TXN,
      send: (client) => client.kv.txn({ then: [op.get({ prefix: 'a' })] }),
    },
  };
  for (const [name, { path, send }] of Object.entries(heavy)) {
    it(`${name} goes to one member, once, and may take as long as it is given`, async (t) => {
      const trio = await Trio.start(t);
      const held = trio.hold(path);
      const call = send(trio.client);
      await until(() => held.asked.length === 1);
      await trio.pass(30_000);
      assert.equal(held.asked.length, 1);
      assert.equal(await isSettled(call), false);
      held.answer(0);
      await call;
    });
  }

  it('a read that takes long is asked of one other member, and the first to answer counts', async (t) => {
    for (const first of [0, 1]) {
      const trio = await Trio.start(t);
      const held = trio.hold(RANGE);
      const call = trio.client.kv.get('a');
      await until(() => held.asked.length === 1);
      await trio.pass(1000);
      assert.equal(held.asked.length, 1);
      await trio.pass(30_000);
      assert.equal(new Set(held.asked).size, 2);
      assert.equal(held.asked.length, 2);
      held.answer(first);
      assert.equal(await call, undefined);
    }
  });

  it('a read is left with a slow member while the others have no leader', async (t) => {
    const trio = await Trio.start(t);
    const held = trio.hold(RANGE);
    const call = trio.client.kv.get('a');
    await until(() => held.asked.length === 1);
    const [slow] = held.asked;
    for (const member of trio.members)
      if (member !== slow) member.answer = (path) => (path === RANGE ? NO_LEADER : OK);
    await trio.pass(6000);
    const others = trio.members.filter((member) => member !== slow);
    assert.ok(others.reduce((sum, member) => sum + member.requests(RANGE), 0) > 1);
    assert.equal(await isSettled(call), false);
    held.answer(0);
    await call;
    assert.equal(slow?.requests(RANGE), 1);
  });

  it('a guarded write that takes long is sent to one other member at a time, and says so', async (t) => {
    const trio = await Trio.start(t);
    const held = trio.hold(TXN);
    let repeats = 0;
    const spec = { if: [compare.missing('a')], then: [op.put('a', 'x')] };
    const call = trio.client.kv.txn(spec, { idempotent: true, onRepeat: () => (repeats += 1) });
    await until(() => held.asked.length === 1);
    await trio.pass(1750);
    assert.equal(held.asked.length, 2);
    assert.equal(repeats, 1);
    // Once more after 3 s, 6 s and 12 s.
    await trio.pass(12_000);
    assert.equal(held.asked.length, 5);
    assert.equal(repeats, 4);
    held.answer(0);
    await call;
  });

  it('a plain write goes to one member, once', async (t) => {
    const trio = await Trio.start(t);
    const held = trio.hold('/etcdserverpb.KV/Put');
    const call = trio.client.kv.put('a', 'x', { timeoutMs: 10_000 });
    const failing = assert.rejects(call, { code: 'UNKNOWN_OUTCOME', key: 'a' });
    await until(() => held.asked.length === 1);
    await trio.pass(10_500);
    await failing;
    assert.equal(held.asked.length, 1);
  });

  it('calls leave a member that shows no sign of life', async (t) => {
    const calls: Readonly<Record<string, (client: Client) => Promise<unknown>>> = {
      get: (client) => client.kv.get('a'),
      hashKv: (client) => client.maintenance.hashKv(),
      range: (client) => client.kv.range({ prefix: 'a' }),
      'guarded txn': (client) => client.kv.txn({ then: [op.put('a', 'x')] }, { idempotent: true }),
    };
    for (const [name, send] of Object.entries(calls)) {
      const trio = await Trio.start(t);
      const before = trio.members.map((member) => member.requests());
      for (const member of trio.members) member.frozen = true;
      const call = send(trio.client);
      const asked = await until(() =>
        trio.members.find((member, at) => member.requests() > (before[at] ?? 0)),
      );
      for (const member of trio.members) member.frozen = member === asked;
      await trio.clock.advance(750);
      await until(() => asked.requests(HEALTH) === 1);
      assert.equal(await isSettled(call), false);
      await trio.clock.advance(750);
      await call.catch((error: unknown) => assert.fail(`${name}: ${String(error)}`));
      assert.equal(asked.requests(HEALTH), 1);
    }
  });

  it('a plain write to a member that shows no sign of life is UNKNOWN_OUTCOME at its deadline', async (t) => {
    const trio = await Trio.start(t);
    for (const member of trio.members) member.frozen = true;
    const before = trio.members.reduce((sum, member) => sum + member.requests(), 0);
    const sent = (): number => trio.members.reduce((sum, member) => sum + member.requests(), 0) - before;
    const call = trio.client.kv.put('a', 'x', { timeoutMs: 5000 });
    call.catch(() => undefined); // It may reject before it is waited for.
    const failing = assert.rejects(call, { code: 'UNKNOWN_OUTCOME', key: 'a' });
    await until(() => sent() === 1);
    await trio.clock.advance(5000);
    await failing;
    assert.equal(sent(), 1);
  });

  it('however many calls wait for a member, it is asked once at a time whether it is alive', async (t) => {
    const trio = await Trio.start(t);
    const held = trio.hold(RANGE);
    const calls = Array.from({ length: 50 }, (_, at) => trio.client.kv.range({ prefix: String(at) }));
    await until(() => held.asked.length === 50);
    const [asked] = held.asked;
    for (const member of trio.members) member.frozen = true;
    await trio.clock.advance(750);
    await until(() => asked?.requests(HEALTH) === 1);
    await trio.clock.advance(500);
    assert.equal(asked?.requests(HEALTH), 1);
    const ends = Promise.all(calls.map((call) => assert.rejects(call, { code: 'CLOSED' })));
    await trio.client.close();
    await ends;
  });
});

const NO_LEADER: WireAnswer = { message: 'etcdserver: no leader', status: 14 };

/** Lets time pass until a promise has settled. */
async function inTime<T>(clock: ManualClock, promise: Promise<T>): Promise<T> {
  await until(async () => {
    await clock.advance(100);
    return isSettled(promise);
  });
  return promise;
}

describe('a learner among the members', () => {
  const REFUSED: WireAnswer = { message: 'etcdserver: rpc not supported for learner', status: 9 };

  it('is passed over, by writes and streams, too, and asked again later', async (t) => {
    const { client, clock, members } = await Trio.start(t);
    const [voter, ...learners] = members;
    for (const learner of learners) learner.answer = (asked) => (asked === HEALTH ? OK : REFUSED);
    for (let at = 0; at < 10; at++) await inTime(clock, client.kv.put('k', 'v'));
    const asked = learners.map((learner) => learner.requests(PUT));
    assert.ok(
      asked.every((times) => times <= 1),
      String(asked),
    );
    assert.equal(voter?.requests(PUT), 10);
    // What it says when nobody else is there is no reason to give up.
    voter.answer = () => ({ message: 'etcdserver: no leader', status: 14 });
    const waiting = client.kv.put('k', 'v');
    await until(async () => {
      await clock.advance(500);
      return learners.some((learner) => learner.requests(PUT) > 1);
    });
    voter.answer = () => OK;
    await inTime(clock, waiting);
  });

  it('that is the only one is known for what it is at once', async (t) => {
    const member = await FakeMember.start();
    t.after(() => member[Symbol.asyncDispose]());
    member.answer = () => REFUSED;
    const client = new Client({ endpoints: [member.endpoint] });
    t.after(() => client.close());
    await assert.rejects(client.kv.put('k', 'v'), (error) => hasCode(error, 'NOT_SUPPORTED_FOR_LEARNER'));
    assert.equal(member.requests(PUT), 1);
  });
});
