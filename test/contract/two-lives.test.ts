/** A session that is resumed on the lease of one that is still alive: the later life has what the earlier one had. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { type Client, Election, type Leadership, type Lock, Mutex, op, type Session } from 'conclave';
import { ManualClock } from 'conclave/testing';
import { Deferred } from '#conclave/util/deferred.js';
import { onEachBackend } from '../support/backends.js';
import { assertRising } from '../support/tokens.js';
import { until } from '../support/until.js';
import { withCode } from './support/rejections.js';
import { keysBelow, Sessions, untilKeysBelow } from './support/sessions.js';

/** What both lives take, with the same words, and how each gives it back. */
const KINDS: Readonly<Record<string, (session: Session) => Promise<Leadership | Lock>>> = {
  leadership: (session) => new Election(session, 'life').campaign('worker-7', { timeoutMs: 10_000 }),
  lock: (session) => new Mutex(session, 'life').lock({ timeoutMs: 10_000 }),
};

function giveBack(hold: Leadership | Lock): Promise<void> {
  return 'resign' in hold ? hold.resign() : hold.unlock();
}

onEachBackend('two lives of one lease', (backend) => {
  let client: Client;
  before(() => {
    client = backend.client();
  });

  for (const [what, take] of Object.entries(KINDS)) {
    test(`a ${what} taken over by a later life is fenced and heard of, and so is the session`, async () => {
      await using sessions = new Sessions(client);
      const before = await sessions.open();
      const first = await take(before);
      const guard = first.guard();
      const after = await sessions.open({ leaseId: before.leaseId });
      const second = await take(after);
      assert.equal(second.createRevision, first.createRevision, 'the place in line is kept');
      assertRising([first.fencingToken, second.fencingToken]);
      assert.equal((await client.kv.txn({ if: guard, then: [op.put('late', '')] })).succeeded, false);
      await until(() => first.signal.aborted, { what: 'the earlier life hears of it' });
      withCode('SESSION_LOST')(first.signal.reason);
      assert.match(String(before.reason), /another session resumed its lease and took life\/\w+ over/);
      assert.deepEqual([first.held, before.state], [false, 'lost']);
      await giveBack(first);
      assert.ok((await second.txn({ then: [] })).succeeded && second.held);
      await giveBack(second);
      await before.close();
      assert.equal(after.state, 'active', 'it still has its lease');
      assert.deepEqual(await keysBelow(client, 'life'), []);
    });

    test(`a ${what} taken over unheard: what the earlier life then does is refused, and ends nothing`, async () => {
      await using sessions = new Sessions(client);
      // Nobody looks after a hold while its clock stands still.
      const clock = new ManualClock();
      const [giver, writer] = await new Sessions(backend.client({ clock })).many(2);
      assert.ok(giver !== undefined && writer !== undefined);
      const given = await take(giver);
      const second = await take(await sessions.open({ leaseId: giver.leaseId }));
      await giveBack(given);
      assert.ok((await second.txn({ then: [] })).succeeded);
      await giveBack(second);

      const written = await take(writer);
      const third = await take(await sessions.open({ leaseId: writer.leaseId }));
      await assert.rejects(written.txn({ then: [op.put('late', '')] }), (error: { cause?: unknown }) => {
        withCode('NOT_HELD')(error);
        return withCode('SESSION_LOST')(error.cause);
      });
      assert.equal(writer.state, 'lost');
      assert.ok((await third.txn({ then: [] })).succeeded);
      await giveBack(third);
    });

    for (const where of ['one process', 'two processes'])
      test(`two lives wait for a ${what} in ${where}: the later one has it, and the earlier one rejects`, async () => {
        await using sessions = new Sessions(client);
        const holder = await take(await sessions.open());
        await using earlier = new Sessions(where === 'one process' ? client : backend.client());
        const before = await earlier.open();
        const first = assert.rejects(take(before), withCode('SESSION_LOST'));
        await untilKeysBelow(client, 'life', 2);
        const [, key = ''] = await keysBelow(client, 'life');
        const place = await client.kv.get(key);
        const second = take(await sessions.open({ leaseId: before.leaseId }));
        await until(async () => (await client.kv.get(key))?.modRevision !== place?.modRevision);
        await giveBack(holder);
        await first;
        assert.ok((await (await second).txn({ then: [] })).succeeded);
        await giveBack(await second);
        assert.deepEqual(await keysBelow(client, 'life'), []);
      });
  }

  test('a leadership resumed as a lock is fenced, and a lock resumed as a leadership', async () => {
    await using sessions = new Sessions(client);
    const one = await sessions.open();
    const led = await new Election(one, 'life').campaign('x');
    const lock = await new Mutex(await sessions.open({ leaseId: one.leaseId }), 'life').lock();
    assert.equal((await client.kv.txn({ if: led.guard() })).succeeded, false);
    const leads = await new Election(await sessions.open({ leaseId: one.leaseId }), 'life').campaign('y');
    assert.equal((await client.kv.txn({ if: lock.guard() })).succeeded, false);
    assert.ok((await leads.txn({ then: [] })).succeeded);
    assertRising([led.fencingToken, lock.fencingToken, leads.fencingToken]);
    await leads.resign();
    assert.equal((await client.kv.range({ prefix: 'life' })).count, 0n);
  });

  test('a leader may proclaim, and its line change, without being thought to be taken over', async () => {
    await using sessions = new Sessions(client);
    const session = await sessions.open();
    const leadership = await new Election(session, 'life').campaign('0');
    const stop = new AbortController();
    const values = new Election(session, 'life').observe({ signal: stop.signal });
    for (let n = 1; n < 50; n++) {
      await leadership.proclaim(String(n));
      await client.kv.put(leadership.key, `somebody ${n}`, { leaseId: session.leaseId });
    }
    await until(async () => (await values.next()).value?.string() === 'somebody 49');
    stop.abort();
    assert.ok(leadership.held && (await leadership.txn({ then: [] })).succeeded);
    await leadership.resign();
  });

  test('election.run of the earlier life stands again, on a session of its own, behind the later one', async () => {
    await using sessions = new Sessions(client);
    const before = await sessions.open();
    const terms: Leadership[] = [];
    const done = new Deferred<void>();
    const running = new Election(before, 'life').run('worker-7', async (leadership, stop) => {
      terms.push(leadership);
      if (terms.length > 1) return done.promise;
      return new Promise<void>((resolve) => stop.addEventListener('abort', () => resolve()));
    });
    await until(() => terms.length === 1);
    const later = await new Election(await sessions.open({ leaseId: before.leaseId }), 'life').campaign(
      'worker-7',
    );
    await untilKeysBelow(client, 'life', 2);
    assert.ok(later.held && (await later.txn({ then: [] })).succeeded);
    await later.resign();
    await until(() => terms.length === 2);
    assertRising([terms[0]?.fencingToken ?? 0n, later.fencingToken, terms[1]?.fencingToken ?? 0n]);
    done.resolve();
    await running;
    assert.deepEqual(await keysBelow(client, 'life'), []);
  });

  test('keys that somebody else has written to, or taken apart, are given back all the same', async () => {
    await using sessions = new Sessions(client);
    const session = await sessions.open();
    const lock = await new Mutex(session, 'life').lock();
    await client.kv.put(lock.key, 'without a lease');
    await lock.unlock();
    const [one, two] = [
      await new Election(session, 'life/1').campaign('x'),
      await new Election(session, 'life/2').campaign('x'),
    ];
    await client.kv.delete({ prefix: 'life/1.~who/' });
    await one.resign();
    await client.kv.delete(two.key);
    await two.resign();
    assert.equal((await client.kv.range({ prefix: 'life' })).count, 0n);
  });
});
