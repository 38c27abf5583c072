/** Attempts that are given up while answers are overdue: what cleans up after one must not end the next one's hold. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Client, compare, type Lock, Mutex, op, Session } from 'conclave';
import { FaultProxy } from 'conclave/testing';
import { onEachBackend } from '../support/backends.js';
import { assertRising } from '../support/tokens.js';
import { exactly } from './support/rejections.js';

const TXN = '/etcdserverpb.KV/Txn';
const RANGE = '/etcdserverpb.KV/Range';

onEachBackend('mutex, with overdue answers', (backend) => {
  /** A session behind a proxy, and what is needed to look past it. */
  async function scene(timeoutMs = 5000): Promise<{
    proxy: FaultProxy;
    session: Session;
    direct: Client;
    end: () => Promise<void>;
  }> {
    const proxy = await FaultProxy.start(backend.endpoints[0] ?? '', { grpc: true });
    const client = new Client({ endpoints: proxy.endpoint, timeoutMs });
    const session = await Session.open(client, { ttlSeconds: 60 });
    const direct = backend.client();
    const end = async (): Promise<void> => {
      await proxy.heal();
      await session.close();
      await client.close();
      await proxy.close();
      assert.equal((await direct.kv.range({ prefix: '' })).count, 0n);
    };
    return { direct, end, proxy, session };
  }

  /** Whether the hold is still ours, seen by the server, for as long as a late removal could take. */
  async function staysHeld(lock: Lock, forMs: number): Promise<void> {
    for (const end = performance.now() + forMs; performance.now() < end;) {
      await lock.txn({ if: [compare.exists(lock.key)], then: [op.get(lock.key)] });
      assert.ok(lock.held);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  test('the clean-up of an attempt whose answer is overdue spares the next attempt', async () => {
    const { proxy, session, end } = await scene();
    const mutex = new Mutex(session, 'overdue');
    const held = proxy.onCall(TXN, 'holdReply', { times: 1 });
    const abort = new AbortController();
    const first = mutex.lock({ signal: abort.signal });
    await held.hit();
    abort.abort('enough');
    // After its own limit it stops waiting for the clean-up, which waits for the answer.
    await assert.rejects(first, exactly('enough'));
    const next = await mutex.lock({ timeoutMs: 15_000 });
    held.release();
    await staysHeld(next, 1000);
    await next.unlock();
    await end();
  });

  test('an unlock that could not be confirmed, called again, does not hand on what is being removed', async () => {
    const { direct, proxy, session, end } = await scene(300);
    const mutex = new Mutex(session, 'again');
    const lock = await mutex.lock();
    const stopSecond = new AbortController();
    const second = mutex.lock({ signal: stopSecond.signal });
    const third = mutex.lock({ timeoutMs: 20_000 });
    // Somebody else is in line at first, so that the lock is given back and not handed on.
    const other = await Session.open(direct, { ttlSeconds: 60 });
    const stopRival = new AbortController();
    const rival = new Mutex(other, 'again').lock({ signal: stopRival.signal });
    const line = session.client.watch({ prefix: 'again/' }, { startRevision: lock.createRevision });
    const rivalIs = async (type: 'put' | 'delete'): Promise<void> => {
      for (;;) {
        const { value } = await line.next();
        if (value?.events.some((event) => event.type === type && event.kv.key !== lock.key) === true) return;
      }
    };
    await rivalIs('put');
    const held = proxy.onCall(TXN, 'holdRequest');
    await assert.rejects(lock.unlock());
    stopRival.abort('gone');
    await assert.rejects(rival, exactly('gone'));
    await rivalIs('delete');
    line.close();
    const again = lock.unlock().catch(() => undefined);
    stopSecond.abort('enough');
    await assert.rejects(second, exactly('enough'));
    held.release();
    await again;
    const next = await third;
    assert.ok(next.fencingToken > lock.fencingToken);
    await staysHeld(next, 1000);
    await next.unlock();
    await other.close();
    await end();
  });

  test('a handover that is given up while its answer is overdue spares the next task', async () => {
    const { proxy, session, end } = await scene();
    const mutex = new Mutex(session, 'handover');
    const lock = await mutex.lock();
    const abort = new AbortController();
    const second = mutex.lock({ signal: abort.signal });
    const third = mutex.lock({ timeoutMs: 20_000 });
    // The line is followed, so that who unlocks knows that nobody waits elsewhere.
    await proxy.waitFor(() => proxy.replies(RANGE) >= 1);
    await session.client.kv.get('x');
    const held = proxy.onCall(TXN, 'holdReply', { times: 1 });
    await lock.unlock();
    await held.hit();
    abort.abort('enough');
    await assert.rejects(second, exactly('enough'));
    const next = await third;
    held.release();
    await staysHeld(next, 1000);
    await next.unlock();
    await end();
  });

  test('tasks that come and go while answers are lost or overdue never hold it together', async (t) => {
    const seed = Number(process.env['CONCLAVE_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
    t.diagnostic(`seed ${seed}: CONCLAVE_SEED=${seed}`);
    const random = generator(seed);
    const { proxy, session, direct, end } = await scene(250);
    const sessions = [session, await Session.open(session.client, { ttlSeconds: 60 })];
    let inside = 0;
    let holds = 0;
    const tokens: bigint[] = [];
    const task = async (n: number): Promise<void> => {
      const abort = new AbortController();
      const timer = setTimeout(() => abort.abort('enough'), 20 + random(1500));
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
    const storm = new AbortController();
    const weather = (async () => {
      while (!storm.signal.aborted) {
        const fault =
          random(2) === 0
            ? proxy.swallowNextReply({
                method: TXN,
                then: (['cut', 'reset', 'silence'] as const)[random(3)] ?? 'cut',
              })
            : proxy.onCall(TXN, 'holdReply', { times: 1 });
        await new Promise((resolve) => setTimeout(resolve, 10 + random(120)));
        fault.release();
        await new Promise((resolve) => setTimeout(resolve, random(60)));
      }
    })();
    for (let wave = 0; wave < 4; wave++) await Promise.all(Array.from({ length: 12 }, (_, n) => task(n)));
    storm.abort();
    await weather;
    await proxy.heal();
    const last = await new Mutex(session, 'storm').lock({ timeoutMs: 20_000 });
    assert.ok(holds > 0 && last.fencingToken > (tokens.at(-1) ?? 0n));
    assertRising(tokens);
    await last.unlock();
    await sessions[1]?.close();
    await end();
  });
});

/** Numbers from 0 to below `most`, the same for the same seed (mulberry32). */
function generator(seed: number): (most: number) => number {
  let state = seed;
  return (most) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % most;
  };
}
