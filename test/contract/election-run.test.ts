import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { type Client, Election, type Leadership, op } from 'conclave';
import { ManualClock } from 'conclave/testing';
import { Deferred } from '#conclave/util/deferred.js';
import { onEachBackend } from '../support/backends.js';
import { assertRising } from '../support/tokens.js';
import { exactly, withCode } from './support/rejections.js';
import { keysBelow, Sessions, untilKeysBelow } from './support/sessions.js';

onEachBackend('election.run', (backend) => {
  let client: Client;
  before(() => {
    client = backend.client();
  });

  test('run leads, resolves with the result and resigns', async () => {
    await using sessions = new Sessions(client);
    const election = new Election(await sessions.open(), 'run');
    const result = await election.run('me', async (leadership) => {
      assert.equal((await election.leader())?.string(), 'me');
      return leadership.fencingToken;
    });
    assert.equal(typeof result, 'bigint');
    assert.equal(await election.leader(), undefined);
    const failure = new Error('the work failed');
    await assert.rejects(
      election.run('me', () => {
        throw failure;
      }),
      exactly(failure),
    );
    assert.equal(await election.leader(), undefined);
  });

  test('a lead that resigns, or steps down, ends the run with what it returns or throws', async () => {
    await using sessions = new Sessions(client);
    const election = new Election(await sessions.open(), 'own');
    let terms = 0;
    const resigns = election.run('me', async (leadership) => {
      terms++;
      await leadership.resign();
      return 'resigned';
    });
    assert.equal(await resigns, 'resigned');
    const stepsDown = election.run('me', (leadership) => {
      terms++;
      leadership.stepDown('tired');
      return 'stepped down';
    });
    assert.equal(await stepsDown, 'stepped down');
    const failure = new Error('after all');
    const fails = election.run('me', async (leadership) => {
      terms++;
      await leadership.resign();
      throw failure;
    });
    fails.catch(() => undefined); // It may reject before it is waited for.
    await assert.rejects(fails, exactly(failure));
    assert.equal(terms, 3);
    assert.deepEqual(await keysBelow(client, 'own'), []);
  });

  test('a leadership that is lost as soon as it is won, over and over, is campaigned for at growing intervals', async () => {
    await using sessions = new Sessions(client);
    const wonAt: number[] = [];
    const result = await new Election(await sessions.open(), 'spin').run('me', async (leadership) => {
      wonAt.push(performance.now());
      if (wonAt.length === 6) return 'at last';
      await client.kv.delete(leadership.key);
      await assert.rejects(leadership.txn({ then: [] }), withCode('NOT_HELD'));
      return 'not this one';
    });
    assert.equal(result, 'at last');
    for (const [at, now] of wonAt.entries()) {
      const pauseMs = Math.round(now - (wonAt[at - 1] ?? -Infinity));
      // Timers of Node may fire a millisecond early.
      assert.ok(pauseMs >= 25 * 2 ** (at - 1) - 1, `pause ${at} was ${pauseMs} ms`);
    }
    assert.deepEqual(await keysBelow(client, 'spin'), []);
  });

  test('run campaigns again after its key, and after its session, is lost', async () => {
    await using sessions = new Sessions(client);
    const session = await sessions.open({ ttlSeconds: 5 });
    const election = new Election(session, 'again');
    const tokens: bigint[] = [];
    const leases = new Set<bigint | undefined>();
    const result = await election.run('me', async (leadership) => {
      tokens.push(leadership.fencingToken);
      const lost = new Promise((resolve) => leadership.signal.addEventListener('abort', resolve));
      const leader = await election.leader();
      leases.add(leader?.leaseId);
      if (tokens.length === 1) await client.kv.delete(leadership.key);
      else if (tokens.length === 2) session.leaseIsGone();
      else return 'done';
      if (tokens.length === 2) await client.lease.revoke(session.leaseId);
      await lost;
      return 'not this one';
    });
    assert.equal(result, 'done');
    assert.deepEqual([tokens.length, leases.size], [3, 2]);
    assertRising(tokens);
    assert.deepEqual(await keysBelow(client, 'again'), []);
  });

  test('run campaigns again when its key is deleted while it waits', async () => {
    await using sessions = new Sessions(client);
    const leadership = await new Election(await sessions.open(), 'retry').campaign('leads');
    const running = new Election(await sessions.open(), 'retry').run('waits', (own) => own.fencingToken);
    await untilKeysBelow(client, 'retry', 2);
    const [, candidate = ''] = await keysBelow(client, 'retry');
    await client.kv.delete(candidate);
    await untilKeysBelow(client, 'retry', 2);
    await leadership.resign();
    assert.ok((await running) > leadership.fencingToken);
  });

  test('run ends with the signal’s reason, waiting or leading, and leaves nothing', async () => {
    await using sessions = new Sessions(client);
    const [one, two] = await sessions.many(2);
    assert.ok(one !== undefined && two !== undefined);
    const stopOne = new AbortController();
    const stopTwo = new AbortController();
    const leads = new Election(one, 'stop').run(
      'leads',
      async (own, stop) => {
        await aborted(stop);
        // Still ours, so that the leader can put things in order.
        await own.proclaim('is leaving');
      },
      { signal: stopOne.signal },
    );
    leads.catch(() => undefined); // It may reject before it is waited for.
    await untilKeysBelow(client, 'stop', 1);
    const waits = new Election(two, 'stop').run('waits', () => assert.fail('never leads'), {
      signal: stopTwo.signal,
    });
    waits.catch(() => undefined); // It may reject before it is waited for.
    await untilKeysBelow(client, 'stop', 2);
    stopTwo.abort('two');
    await assert.rejects(waits, exactly('two'));
    await untilKeysBelow(client, 'stop', 1);
    const rejected = assert.rejects(leads, exactly('one'));
    stopOne.abort('one');
    await rejected;
    assert.deepEqual(await keysBelow(client, 'stop'), []);
  });

  test('run that is stopped ends the leadership here at once, and gives it up when the callback has ended', async () => {
    await using sessions = new Sessions(client);
    const stop = new AbortController();
    const led = new Deferred<Leadership>();
    const tidy = new Deferred<void>();
    const running = new Election(await sessions.open(), 'wind').run(
      'leads',
      async (leadership) => {
        led.resolve(leadership);
        await tidy.promise;
      },
      { signal: stop.signal },
    );
    running.catch(() => undefined); // It may reject before it is waited for.
    const leadership = await led.promise;
    const rival = new Election(await sessions.open(), 'wind').campaign('rival');
    await untilKeysBelow(client, 'wind', 2);
    const rejected = assert.rejects(running, exactly('enough'));
    assert.ok(leadership.held);
    stop.abort('enough');
    assert.deepEqual([leadership.held, leadership.signal.reason], [false, 'enough']);
    await assert.rejects(leadership.txn({ then: [op.put('wind/x/late', '')] }), withCode('NOT_HELD'));
    assert.equal((await new Election(await sessions.open(), 'wind').leader())?.key, leadership.key);
    tidy.resolve();
    await rejected;
    assert.ok((await rival).fencingToken > leadership.fencingToken);
    await (await rival).resign();
    assert.deepEqual(await keysBelow(client, 'wind'), []);
  });

  test('run gives a candidacy up after timeoutMs, and no term', async () => {
    const clock = new ManualClock();
    await using sessions = new Sessions(backend.client({ clock }));
    const [one, two] = await sessions.many(2);
    assert.ok(one !== undefined && two !== undefined);
    const led = new Deferred<Leadership>();
    const goOn = new Deferred<string>();
    const lead = (leadership: Leadership): Promise<string> => {
      led.resolve(leadership);
      return goOn.promise;
    };
    const running = new Election(one, 'limit').run('leads', lead, { timeoutMs: 500 });
    const leadership = await led.promise;
    const never = new Election(two, 'limit').run('waits', () => assert.fail('leads'), { timeoutMs: 500 });
    never.catch(() => undefined); // It may reject before it is waited for.
    await untilKeysBelow(client, 'limit', 2);
    const timedOut = assert.rejects(never, withCode('TIMEOUT'));
    await clock.advance(1000);
    await timedOut;
    await untilKeysBelow(client, 'limit', 1);
    assert.ok(leadership.held && !leadership.signal.aborted);
    await leadership.txn({ then: [] });
    goOn.resolve('done');
    assert.equal(await running, 'done');
    assert.deepEqual(await keysBelow(client, 'limit'), []);
  });
});

/** Resolves when the signal aborts. */
function aborted(signal: AbortSignal): Promise<unknown> {
  return new Promise((resolve) => signal.addEventListener('abort', resolve));
}
