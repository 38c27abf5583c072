// Renewing leases: of very many the work stays that of each, and whoever keeps one alive hears when that cannot go on.
import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import { type ServiceError, status } from '@grpc/grpc-js';
import { Client, type ClientOptions } from 'conclave';
import { ManualClock } from 'conclave/testing';
import type { LeaseKeepAliveRequest, LeaseKeepAliveResponseInput } from '#conclave/proto/messages.gen.js';
import { withCode } from '../contract/support/rejections.js';
import { startFakeEtcd, type Talk } from '../support/fake-etcd.js';
import { until } from '../support/until.js';

type Stream = Talk<LeaseKeepAliveRequest, LeaseKeepAliveResponseInput>;

/** A clock that counts how often a timer is set. */
class CountingClock extends ManualClock {
  timersSet = 0;

  override setTimer(delayMs: number, fire: () => void): ReturnType<ManualClock['setTimer']> {
    this.timersSet += 1;
    return super.setTimer(delayMs, fire);
  }
}

/** A member that has its keepalive streams played by hand. */
class Member {
  readonly streams: Stream[] = [];
  /** What was asked and is not answered, on any stream. */
  readonly waiting: { readonly id: bigint; readonly stream: Stream }[] = [];
  asked = 0;
  refuses: (stream: Stream) => boolean = () => false;

  readonly service = {
    leaseKeepAlive: (stream: Stream): void => {
      if (this.refuses(stream)) {
        const error = { code: status.UNAUTHENTICATED, details: 'etcdserver: invalid auth token' };
        stream.emit('error', error as ServiceError);
        return;
      }
      this.streams.push(stream);
      stream.on('error', () => undefined);
      stream.on('data', ({ ID: id }: LeaseKeepAliveRequest) => {
        this.asked += 1;
        this.waiting.push({ id, stream });
      });
    },
  };

  /** Answers the oldest requests. */
  answer(count: number, ttlSeconds: number): void {
    for (const { id, stream } of this.waiting.splice(0, count))
      stream.write({ ID: id, TTL: BigInt(ttlSeconds) });
  }
}

async function stage(t: TestContext, options: Omit<ClientOptions, 'endpoints'> = {}) {
  const member = new Member();
  const clock = new CountingClock();
  const tokens: string[] = [];
  const Auth = {
    authenticate: (_: unknown, answer: (error: object | null, reply?: object) => void) => {
      const token = tokens.shift();
      const details = 'etcdserver: authentication failed, invalid user ID or password';
      if (token === undefined) answer({ code: status.INVALID_ARGUMENT, details });
      else answer(null, { token });
    },
  };
  const endpoint = await startFakeEtcd(t, { Auth, Lease: member.service });
  const client = new Client({ clock, endpoints: endpoint, ...options });
  t.after(() => client.close());
  return { client, clock, member, tokens };
}

describe('very many leases', () => {
  test('ten thousand are asked for once each, however long the answers take, and few timers are set', async (t) => {
    const { client, clock, member } = await stage(t);
    const count = 10_000;
    let renewed = 0;
    const listener = {
      expired: () => assert.fail('expired'),
      failing: () => assert.fail('failing'),
      renewed: () => (renewed += 1),
    };
    const stops = Array.from({ length: count }, (_, n) =>
      client.lease.maintain({ id: BigInt(n + 1), sentAt: clock.now(), ttlSeconds: 60 }, listener),
    );
    assert.ok(clock.timersSet <= 2, `${clock.timersSet} timers set while they are added`);
    await clock.advance(20_000);
    await until(() => member.asked === count);
    // The answers trickle: the last comes 8 s after it was asked for.
    while (member.waiting.length > 0) {
      const before = renewed + 500;
      member.answer(500, 60);
      await until(() => renewed === before);
      await clock.advance(400);
    }
    assert.equal(member.asked, count);
    assert.equal(member.streams.length, 1);
    assert.ok(clock.timersSet < 200, `${clock.timersSet} timers set`);
    const before = clock.timersSet;
    for (const stop of stops) stop();
    assert.ok(clock.timersSet - before <= 1, 'none is set while they are removed');
    assert.equal(clock.pendingTimers, 0);
  });

  test('a request that the member has passed over is made again', async (t) => {
    const { client, clock, member } = await stage(t);
    const renewed: bigint[] = [];
    const keep = (id: bigint): (() => void) =>
      client.lease.maintain(
        { id, sentAt: clock.now(), ttlSeconds: 60 },
        { expired: () => undefined, failing: () => undefined, renewed: () => renewed.push(id) },
      );
    const stops = [keep(1n), keep(2n), keep(3n)];
    await clock.advance(20_000);
    await until(() => member.asked === 3);
    const third = member.waiting.pop();
    assert.ok(third !== undefined);
    member.waiting.length = 0;
    third.stream.write({ ID: third.id, TTL: 60n });
    await until(() => renewed.length === 1);
    await clock.advance(1);
    await until(() => member.asked === 5);
    member.answer(2, 60);
    await until(() => renewed.length === 3);
    assert.deepEqual(new Set(renewed), new Set([1n, 2n, 3n]));
    for (const stop of stops) stop();
  });
});

