// Attempts that are given up while answers are overdue: what cleans up after one must not end the next one's hold.
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';

import { type Lock, Mutex, op, type Session } from 'conclave';
import { type FaultProxy, ManualClock } from 'conclave/testing';
import { lineOf } from '#conclave/ticket/lines.js';
import { onEachBackend } from '../support/backends.js';
import { assertRising } from '../support/tokens.js';
import { until } from '../support/until.js';
import { Random } from './random.js';
import { deletes, fate, LOSSES, RPC, Scene } from './scene.js';

/** A session behind a proxy, whose time passes when the test says so. */
interface Stage {
  readonly scene: Scene;
  readonly proxy: FaultProxy;
  readonly clock: ManualClock;
  readonly session: Session;
}

onEachBackend('mutex, with overdue answers', (backend) => {
  async function stage(t: TestContext, timeoutMs = 5000): Promise<Stage> {
    const scene = new Scene(t, backend);
    const proxy = await scene.proxy();
    const clock = new ManualClock();
    const session = await scene.session(scene.client(proxy, { clock, timeoutMs }), { ttlSeconds: 60 });
    return { clock, proxy, scene, session };
  }

  /** Lets the time pass in which a late removal could come, and looks whether the hold is still ours. */
  async function staysHeld({ clock, scene }: Stage, lock: Lock): Promise<void> {
    for (let seconds = 0; seconds < 10; seconds++) {
      await clock.advance(1000);
      // An answer to a later request: what was sent before it has arrived.
      assert.ok((await lock.txn({ then: [op.get(lock.key)] })).succeeded && lock.held);
    }
    assert.deepEqual(await scene.keys(lock.key), [lock.key]);
  }

  /** Rejects with the reason of an abort, after the time that a clean-up may hold it up. */
  async function givesUp(clock: ManualClock, attempt: Promise<unknown>): Promise<void> {
    const rejected = assert.rejects(attempt, /enough/);
    await clock.advance(3000);
    await rejected;
  }

  test('the clean-up of an attempt whose answer is overdue spares the next attempt', async (t) => {
    const at = await stage(t);
    const { clock, proxy, session } = at;
    const mutex = new Mutex(session, 'overdue');
    const held = proxy.onCall(RPC.txn, 'holdReply', { times: 1 });
    const stop = new AbortController();
    const first = mutex.lock({ signal: stop.signal });
    await held.hit();
    stop.abort(new Error('enough'));
    // After its own limit it stops waiting for the clean-up, which waits for the answer.
    await givesUp(clock, first);
    const locking = mutex.lock({ timeoutMs: 15_000 });
    // The answer will not come in time: what the request has written is looked for, and removed.
    await clock.advance(2000);
    const next = await locking;
    held.release();
    await staysHeld(at, next);
    await next.unlock();
  });

  test('an unlock that could not be confirmed, called again, does not hand on what is being removed', async (t) => {
    const at = await stage(t, 300);
    const { clock, proxy, scene, session } = at;
    const mutex = new Mutex(session, 'again');
    const lock = await mutex.lock();
    const stopSecond = new AbortController();
    const second = mutex.lock({ signal: stopSecond.signal });
    second.catch(() => undefined); // It may reject before it is waited for.
    const third = mutex.lock({ timeoutMs: 20_000 });
    // Somebody else is in line at first, so that the lock is given back and not handed on.
    const stopRival = new AbortController();
    const rival = new Mutex(await scene.session(scene.direct), 'again').lock({ signal: stopRival.signal });
    rival.catch(() => undefined); // It may reject before it is waited for.
    const line = lineOf(session.client, 'again');
    await until(() => line.live && line.keyAfter(lock.key) !== undefined);
    const lost = proxy.onCall(RPC.txn, 'dropRequest', { then: 'silence', times: 100, where: deletes });
    const unlocking = assert.rejects(lock.unlock());
    await lost.hit();
    await clock.advance(300);
    await unlocking;
    const rivalGone = assert.rejects(rival, /enough/);
    stopRival.abort(new Error('enough'));
    await rivalGone;
    await until(() => line.keyAfter(lock.key) === undefined);
    const again = lock.unlock().catch(() => undefined);
    const thirdly = fate(third);
    const secondGone = assert.rejects(second, /enough/);
    stopSecond.abort(new Error('enough'));
    await secondGone;
    // What a handover would have sent has been answered.
    await session.client.kv.get('x');
    await session.client.kv.get('x');
    assert.equal(thirdly.state, 'pending', 'it is not handed on');
    lost.release();
    await until(async () => {
      await clock.advance(100);
      return thirdly.state !== 'pending';
    });
    await again;
    const next = await third;
    assert.ok(next.fencingToken > lock.fencingToken);
    await staysHeld(at, next);
    await next.unlock();
  });

  test('a handover that is given up while its answer is overdue spares the next task', async (t) => {
    const at = await stage(t);
    const { clock, proxy, session } = at;
    const mutex = new Mutex(session, 'handover');
    const lock = await mutex.lock();
    const taken = proxy.replies(RPC.txn);
    const stop = new AbortController();
    const second = mutex.lock({ signal: stop.signal });
    const third = mutex.lock({ timeoutMs: 20_000 });
    // The line is followed, so that who unlocks knows that nobody waits elsewhere.
    await proxy.waitFor(() => proxy.replies(RPC.txn) > taken);
    await session.client.kv.get('x');
    const held = proxy.onCall(RPC.txn, 'holdReply', { times: 1 });
    await lock.unlock();
    await held.hit();
    stop.abort(new Error('enough'));
    await givesUp(clock, second);
    const next = await third;
    held.release();
    await staysHeld(at, next);
    await next.unlock();
  });

  test('tasks that come and go while answers are lost or overdue never hold it together', async (t) => {
    const random = new Random(t);
    const scene = new Scene(t, backend);
    const { direct } = scene;
    const proxy = await scene.proxy();
    const client = scene.client(proxy, { timeoutMs: 250 });
    const session = await scene.session(client, { ttlSeconds: 60 });
    const sessions = [session, await scene.session(client, { ttlSeconds: 60 })];
    let inside = 0;
    let holds = 0;
    const tokens: bigint[] = [];
    const task = async (n: number): Promise<void> => {
      const abort = new AbortController();
      const timer = setTimeout(() => abort.abort('enough'), 20 + random.below(1500));
      try {
        const mutex = new Mutex(sessions[n % 2] ?? session, 'storm');
        const lock = await mutex.lock({ signal: abort.signal });
        assert.equal(++inside, 1, 'two hold it');
        tokens.push(lock.fencingToken);
        holds += 1;
        const seen = await direct.kv.txn({ if: lock.guard(), then: [op.get(lock.key)] });
        assert.ok(seen.succeeded, 'the store says that somebody else holds it');
        inside -= 1;
        await lock.unlock().catch(() => undefined);
      } catch (reason) {
        if (reason !== 'enough')
          assert.match(String(reason), /UNKNOWN|may or may not|did not answer|cannot connect/);
      } finally {
        clearTimeout(timer);
      }
    };
    let struck = 0;
    const over = new AbortController();
    const weather = (async () => {
      while (!over.signal.aborted) {
        const lost = random.below(2) === 0;
        const fault = lost
          ? proxy.swallowNextReply({ method: RPC.txn, then: random.pick(LOSSES) })
          : proxy.onCall(RPC.txn, 'holdReply', { times: 1 });
        await new Promise((resolve) => setTimeout(resolve, 10 + random.below(120)));
        fault.release();
        struck += fault.hits;
        await new Promise((resolve) => setTimeout(resolve, random.below(60)));
      }
    })();
    while (struck < 10) await Promise.all(Array.from({ length: 12 }, (_, n) => task(n)));
    over.abort();
    await weather;
    await proxy.heal();
    const last = await new Mutex(session, 'storm').lock({ timeoutMs: 20_000 });
    assert.ok(holds > 0 && last.fencingToken > (tokens.at(-1) ?? 0n));
    assertRising(tokens);
    await last.unlock();
    await scene.untilKeys('storm/', 0);
  });
});
