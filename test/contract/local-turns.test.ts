/** Tasks that share a session: what becomes of the next one's turn when the one before it loses what it held. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { type Client, Election, Mutex } from 'conclave';
import { lineOf } from '#conclave/ticket/lines.js';
import { onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';
import { withCode } from './support/rejections.js';
import { keysBelow, Sessions, untilKeysBelow } from './support/sessions.js';

onEachBackend('turns of tasks', (backend) => {
  let client: Client;
  before(() => {
    client = backend.client();
  });

  test('a lock that is lost frees the turn of the next task, though nobody unlocks it', async () => {
    await using sessions = new Sessions(client);
    const mutex = new Mutex(await sessions.open(), 'lost');
    const first = await mutex.lock();
    const waiting = mutex.lock({ timeoutMs: 10_000 });
    await client.kv.delete(first.key);
    const second = await waiting;
    assert.equal(first.held, false);
    withCode('TICKET_LOST')(first.signal.reason);
    assert.ok(second.fencingToken > first.fencingToken);
    await first.unlock();
    assert.ok((await second.txn({ then: [] })).succeeded && second.held);
    assert.deepEqual(await keysBelow(client, 'lost'), [second.key]);
    await second.unlock();
  });

  test('a lost lock that is unlocked as well leaves the waits of others their limits', async () => {
    await using sessions = new Sessions(client);
    const mutex = new Mutex(await sessions.open(), 'twice');
    const first = await mutex.lock();
    const waiting = mutex.lock();
    const stop = new AbortController();
    let told: unknown;
    const given = mutex.lock({ signal: stop.signal }).catch((error: unknown) => (told = error));
    await client.kv.delete(first.key);
    const second = await waiting;
    await first.unlock();
    stop.abort(new Error('enough'));
    await second.txn({ then: [] });
    assert.match(String(told), /enough/, 'told while another has the turn');
    await second.unlock();
    await given;
    assert.deepEqual(await keysBelow(client, 'twice'), []);
  });

  test('a leadership that is lost frees the turn of the next task, though nobody resigns it', async () => {
    await using sessions = new Sessions(client);
    const election = new Election(await sessions.open(), 'lost');
    const first = await election.campaign('first');
    const waiting = election.campaign('second', { timeoutMs: 10_000 });
    await client.kv.delete(first.key);
    const second = await waiting;
    assert.equal(first.held, false);
    withCode('TICKET_LOST')(first.signal.reason);
    assert.ok(second.fencingToken > first.fencingToken);
    await first.resign();
    assert.ok((await second.txn({ then: [] })).succeeded && second.held);
    assert.equal((await election.leader())?.string(), 'second');
    await second.resign();
  });

  test('a lock that is found lost by a write of its holder frees the turn too', async () => {
    await using sessions = new Sessions(client);
    const [one, two] = await sessions.many(2);
    assert.ok(one !== undefined && two !== undefined);
    const mutex = new Mutex(one, 'write');
    const first = await mutex.lock();
    const rival = new Mutex(two, 'write').lock();
    await untilKeysBelow(client, 'write', 2);
    const waiting = mutex.lock({ timeoutMs: 10_000 });
    await client.kv.delete(first.key);
    await assert.rejects(first.txn({ then: [] }), withCode('NOT_HELD'));
    await untilKeysBelow(client, 'write', 2);
    await (await rival).unlock();
    await (await waiting).unlock();
    assert.deepEqual(await keysBelow(client, 'write'), []);
  });

  test('a lock whose waiters have all given up is free as soon as it is given back', async () => {
    await using sessions = new Sessions(client);
    const mutex = new Mutex(await sessions.open(), 'given');
    const held = await mutex.lock();
    const stop = new AbortController();
    const waits = Array.from({ length: 1000 }, () => mutex.lock({ signal: stop.signal }));
    stop.abort(new Error('enough'));
    for (const wait of await Promise.allSettled(waits)) assert.equal(wait.status, 'rejected');
    await held.unlock();
    const again = await mutex.tryLock();
    assert.ok(again !== undefined);
    await again.unlock();
    assert.deepEqual(await keysBelow(client, 'given'), []);
  });

  test('tasks pass a lock on a hundred times, and then line up anew, so that nobody elsewhere waits for ever', async () => {
    await using sessions = new Sessions(client);
    const mutex = new Mutex(await sessions.open(), 'hundred');
    const first = await mutex.lock();
    const places = [first.createRevision];
    const tasks = Array.from({ length: 110 }, () =>
      mutex.run((lock) => void places.push(lock.createRevision)),
    );
    await until(() => lineOf(client, 'hundred').live);
    await first.unlock();
    await Promise.all(tasks);
    assert.equal(places.filter((each) => each === places[0]).length, 101);
    assert.equal(new Set(places).size, 2);
  });
});
