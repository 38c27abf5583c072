// Several producers of one queue: nobody waits for another, whatever the others do, and what is due is not kept from lining up.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Client, JobQueue, Session } from 'conclave';
import { FaultProxy } from 'conclave/testing';

import { Deferred } from '#conclave/util/deferred.js';

import { onEachBackend } from '../support/backends.js';
import { TXN, withProxy } from './scene.js';

const RANGE = '/etcdserverpb.KV/Range';
/** How many pushes of a steady producer are more than enough for whatever else is to happen meanwhile. */
const PLENTY = 5000;

/** Pushes one after the other until `done` has resolved. Resolves with whether that came before `PLENTY` pushes. */
async function pushUntil(queue: JobQueue<number>, done: Promise<unknown>): Promise<boolean> {
  const state = { isDone: false };
  const note = (): void => void (state.isDone = true);
  done.then(note, note);
  for (let at = 0; at < PLENTY && !state.isDone; at++) await queue.push(-1);
  if (state.isDone) await done;
  return state.isDone;
}

onEachBackend('JobQueue with several producers', (backend) => {
  test('a producer that is further away pushes while another one pushes all the time', async () => {
    await withProxy(backend, 'far', async ({ proxy, queue, straight }) => {
      await queue.push(0);
      proxy.delay(10);
      const far = (async () => {
        for (let at = 0; at < 3; at++) await queue.push(at);
      })();
      assert.ok(await pushUntil(straight, far), 'the far one pushed nothing');
      await far;
      proxy.delay(0);
    });
    await backend.client().kv.delete({ prefix: 'far/' });
  });

  test('due jobs and retries line up while somebody pushes all the time, also by a worker that is further away', async () => {
    await withProxy(backend, 'due', async ({ proxy, queue, straight }) => {
      const left = new Set<number>();
      const over = new Deferred<void>();
      const errors: unknown[] = [];
      proxy.delay(5);
      await using worker = queue.process(
        (job) => {
          if (job.data < 0) return;
          if (job.data % 2 === 0 && job.attempt === 1) throw new Error('once');
          left.delete(job.data);
          if (left.size === 0) over.resolve();
        },
        { concurrency: 16, onError: (error) => errors.push(error) },
      );
      for (let at = 0; at < 20; at++) {
        left.add(at);
        await straight.push(at, { backoff: { baseMs: 20, maxMs: 20 }, delayMs: 100 });
      }
      assert.ok(await pushUntil(straight, over.promise), `${left.size} of 20 have not run`);
      assert.equal(errors.length, 10);
      proxy.delay(0);
      await straight.idle({ timeoutMs: 20_000 });
      await worker.stop();
    });
  });

  test('a push takes at most two requests, whatever others push; and one when nobody else does', async () => {
    const seats = await Promise.all(
      Array.from({ length: 8 }, async () => {
        const proxy = await FaultProxy.start(backend.endpoints[0] ?? '', { grpc: true });
        const client = new Client({ endpoints: [proxy.endpoint] });
        const session = await Session.open(client, { ttlSeconds: 20 });
        const queue = new JobQueue<number>(session, 'requests');
        await queue.push(0);
        const requests = (): number => proxy.requests(TXN) + proxy.requests(RANGE);
        return { client, proxy, queue, requests, session };
      }),
    );
    const [first] = seats;
    assert.ok(first);
    const counted = async (pushing: typeof seats, pushes: number): Promise<number[]> => {
      const before = pushing.map(({ requests }) => requests());
      await Promise.all(
        pushing.map(async ({ queue }) => {
          for (let at = 0; at < pushes; at++) await queue.push(at);
        }),
      );
      return pushing.map(({ requests }, at) => requests() - (before[at] ?? 0));
    };
    for (const requests of await counted(seats, 20)) assert.ok(requests <= 40, `${requests} for 20 pushes`);
    // It looks once whether the others have gone quiet.
    const [alone = 0] = await counted([first], 20);
    assert.ok(alone <= 22, `${alone} requests for 20 pushes`);
    for (const { client, proxy, queue, session } of seats) {
      await queue.close();
      await session.close();
      await client.close();
      await proxy.close();
    }
    await backend.client().kv.delete({ prefix: 'requests/' });
  });

  test('pushing again what is there hinders nobody, and pushes of one producer stay in order among others', async () => {
    await withProxy(backend, 'mixed', async ({ queue, straight }) => {
      const push = async (by: JobQueue<number>, base: number): Promise<void> => {
        for (let at = 0; at < 30; at++) {
          await by.push(base + at);
          assert.ok((await by.push(0, { id: 'same' })).id === 'same');
        }
      };
      await Promise.all([push(queue, 100), push(straight, 200)]);
      const seen: number[] = [];
      await using worker = queue.process((job) => void seen.push(job.data));
      await queue.idle({ timeoutMs: 20_000 });
      await worker.stop();
      for (const base of [100, 200]) {
        const own = seen.filter((data) => Math.floor(data / 100) * 100 === base);
        assert.deepEqual(
          own,
          Array.from({ length: 30 }, (_, at) => base + at),
        );
      }
      assert.equal(seen.length, 61);
    });
  });

  test('a job that arrives late, below what the workers have read and done, is done', async () => {
    await withProxy(backend, 'late', async ({ proxy, queue, straight }) => {
      await straight.push(0);
      const seen: number[] = [];
      await using worker = straight.process((job) => void seen.push(job.data));
      await straight.idle({ timeoutMs: 10_000 });
      const held = proxy.onCall(TXN, 'holdRequest', {
        where: (message) => message.includes('late/.queue/todo/waiting/'),
      });
      // Its first push: it has looked, and numbers its job by what it has seen.
      const late = queue.push(1);
      await held.hit();
      for (let at = 10; at < 20; at++) await straight.push(at);
      await straight.idle({ timeoutMs: 10_000 });
      assert.deepEqual(seen, [0, ...Array.from({ length: 10 }, (_, at) => 10 + at)]);
      held.release();
      await late;
      await straight.idle({ timeoutMs: 10_000 });
      assert.equal(seen.at(-1), 1);
      await worker.stop();
    });
  });

  test('a push that was numbered before the last one left the empty queue is numbered anew', async () => {
    await withProxy(backend, 'anew', async ({ direct, proxy, queue, straight }) => {
      for (let at = 0; at < 3; at++) await straight.push(at);
      for (let at = 0; at < 3; at++) await (await straight.dequeue({ timeoutMs: 5000 })).ack();
      const where = (message: Buffer): boolean => message.includes('anew/.queue/todo/waiting/');
      const held = proxy.onCall(TXN, 'holdRequest', { where });
      const pushing = queue.push(3);
      await held.hit();
      await straight.close();
      const sequences = { prefix: 'anew/.queue/control/tail-sequence/' };
      assert.equal((await direct.kv.range(sequences)).count, 0n);
      held.release();
      await pushing;
      const { kvs } = await direct.kv.range({ prefix: 'anew/.queue/todo/waiting/' });
      assert.match(kvs[0]?.key ?? '', /\/000000000000\//);
      await (await queue.dequeue({ timeoutMs: 5000 })).ack();
    });
  });
});
