// What a wait says when its time is up: a tired operator wants to know whom to look at.
import assert from 'node:assert/strict';
import { hostname } from 'node:os';
import { it } from 'node:test';

import {
  Barrier,
  DoubleBarrier,
  Election,
  hasCode,
  Latch,
  MultiMutex,
  Mutex,
  RWLock,
  Semaphore,
  type Session,
} from 'conclave';

import { onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';
import { worldsOf } from '../support/world.js';

/** Long enough for a line to be read on a busy machine. */
const timeoutMs = 2000;

async function messageOf(waiting: Promise<unknown>): Promise<string> {
  try {
    await waiting;
  } catch (error) {
    if (hasCode(error, 'TIMEOUT')) return error.message;
    throw error;
  }
  return assert.fail('it did not wait');
}

onEachBackend('a wait whose time is up', (backend) => {
  const newWorld = worldsOf(backend, 'gave-up');

  it('says who holds, since when, and how many are ahead', async () => {
    await using world = await newWorld(3);
    const [one, two, three] = world.sessions;
    assert.ok(one && two && three);
    const name = (kind: string): string => `${world.name}/${kind}`;
    const lock = await new Mutex(one, name('mutex')).lock();
    const other = await new Mutex(one, name('multi')).lock();
    const write = await new RWLock(one, name('rw')).writeLock();
    const permit = await new Semaphore(one, name('semaphore'), { limit: 1 }).acquire();
    const leadership = await new Election(one, name('election')).campaign('{"host":"secret","pid":1}');
    const foreign = two.leaseId;
    const foreignKey = `${name('foreign')}/${foreign.toString(16)}`;
    await world.client.kv.put(foreignKey, '', { leaseId: foreign });
    const ahead = new Mutex(two, name('mutex')).lock();
    await until(async () => (await new Mutex(one, name('mutex')).inspect()).waiters.length === 1);
    const messages = await Promise.all(
      [
        new Mutex(three, name('mutex')).lock({ timeoutMs }),
        new RWLock(three, name('rw')).readLock({ timeoutMs }),
        new Semaphore(three, name('semaphore'), { limit: 1 }).acquire({ timeoutMs }),
        new Election(three, name('election')).campaign('x', { timeoutMs }),
        new MultiMutex(three, [name('free'), name('multi')]).lock({ timeoutMs }),
        new Mutex(three, name('foreign')).lock({ timeoutMs }),
        new Mutex(one, name('mutex')).lock({ timeoutMs }),
      ].map(messageOf),
    );
    const lease = one.leaseId.toString(16);
    const who = `process ${process.pid} on ${hostname()}`;
    const [mutex, rw, semaphore, election, multi, others, local] = messages;
    for (const text of [mutex, rw, semaphore, multi]) {
      assert.ok(text?.includes(`gave up after 2000 ms; held by ${who}`), text);
      assert.match(text ?? '', new RegExp(`lease ${lease}, which asked for it at \\d{4}-\\d\\d-\\d\\dT`));
    }
    for (const [text, { fencingToken }] of [
      [mutex, lock],
      [rw, write],
      [semaphore, permit],
      [election, leadership],
    ] as const) {
      const [, token] = /with fencing token (\d+) or a higher one/.exec(text ?? '') ?? [];
      assert.equal(token, String(fencingToken), text);
    }
    assert.match(mutex ?? '', /, with 1 other ahead of us$/);
    assert.match(rw ?? '', /, with nobody else ahead of us$/);
    assert.match(
      election ?? '',
      new RegExp(`held by lease ${lease}, with .*, with nobody else ahead of us$`),
    );
    assert.ok(!election?.includes('secret'));
    assert.match(others ?? '', new RegExp(`held by lease ${foreign.toString(16)} of another client`));
    assert.match(
      local ?? '',
      /by another task on this very session: a task that waits for what it holds itself/,
    );
    const again = await messageOf(new Semaphore(one, name('semaphore'), { limit: 1 }).acquire({ timeoutMs }));
    assert.match(again, /held by this very session, process/);
    await world.client.kv.delete(foreignKey);
    await Promise.all([lock.unlock(), other.unlock(), write.unlock(), permit.release(), leadership.resign()]);
    await (await ahead).unlock();
  });

  it('names the cycle in which sessions wait for one another, also through keys of Go’s clients', async () => {
    await using world = await newWorld(3);
    const [one, two, three] = world.sessions;
    assert.ok(one && two && three);
    const name = (kind: string): string => `${world.name}/${kind}`;
    const hex = (session: Session): string => session.leaseId.toString(16);
    const [a, b, c] = [
      await new Mutex(one, name('a')).lock(),
      await new Mutex(two, name('b')).lock(),
      await new RWLock(three, name('c')).writeLock(),
    ];
    const stop = new AbortController();
    const { signal } = stop;
    const waits = [
      new Election(two, name('c')).campaign('', { signal }),
      // As Go's concurrency package and `etcdctl lock` write it.
      world.client.kv.put(`${name('a')}/${hex(three)}`, '', { leaseId: three.leaseId }),
    ];
    await until(
      async () =>
        (await world.client.kv.range({ prefix: `${world.name}/` }, { countOnly: true })).count >= 5n,
    );
    const text = await messageOf(new Mutex(one, name('b')).lock({ timeoutMs }));
    const process2 = `process ${process.pid} on ${hostname()}, lease ${hex(two)}`;
    assert.ok(
      text.includes(`; a cycle: ${process2.replace(/^process.*, /, '')} waits for "${name('c')}", held by`) ||
        text.includes(`; a cycle: ${process2} waits for "${name('c')}", held by`),
      text,
    );
    assert.ok(text.includes(`lease ${hex(three)} waits for "${name('a')}", held by this very session`), text);
    // Whoever waits for what nobody of a cycle holds is in none.
    const outside = await messageOf(new RWLock(two, name('c')).readLock({ timeoutMs }));
    assert.ok(!outside.includes('a cycle'), outside);
    stop.abort(new Error('enough'));
    await Promise.allSettled(waits);
    await world.client.kv.delete(`${name('a')}/${hex(three)}`);
    await Promise.all([a.unlock(), b.unlock(), c.unlock()]);
  });

  it('of barriers and latches says what is missing; every one names the function that awaited it', async () => {
    await using world = await newWorld(2);
    const [one, two] = world.sessions;
    assert.ok(one && two);
    const name = (kind: string): string => `${world.name}/${kind}`;
    const limit = { timeoutMs: 300 };
    const lock = await new Mutex(one, name('mutex')).lock();
    const hold = await new Barrier(one, name('barrier')).hold();
    const waits = {
      awaitBarrier: async () => {
        await new Barrier(two, name('barrier')).wait(limit);
      },
      awaitCampaign: async () => {
        await new Election(two, name('mutex')).campaign('x', limit);
      },
      awaitDoubleBarrier: async () => {
        await new DoubleBarrier(two, name('double'), { count: 3 }).enter(limit);
      },
      awaitLatch: async () => {
        await new Latch(two, name('latch'), { count: 3 }).wait(limit);
      },
      awaitLock: async () => {
        await new Mutex(two, name('mutex')).lock(limit);
      },
      awaitOwnLock: async () => {
        await new Mutex(one, name('mutex')).lock(limit);
      },
    };
    const said: Partial<Record<keyof typeof waits, string>> = {};
    for (const [who, wait] of Object.entries(waits) as [keyof typeof waits, () => Promise<void>][]) {
      await assert.rejects(wait(), (error) => {
        assert.ok(hasCode(error, 'TIMEOUT'), String(error));
        assert.match(error.stack ?? '', new RegExp(`at async (Object\\.)?${who} `), error.stack);
        said[who] = error.message;
        return true;
      });
    }
    assert.match(
      said.awaitBarrier ?? '',
      new RegExp(`held by process ${process.pid} on ${hostname()} since \\d{4}`),
    );
    assert.match(said.awaitDoubleBarrier ?? '', /1 of 3 have come/);
    assert.match(said.awaitLatch ?? '', /3 of 3 still to be counted down/);
    await Promise.all([lock.unlock(), hold.release(), new Latch(two, name('latch'), { count: 3 }).delete()]);
  });
});
