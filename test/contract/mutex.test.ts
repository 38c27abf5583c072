import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { type Client, compare, type Lock, Mutex, op, type Session } from 'conclave';
import { onEachBackend } from '../support/backends.js';
import { assertRising } from '../support/tokens.js';
import { until } from '../support/until.js';
import { exactly, withCode } from './support/rejections.js';
import { keysBelow, Sessions, untilKeysBelow } from './support/sessions.js';

onEachBackend('mutex', (backend) => {
  let client: Client;
  before(() => {
    client = backend.client();
  });

  test('is held by one session at a time, first come, first served, with greater tokens', async () => {
    await using sessions = new Sessions(client);
    const order: number[] = [];
    const tokens: bigint[] = [];
    let inside = 0;
    const waits: Promise<void>[] = [];
    const first = await new Mutex(await sessions.open(), 'fifo').lock();
    for (let n = 0; n < 8; n++) {
      const mutex = new Mutex(await sessions.open(), 'fifo');
      waits.push(
        mutex.run(async (lock) => {
          assert.equal(++inside, 1);
          order.push(n);
          tokens.push(lock.fencingToken);
          await client.kv.range('x');
          assert.ok(lock.held);
          inside -= 1;
        }),
      );
      await untilKeysBelow(client, 'fifo', n + 2);
    }
    await first.unlock();
    await Promise.all(waits);
    assert.deepEqual(order, [0, 1, 2, 3, 4, 5, 6, 7]);
    assertRising(tokens);
    assert.deepEqual(await keysBelow(client, 'fifo'), []);
  });

  test('is held by one task at a time on one session, in the order of the calls', async () => {
    await using sessions = new Sessions(client);
    const mutex = new Mutex(await sessions.open(), 'tasks');
    const order: number[] = [];
    const tokens: bigint[] = [];
    let inside = 0;
    const task = (n: number): Promise<void> =>
      mutex.run(async (lock) => {
        assert.equal(++inside, 1);
        order.push(n);
        tokens.push(lock.fencingToken);
        await lock.txn({ then: [op.put('tasks/n/last', String(n))] });
        inside -= 1;
      });
    await Promise.all(Array.from({ length: 30 }, (_, n) => task(n)));
    assert.deepEqual(order, [...Array(30).keys()]);
    assertRising(tokens);
    assert.deepEqual(await keysBelow(client, 'tasks'), ['tasks/n/last']);
    await client.kv.delete('tasks/n/last');
  });

  test('two Mutex objects of one name on one session exclude each other', async () => {
    await using sessions = new Sessions(client);
    const session = await sessions.open();
    const first = await new Mutex(session, 'same').lock();
    assert.equal(await new Mutex(session, 'same').tryLock(), undefined);
    const second = new Mutex(session, 'same').lock();
    await first.unlock();
    assert.ok((await second).fencingToken > first.fencingToken);
    await (await second).unlock();
  });

  test('tokens rise over local handovers and across sessions, in any mixture', async () => {
    await using sessions = new Sessions(client);
    const [one, two] = await sessions.many(2);
    assert.ok(one !== undefined && two !== undefined);
    const tokens: bigint[] = [];
    const task = (session: Session): Promise<void> =>
      new Mutex(session, 'mix').run((lock) => void tokens.push(lock.fencingToken));
    await Promise.all(Array.from({ length: 40 }, (_, n) => task(n % 3 === 0 ? two : one)));
    assert.equal(tokens.length, 40);
    assertRising(tokens);
  });

  test('a later task’s hold refuses the writes of an earlier one, on the same key', async () => {
    await using sessions = new Sessions(client);
    const mutex = new Mutex(await sessions.open(), 'late');
    // Handed over without giving the key up, once the line is followed.
    const [first, second] = await until(async () => {
      const before = await mutex.lock();
      const waiting = mutex.lock();
      await before.unlock();
      const after = await waiting;
      if (after.createRevision === before.createRevision) return [before, after] as const;
      await after.unlock();
      return undefined;
    });
    const guard = first.guard();
    // A request that the first task had already made, and which arrives now.
    const late = await client.kv.txn({ if: guard, then: [op.put('late-write', 'stale')] });
    assert.equal(late.succeeded, false);
    await assert.rejects(first.txn({ then: [op.put('late-write', 'stale')] }), withCode('NOT_HELD'));
    const fresh = await second.txn({
      else: [op.get('none')],
      if: [compare.missing('late-write')],
      then: [op.put('late-write', 'fresh')],
    });
    assert.deepEqual([fresh.succeeded, fresh.responses.map((each) => each.type)], [true, ['put']]);
    const again = await second.txn({ else: [op.get('late-write')], if: [compare.missing('late-write')] });
    assert.deepEqual([again.succeeded, again.responses.length], [false, 1]);
    await second.unlock();
    await assert.rejects(second.txn({ then: [op.put('late-write', 'stale')] }), withCode('NOT_HELD'));
    assert.equal((await client.kv.get('late-write'))?.string(), 'fresh');
    await client.kv.delete('late-write');
  });

  test('an abort removes our key, then rejects with the signal’s own reason', async () => {
    await using sessions = new Sessions(client);
    const [one, two] = await sessions.many(2);
    assert.ok(one !== undefined && two !== undefined);
    const held = await new Mutex(one, 'abort').lock();
    const abort = new AbortController();
    const waiting = new Mutex(two, 'abort').lock({ signal: abort.signal });
    waiting.catch(() => undefined); // It may reject before it is waited for.
    await untilKeysBelow(client, 'abort', 2);
    const reason = { not: 'even an error' };
    abort.abort(reason);
    await assert.rejects(waiting, exactly(reason));
    assert.deepEqual(await keysBelow(client, 'abort'), [held.key]);
    await assert.rejects(new Mutex(two, 'abort').lock({ signal: abort.signal }), exactly(reason));
    await assert.rejects(new Mutex(two, 'abort').lock({ timeoutMs: 60 }), withCode('TIMEOUT'));
    await assert.rejects(new Mutex(one, 'abort').lock({ timeoutMs: 60 }), withCode('TIMEOUT'));
    await assert.rejects(new Mutex(two, 'abort').lock({ timeoutMs: 0 }), withCode('TIMEOUT'));
    assert.deepEqual(await keysBelow(client, 'abort'), [held.key]);
    assert.ok(held.held);
    await held.unlock();
  });

  test('tryLock takes a free lock, and leaves nothing when it is taken', async () => {
    await using sessions = new Sessions(client);
    const [one, two] = await sessions.many(2);
    assert.ok(one !== undefined && two !== undefined);
    const held = await new Mutex(one, 'try').tryLock();
    assert.ok(held?.held);
    const { revision } = await client.kv.range('x');
    assert.equal(await new Mutex(two, 'try').tryLock(), undefined);
    assert.equal((await client.kv.range('x')).revision, revision);
    await held.unlock();
    const again = await new Mutex(two, 'try').tryLock();
    assert.ok(again !== undefined && again.fencingToken > held.fencingToken);
    await again.unlock();
  });

  test('tryLock never touches the key of a sibling that waits', async () => {
    await using sessions = new Sessions(client);
    const [one, two] = await sessions.many(2);
    assert.ok(one !== undefined && two !== undefined);
    const held = await new Mutex(one, 'sibling').lock();
    const waiting = new Mutex(two, 'sibling').lock();
    await untilKeysBelow(client, 'sibling', 2);
    assert.equal(await new Mutex(two, 'sibling').tryLock(), undefined);
    assert.equal((await keysBelow(client, 'sibling')).length, 2);
    await held.unlock();
    await (await waiting).unlock();
  });

  test('data below the name does not block, and tryLock sees past it', async () => {
    await using sessions = new Sessions(client);
    await client.kv.put('orders/42/state', 'open');
    const other = await client.lease.grant(60);
    await client.kv.put('orders/42/x/deeper', '', { leaseId: other.id });
    await client.kv.put('orders/42/plain', 'no lease');
    const mutex = new Mutex(await sessions.open(), 'orders/42');
    for (let n = 0; n < 20; n++) {
      const lock = await (n % 2 === 0 ? mutex.tryLock() : mutex.lock({ timeoutMs: 5000 }));
      assert.ok(lock?.held, `round ${n}`);
      await lock.unlock();
    }
    assert.equal((await keysBelow(client, 'orders/42')).length, 3);
    await client.kv.delete({ prefix: 'orders/' });
    await client.lease.revoke(other.id);
  });

  test('a foreign key with a lease and no value is in line, as Go’s are', async () => {
    await using sessions = new Sessions(client);
    const foreign = await client.lease.grant(60);
    await client.kv.put(`go/${foreign.id.toString(16)}`, '', { leaseId: foreign.id });
    const mutex = new Mutex(await sessions.open(), 'go');
    assert.equal(await mutex.tryLock(), undefined);
    const waiting = mutex.lock();
    await untilKeysBelow(client, 'go', 2);
    await client.lease.revoke(foreign.id);
    await (await waiting).unlock();
  });

  test('a waiter whose key is deleted from outside gets TICKET_LOST at once', async () => {
    await using sessions = new Sessions(client);
    const [one, two] = await sessions.many(2);
    assert.ok(one !== undefined && two !== undefined);
    const held = await new Mutex(one, 'lost').lock();
    const waiting = new Mutex(two, 'lost').lock();
    waiting.catch(() => undefined); // It may reject before it is waited for.
    await untilKeysBelow(client, 'lost', 2);
    const [, key = ''] = await keysBelow(client, 'lost');
    await Promise.all([assert.rejects(waiting, withCode('TICKET_LOST')), client.kv.delete(key)]);
    assert.ok(held.held);
    await held.unlock();
  });

  test('a holder whose key is deleted from outside hears TICKET_LOST at once', async () => {
    await using sessions = new Sessions(client);
    const mutex = new Mutex(await sessions.open(), 'taken');
    const held = await mutex.lock();
    await client.kv.delete(held.key);
    await until(() => held.signal.aborted);
    assert.equal(held.held, false);
    withCode('TICKET_LOST')(held.signal.reason);
    await assert.rejects(held.txn({ then: [op.put('x', '')] }), withCode('NOT_HELD'));
    await held.unlock();
    await assert.rejects(
      mutex.run(async (lock) => {
        await client.kv.delete(lock.key);
        await until(() => lock.signal.aborted);
      }),
      withCode('TICKET_LOST'),
    );
    await (await mutex.lock()).unlock();
  });

  test('a key written anew by somebody else is not ours', async () => {
    await using sessions = new Sessions(client);
    const session = await sessions.open();
    const held = await new Mutex(session, 'anew').lock();
    await client.kv.delete(held.key);
    await client.kv.put(held.key, 'ours again?', { leaseId: session.leaseId });
    await assert.rejects(held.txn({ then: [op.put('x', '')] }), withCode('NOT_HELD'));
    await held.unlock();
    assert.equal((await client.kv.get(held.key))?.string(), 'ours again?');
  });

  test('a session lost while waiting rejects with SESSION_LOST at once; its holder’s signal aborts', async () => {
    await using sessions = new Sessions(client);
    const [one, two] = await sessions.many(2);
    assert.ok(one !== undefined && two !== undefined);
    const held = await new Mutex(one, 'dies').lock();
    const waits = [new Mutex(two, 'dies').lock(), new Mutex(two, 'dies').lock()];
    await untilKeysBelow(client, 'dies', 2);
    const rejected = Promise.all(waits.map((wait) => assert.rejects(wait, withCode('SESSION_LOST'))));
    two.leaseIsGone();
    await rejected;
    await assert.rejects(new Mutex(two, 'dies').lock(), withCode('SESSION_LOST'));
    one.leaseIsGone();
    assert.equal(held.held, false);
    withCode('SESSION_LOST')(held.signal.reason);
    await held.unlock();
  });

  test('unlocking twice, disposing and run give the lock back once', async () => {
    await using sessions = new Sessions(client);
    const mutex = new Mutex(await sessions.open(), 'twice');
    const lock = await mutex.lock();
    await Promise.all([lock.unlock(), lock.unlock()]);
    withCode('NOT_HELD')(lock.signal.reason);
    const next = await mutex.lock();
    await lock.unlock();
    assert.ok(next.held);
    await next[Symbol.asyncDispose]();
    await next[Symbol.asyncDispose]();
    assert.equal(await mutex.run(() => 'result'), 'result');
    assert.equal(await mutex.run((own) => own.unlock().then(() => 'given back')), 'given back');
    const failure = new Error('the work failed');
    await assert.rejects(
      mutex.run(() => {
        throw failure;
      }),
      exactly(failure),
    );
    assert.deepEqual(await keysBelow(client, 'twice'), []);
  });

  test('a session resumed by its lease takes the lock on, with a greater token', async () => {
    await using sessions = new Sessions(client);
    const before = await sessions.open();
    const held = await new Mutex(before, 'resume').lock();
    before.orphan();
    assert.equal(held.held, false);
    const after = await sessions.open({ leaseId: before.leaseId });
    const resumed = await new Mutex(after, 'resume').lock({ timeoutMs: 5000 });
    assert.equal(resumed.createRevision, held.createRevision);
    assert.ok(resumed.fencingToken > held.fencingToken);
    assert.equal((await client.kv.txn({ if: held.guard() })).succeeded, false);
    await resumed.unlock();
  });

  test('a hundred tasks that abort at any moment leave nothing, and nobody stuck', async () => {
    await using sessions = new Sessions(client);
    const all = await sessions.many(4);
    let inside = 0;
    const tokens: bigint[] = [];
    const task = async (n: number): Promise<void> => {
      const abort = new AbortController();
      const mutex = new Mutex(all[n % all.length] as Session, 'hundred');
      const locking =
        n % 7 === 0 ? mutex.tryLock({ signal: abort.signal }) : mutex.lock({ signal: abort.signal });
      if (n % 3 === 0) setTimeout(() => abort.abort('enough'), (n * 7) % 60);
      let lock: Lock | undefined;
      try {
        lock = await locking;
      } catch (reason) {
        assert.equal(reason, 'enough');
      }
      if (lock === undefined) return;
      assert.equal(++inside, 1);
      tokens.push(lock.fencingToken);
      await new Promise((resolve) => setImmediate(resolve));
      assert.ok(lock.held);
      inside -= 1;
      await lock.unlock();
    };
    await Promise.all(Array.from({ length: 100 }, (_, n) => task(n)));
    const patient = Array.from({ length: 100 }, (_, n) => n).filter((n) => n % 3 !== 0 && n % 7 !== 0);
    assert.ok(tokens.length >= patient.length, `${tokens.length} of ${patient.length}`);
    assertRising(tokens);
    assert.deepEqual(await keysBelow(client, 'hundred'), []);
  });
});