test('time whose fractions are rounded does not have a silent stream looked at for ever', async (t) => {
  for (const nowMs of [11500.84508755802, 11500.115729056419, 11500.110132815698]) {
    const clock = new CountingClock({ nowMs });
    const { client, member } = await stage(t, { clock });
    const stop = client.lease.maintain(
      { id: 1n, sentAt: clock.now(), ttlSeconds: 60 },
      { expired: () => undefined, failing: () => undefined, renewed: () => undefined },
    );
    await clock.advance(20_000);
    await until(() => member.asked === 1);
    await clock.advance(1700);
    assert.ok(clock.timersSet < 100);
    stop();
  }
});

describe('lease.keepAlive that cannot go on', () => {
  test('ends with an error once the time to live has passed without a renewal', async (t) => {
    const { client, clock, member } = await stage(t);
    const renewals = client.lease.keepAlive(7n);
    const first = renewals.next();
    await clock.advance(1);
    await until(() => member.waiting.length === 1);
    member.answer(1, 3);
    assert.equal((await first).value?.ttlSeconds, 3);
    const ended = assert.rejects(renewals.next(), (error) => withCode('UNAVAILABLE')(error));
    await clock.advance(2990);
    await until(() => member.asked > 1);
    await clock.advance(20);
    await ended;
    assert.equal((await renewals.next()).done, true);
    assert.equal(clock.pendingTimers, 0);
  });

  test('ends with an error when no first renewal comes within the client’s time limit', async (t) => {
    const { client, clock, member } = await stage(t, { timeoutMs: 1000 });
    const ended = assert.rejects(client.lease.keepAlive(7n).next(), withCode('DEADLINE_EXCEEDED'));
    await clock.advance(1);
    await until(() => member.asked === 1);
    await clock.advance(1000);
    await ended;
  });

  test('ends at once with AUTH_FAILED when its token is refused and no other is given', async (t) => {
    const auth = { password: 'secret', username: 'u' };
    const { client, clock, member, tokens } = await stage(t, { auth });
    tokens.push('first');
    const renewals = client.lease.keepAlive(7n);
    const first = renewals.next();
    await clock.advance(1);
    await until(() => member.waiting.length === 1);
    member.answer(1, 3);
    await first;
    member.refuses = () => true;
    const ended = assert.rejects(renewals.next(), withCode('AUTH_FAILED'));
    const [stream] = member.streams;
    stream?.emit('error', { code: status.UNAVAILABLE, details: 'restarted' } as ServiceError);
    for (const over = ended.then(() => true); !(await Promise.race([over, clock.advance(20)])););
    await ended;
    assert.equal(clock.pendingTimers, 0, 'the stream is not opened again for nobody');
  });

  test('leaves no stream that is opened over and over, where there is no such service', async (t) => {
    const clock = new CountingClock();
    const client = new Client({ clock, endpoints: await startFakeEtcd(t, {}) });
    t.after(() => client.close());
    const refused = assert.rejects(client.lease.keepAliveOnce(7n), withCode('NOT_ETCD'));
    for (const over = refused.then(() => true); !(await Promise.race([over, clock.advance(1)])););
    await refused;
    assert.equal(clock.pendingTimers, 0);
  });

  test('goes on with a new token when its stream is refused with the old one, though no other call is made', async (t) => {
    const auth = { password: 'secret', username: 'u' };
    const { client, clock, member, tokens } = await stage(t, { auth });
    tokens.push('first', 'second');
    const renewals = client.lease.keepAlive(7n);
    const first = renewals.next();
    await clock.advance(1);
    await until(() => member.waiting.length === 1);
    member.answer(1, 60);
    await first;
    member.refuses = (stream) => stream.metadata.get('token')[0] === 'first';
    member.streams[0]?.emit('error', { code: status.UNAVAILABLE, details: 'restarted' } as ServiceError);
    // On a new stream one lease is asked for at once: its answer tells whether history is the same there.
    while (member.waiting.length === 0) await clock.advance(20);
    assert.equal(member.streams.length, 2);
    member.answer(1, 60);
    assert.equal((await renewals.next()).value?.ttlSeconds, 60);
    await renewals.return?.();
  });
});
