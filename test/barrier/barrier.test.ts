// Barrier: hold, release, wait, and what becomes of it when its holder dies; on both backends.
import assert from 'node:assert/strict';
import { it } from 'node:test';

import { Barrier, type BarrierHold, type Client, compare, hasCode, op, Session } from 'conclave';

import { onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';

const coded = (code: string) => (error: unknown) => hasCode(error) && error.code === code;

/** Resolves with false when the promise is still pending after everything that is ready has run. */
async function settled(promise: Promise<unknown>): Promise<boolean> {
  let done = false;
  const note = (): void => {
    done = true;
  };
  promise.then(note, note);
  for (let turn = 0; turn < 5; turn++) await new Promise<void>((resolve) => setImmediate(resolve));
  return done;
}

onEachBackend('Barrier', (backend) => {
  const pair = async (): Promise<{ client: Client; holder: Session; waiter: Session }> => {
    const client = backend.client();
    const [holder, waiter] = await Promise.all([
      Session.open(client, { ttlSeconds: 5 }),
      Session.open(backend.client(), { ttlSeconds: 5 }),
    ]);
    return { client, holder, waiter };
  };

  it('is open while nobody holds it', async () => {
    await new Barrier(backend.client(), 'open').wait();
    assert.deepEqual(await new Barrier(backend.client(), 'open').inspect(), {
      owner: undefined,
      state: 'open',
    });
  });

  it('keeps waiters until it is released, and then lets all of them go', async () => {
    const { holder, waiter } = await pair();
    const barrier = new Barrier(holder, 'wait');
    const hold = await barrier.hold();
    const waits = [1, 2, 3].map(async () => new Barrier(waiter, 'wait').wait());
    assert.equal(await settled(Promise.race(waits)), false);
    assert.equal((await barrier.inspect()).state, 'held');
    await barrier.release();
    await Promise.all(waits);
    assert.equal(hold.held, false);
    assert.ok(hold.signal.aborted);
    await Promise.all([holder.close(), waiter.close()]);
  });

  it('refuses a second hold, a release without a hold, and a second release', async () => {
    const { holder, waiter } = await pair();
    const barrier = new Barrier(holder, 'twice');
    await barrier.hold();
    await assert.rejects(new Barrier(waiter, 'twice').hold(), coded('ALREADY_HELD'));
    await assert.rejects(barrier.hold(), coded('ALREADY_HELD'));
    await assert.rejects(new Barrier(waiter, 'twice').release(), coded('NOT_HELD'));
    // At the same time they are one release.
    await Promise.all([barrier.release(), barrier.release(), barrier.release()]);
    await assert.rejects(barrier.release(), coded('NOT_HELD'));
    const hold = await barrier.hold();
    await hold.release();
    await assert.rejects(barrier.release(), coded('NOT_HELD'));
    await hold.release();
    await Promise.all([holder.close(), waiter.close()]);
  });

  it('gives each hold a greater token and a guard that ends with it', async () => {
    const { client, holder } = await pair().then(async ({ waiter, ...rest }) => {
      await waiter.close();
      return rest;
    });
    const barrier = new Barrier(holder, 'token');
    const first = await barrier.hold();
    await first.txn({ then: [op.put('token-data', '1')] });
    await first.release();
    await first.release();
    const second = await barrier.hold();
    assert.ok(second.fencingToken > first.fencingToken);
    const late = await client.kv.txn({ if: first.guard(), then: [op.put('token-data', '2')] });
    assert.equal(late.succeeded, false);
    await assert.rejects(first.txn({ then: [op.put('token-data', '2')] }), coded('NOT_HELD'));
    // A release of the first hold that arrives late must not open the second one.
    await first.release();
    assert.ok(second.held);
    assert.equal((await barrier.inspect()).state, 'held');
    await client.kv.delete('token-data');
    await second.release();
    await holder.close();
  });

  it('tells all waiters, those to come too, that it broke when the holder dies, until it is held again', async () => {
    const { holder, waiter } = await pair();
    const barrier = new Barrier(waiter, 'break');
    const hold: BarrierHold = await new Barrier(holder, 'break').hold();
    const waiting = barrier.wait();
    const rejected = assert.rejects(waiting, coded('BROKEN'));
    assert.equal(await settled(waiting), false);
    await holder.close(); // The lease ends, as after a crash.
    await rejected;
    await assert.rejects(barrier.wait(), coded('BROKEN'));
    assert.equal((await barrier.inspect()).state, 'broken');
    await assert.rejects(hold.release(), coded('NOT_HELD'));
    assert.equal((await barrier.inspect()).state, 'broken');
    await barrier.hold();
    const next = new Barrier(waiter, 'break').wait();
    assert.equal(await settled(next), false);
    await barrier.release();
    await next;
    await waiter.close();
  });

  it("opens when the holder dies if it was held with ifHolderDies 'open'", async () => {
    const { holder, waiter } = await pair();
    await new Barrier(holder, 'lets-go').hold({ ifHolderDies: 'open' });
    const waiting = new Barrier(waiter, 'lets-go').wait();
    assert.equal(await settled(waiting), false);
    await holder.close();
    await waiting;
    await waiter.close();
  });

  it("stays closed when the holder dies if it was held with ifHolderDies 'stay', until it is reset", async () => {
    const { client, holder, waiter } = await pair();
    await new Barrier(holder, 'stays').hold({ ifHolderDies: 'stay' });
    await holder.close();
    const barrier = new Barrier(client, 'stays');
    await assert.rejects(barrier.wait({ timeoutMs: 50 }), coded('TIMEOUT'));
    const waiting = new Barrier(waiter, 'stays').wait();
    assert.equal(await barrier.reset(), true);
    await waiting;
    assert.equal(await barrier.reset(), false);
    await waiter.close();
  });

  it('rejects a wait with the reason of its signal, its timeout and its session, leaving nothing', async () => {
    const { client, holder, waiter } = await pair();
    await using hold = await new Barrier(holder, 'limits').hold();
    const stop = new AbortController();
    const aborted = new Barrier(waiter, 'limits').wait({ signal: stop.signal });
    const check = assert.rejects(aborted, /enough/);
    stop.abort(new Error('enough'));
    await check;
    await assert.rejects(new Barrier(client, 'limits').wait({ timeoutMs: 20 }), coded('TIMEOUT'));
    const orphaned = new Barrier(waiter, 'limits').wait();
    const closed = assert.rejects(orphaned, coded('CLOSED'));
    await waiter.close();
    await closed;
    await hold.release();
    await holder.close();
  });

  it('sees that it was open in between, although it is held again', async () => {
    const { holder, waiter } = await pair();
    const barrier = new Barrier(holder, 'again');
    for (let round = 0; round < 20; round++) {
      await barrier.hold();
      const waiting = new Barrier(waiter, 'again').wait();
      assert.equal(await settled(waiting), false);
      await barrier.release();
      await waiting;
    }
    await Promise.all([holder.close(), waiter.close()]);
  });

  it('leaves nothing when holding is given up', async () => {
    const { client, holder, waiter } = await pair();
    const stop = new AbortController();
    const holding = new Barrier(holder, 'abandon').hold({ signal: stop.signal });
    stop.abort(new Error('changed my mind'));
    await assert.rejects(holding, /changed my mind/);
    await until(async () => (await client.kv.range({ prefix: 'abandon/' })).count === 0n);
    await Promise.all([holder.close(), waiter.close()]);
  });

  it('tells the holder at once when its lease is revoked, or the barrier is reset, from outside', async () => {
    const { client, waiter } = await pair().then(async ({ holder, ...rest }) => {
      await holder.close();
      return rest;
    });
    // So long a TTL that no keepalive can be what tells it.
    const session = await Session.open(client, { ttlSeconds: 600 });
    const barrier = new Barrier(session, 'outside');
    for (const ifHolderDies of ['break', 'open', 'stay'] as const) {
      const hold = await barrier.hold({ ifHolderDies });
      const lost = new Promise<void>((resolve) => {
        hold.signal.addEventListener('abort', () => resolve());
      });
      await new Barrier(waiter, 'outside').reset();
      await lost;
      assert.equal(hold.held, false);
      await assert.rejects(hold.release(), coded('NOT_HELD'));
    }
    const hold = await barrier.hold();
    await client.lease.revoke(session.leaseId);
    await until(() => hold.signal.aborted);
    await session.close().catch(() => undefined);
    await new Barrier(waiter, 'outside').reset();
    await waiter.close();
  });

  it('refuses bad input before any request', async () => {
    const { client, holder, waiter } = await pair();
    assert.throws(() => new Barrier(client, ''), TypeError);
    assert.throws(() => new Barrier(client, 'a\0b'), TypeError);
    await assert.rejects(new Barrier(client, 'x').hold(), /without a session/);
    await assert.rejects(new Barrier(holder, 'x').hold({ ifHolderDies: 'maybe' as 'open' }), /ifHolderDies/);
    await assert.rejects(new Barrier(holder, 'x').wait({ timeoutMs: -1 }), RangeError);
    const there = await client.kv.txn({ if: [compare.createRevision({ prefix: 'x/' }, '=', 0n)] });
    assert.ok(there.succeeded);
    await Promise.all([holder.close(), waiter.close()]);
  });
});
