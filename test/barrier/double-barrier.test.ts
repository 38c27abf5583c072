// DoubleBarrier: enter together, leave together, again and again; on both backends.
import assert from 'node:assert/strict';
import { it } from 'node:test';

import { type Client, DoubleBarrier, hasCode, Session } from 'conclave';

import { onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';

const coded = (code: string) => (error: unknown) => hasCode(error) && error.code === code;

onEachBackend('DoubleBarrier', (backend) => {
  const sessions = async (howMany: number): Promise<Session[]> => {
    const open = async (): Promise<Session> => Session.open(backend.client(), { ttlSeconds: 5 });
    return Promise.all(Array.from({ length: howMany }, open));
  };
  const closeAll = async (open: readonly Session[]): Promise<void> => {
    await Promise.all(open.map((session) => session.close()));
  };
  const waiting = (client: Client, name: string, parties: number): Promise<unknown> =>
    until(
      async () =>
        (await client.kv.range({ prefix: `${name}/.double-barrier/party/` })).count === BigInt(parties),
    );

  it('lets nobody in before all are there, and nobody out before all have left, for many rounds', async () => {
    const open = await sessions(3);
    let inside = 0;
    let arrived = 0;
    const rounds: bigint[][] = [];
    await Promise.all(
      open.map(async (session) => {
        const barrier = new DoubleBarrier(session, 'rounds', { count: 3 });
        for (let round = 0; round < 10; round++) {
          arrived += 1;
          const number = await barrier.enter();
          assert.ok(arrived >= (round + 1) * 3, 'entered before all had come');
          (rounds[round] ??= []).push(number);
          inside += 1;
          await new Promise((resolve) => setImmediate(resolve));
          inside -= 1;
          await barrier.leave();
          assert.ok(inside <= 0 || rounds.length > round + 1, 'left before all had left');
        }
      }),
    );
    for (const numbers of rounds) assert.equal(new Set(numbers).size, 1);
    const order = rounds.map(([number = 0n]) => number);
    assert.deepEqual(
      order,
      [...order].sort((a, b) => (a < b ? -1 : 1)),
    );
    assert.equal(new Set(order).size, 10);
    await closeAll(open);
  });

  it('makes a party beyond the count wait for the next round', async () => {
    const open = await sessions(4);
    const [a, b, c, d] = open.map((session) => new DoubleBarrier(session, 'extra', { count: 2 })) as [
      DoubleBarrier,
      DoubleBarrier,
      DoubleBarrier,
      DoubleBarrier,
    ];
    const [one] = await Promise.all([a.enter(), b.enter()]);
    await assert.rejects(c.enter({ timeoutMs: 50 }), coded('TIMEOUT'));
    const next = Promise.all([c.enter(), d.enter()]);
    await waiting(backend.client(), 'extra', 4);
    await Promise.all([a.leave(), b.leave()]);
    const [two, same] = await next;
    assert.ok(two > one);
    assert.equal(two, same);
    await Promise.all([c.leave(), d.leave()]);
    await closeAll(open);
  });

  it('refuses a party with another count, and lets the others go on', async () => {
    const open = await sessions(3);
    const [a, b, odd] = open as [Session, Session, Session];
    const first = new DoubleBarrier(a, 'counts', { count: 2 });
    const entering = first.enter();
    await waiting(backend.client(), 'counts', 1);
    await assert.rejects(new DoubleBarrier(odd, 'counts', { count: 3 }).enter(), coded('MISMATCH'));
    // One that is about to be refused does not get in the way of those who agree with the first.
    const client = backend.client();
    const key = 'counts/.double-barrier/party/being-refused';
    await client.kv.put(key, JSON.stringify({ count: 3 }), { leaseId: odd.leaseId });
    const second = new DoubleBarrier(b, 'counts', { count: 2 });
    await Promise.all([entering, second.enter()]);
    await client.kv.delete(key);
    await Promise.all([first.leave(), second.leave()]);
    await closeAll(open);
  });

  it('says so when it is left without having been entered, or entered twice', async () => {
    const open = await sessions(1);
    const barrier = new DoubleBarrier(open[0] as Session, 'misuse', { count: 1 });
    await assert.rejects(barrier.leave(), coded('NOT_HELD'));
    await barrier.enter();
    await assert.rejects(barrier.enter(), coded('ALREADY_HELD'));
    await barrier.leave();
    await assert.rejects(barrier.leave(), coded('NOT_HELD'));
    const first = new DoubleBarrier(open[0] as Session, 'misuse2', { count: 2 });
    const entering = first.enter({ timeoutMs: 50 });
    entering.catch(() => undefined); // It may reject before it is waited for.
    await assert.rejects(first.enter(), coded('ALREADY_HELD'));
    await assert.rejects(first.leave(), coded('NOT_HELD'));
    await assert.rejects(entering, coded('TIMEOUT'));
    await closeAll(open);
  });

  it('takes a party that gave up waiting out of the line, and lets it come again', async () => {
    const open = await sessions(2);
    const [a, b] = open.map((session) => new DoubleBarrier(session, 'give-up', { count: 2 })) as [
      DoubleBarrier,
      DoubleBarrier,
    ];
    const stop = new AbortController();
    const entering = a.enter({ signal: stop.signal });
    entering.catch(() => undefined); // It may reject before it is waited for.
    await waiting(backend.client(), 'give-up', 1);
    stop.abort(new Error('no longer'));
    await assert.rejects(entering, /no longer/);
    await assert.rejects(b.enter({ timeoutMs: 100 }), coded('TIMEOUT'));
    await Promise.all([a.enter(), b.enter()]);
    await Promise.all([a.leave(), b.leave()]);
    await closeAll(open);
  });

  it('goes on when a party dies while it waits, inside, or while leaving', async () => {
    const name = 'dies';
    const make = (session: Session): DoubleBarrier => new DoubleBarrier(session, name, { count: 2 });
    const [dead1, dead2, dead3, a, b] = (await sessions(5)) as [Session, Session, Session, Session, Session];
    const lost = assert.rejects(make(dead1).enter(), coded('CLOSED'));
    await waiting(backend.client(), name, 1);
    await dead1.close(); // While it waits.
    await lost;
    const one = make(a);
    const two = make(b);
    await assert.rejects(one.enter({ timeoutMs: 100 }), coded('TIMEOUT'));

    await Promise.all([one.enter(), make(dead2).enter()]);
    const leaving = one.leave();
    await waiting(backend.client(), name, 1);
    await dead2.close(); // Inside.
    await leaving;

    const third = make(dead3);
    await Promise.all([one.enter(), third.enter()]);
    const gone = assert.rejects(third.leave(), coded('CLOSED'));
    await waiting(backend.client(), name, 1);
    await dead3.close(); // While it leaves.
    await gone;
    await one.leave();

    await Promise.all([one.enter(), two.enter()]);
    await Promise.all([one.leave(), two.leave()]);
    await closeAll([a, b]);
  });

  it('is not held up by what an earlier life of a resumed session left', async () => {
    const client = backend.client();
    const [other] = (await sessions(1)) as [Session];
    const session = await Session.open(client, { ttlSeconds: 5 });
    const prefix = `resumed/.double-barrier/party/${session.leaseId.toString(16)}-`;
    await client.kv.put(`${prefix}earlier`, JSON.stringify({ count: 2 }), { leaseId: session.leaseId });
    const a = new DoubleBarrier(session, 'resumed', { count: 2 });
    const b = new DoubleBarrier(other, 'resumed', { count: 2 });
    await assert.rejects(a.enter({ timeoutMs: 200 }), coded('TIMEOUT'));
    await Promise.all([a.enter(), b.enter()]);
    await Promise.all([a.leave(), b.leave()]);
    await closeAll([session, other]);
  });

  it('rejects when its key is removed from outside', async () => {
    const client = backend.client();
    const open = await sessions(1);
    const barrier = new DoubleBarrier(open[0] as Session, 'removed', { count: 2 });
    const lost = assert.rejects(barrier.enter(), coded('TICKET_LOST'));
    await waiting(client, 'removed', 1);
    await client.kv.delete({ prefix: 'removed/.double-barrier/party/' });
    await lost;
    await closeAll(open);
  });

  it('refuses bad input before any request', async () => {
    const open = await sessions(1);
    const [session] = open as [Session];
    for (const count of [0, -1, 2.5, NaN]) {
      assert.throws(() => new DoubleBarrier(session, 'bad', { count }), RangeError);
    }
    assert.throws(() => new DoubleBarrier(session, '', { count: 1 }), TypeError);
    await closeAll(open);
  });
});
