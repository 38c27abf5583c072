import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { type Client, compare, hasCode, type Job, JobQueue, op, type QueueOptions, Session } from 'conclave';

import { Deferred } from '#conclave/util/deferred.js';

import { type Backend, onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';

/** A queue on a session of its own, both closed after `body`. */
async function withQueue<T>(
  backend: Backend,
  name: string,
  body: (queue: JobQueue<T>, session: Session, client: Client) => Promise<void>,
  options: QueueOptions = {},
): Promise<void> {
  const client = backend.client();
  await using session = await Session.open(client, { ttlSeconds: 5 });
  await using queue = new JobQueue<T>(session, name, options);
  await body(queue, session, client);
}

async function keysBelow(client: Client, prefix: string): Promise<string[]> {
  const { kvs } = await client.kv.range({ prefix }, { keysOnly: true });
  return kvs.map((kv) => kv.key);
}

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) found.push(item);
  return found;
}

const nobody = { active: 0, dead: 0, delayed: 0, waiting: 0 };

onEachBackend('JobQueue', (backend) => {
  describe('pushing and working', () => {
    test('gives each job to the handler once, in the order of the pushes, and leaves nothing behind', async () => {
      await withQueue<number>(backend, 'order', async (queue, _session, client) => {
        await queue.push(0);
        const results = await queue.pushMany([{ data: 1 }, { data: 2 }]);
        assert.deepEqual(
          results.map(({ deduplicated }) => deduplicated),
          [false, false],
        );
        await Promise.all([3, 4, 5].map((data) => queue.push(data)));
        const seen: number[] = [];
        await using worker = queue.process((job) => void seen.push(job.data));
        await queue.idle({ timeoutMs: 10_000 });
        assert.deepEqual(seen, [0, 1, 2, 3, 4, 5]);
        await worker.stop();
        await worker.finished;
        await queue.close();
        assert.deepEqual(await keysBelow(client, 'order/'), []);
      });
    });

    test('pushes of several sessions that do not overlap come in their order', async () => {
      await withQueue<number>(backend, 'sessions', async (first, session) => {
        await using other = await Session.open(backend.client(), { ttlSeconds: 5 });
        await using second = new JobQueue<number>(other, 'sessions');
        for (let at = 0; at < 10; at++) await (at % 2 === 0 ? first : second).push(at);
        assert.ok(session.alive);
        const seen: number[] = [];
        first.process((job) => void seen.push(job.data));
        await first.idle({ timeoutMs: 10_000 });
        assert.deepEqual(seen, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
      });
    });

    test('greater priorities go first, even those that come while others wait', async () => {
      await withQueue<string>(backend, 'priority', async (queue) => {
        await queue.pushMany([
          { data: 'low', priority: -5 },
          { data: 'a' },
          { data: 'high', priority: 7 },
          { data: 'b' },
        ]);
        const seen: string[] = [];
        await using worker = queue.process(async (job) => {
          seen.push(job.data);
          if (job.data === 'a') await queue.push('urgent', { priority: 9 });
        });
        await queue.idle({ timeoutMs: 10_000 });
        assert.deepEqual(seen, ['high', 'a', 'urgent', 'b', 'low']);
        await worker.stop();
      });
    });

    test('a worker that waits hears of a job at once', async () => {
      await withQueue<number>(backend, 'wait', async (queue) => {
        const taking = queue.dequeue({ timeoutMs: 10_000 });
        await until(
          async () => (await keysBelow(backend.client(), 'wait/.queue/control/worker/')).length > 0,
        );
        await queue.push(1);
        await using job = await taking;
        assert.equal(job.data, 1);
        await job.ack();
      });
    });

    test('works on as many jobs at a time as it is told', async () => {
      await withQueue<number>(backend, 'concurrency', async (queue) => {
        let running = 0;
        let most = 0;
        await queue.pushMany(Array.from({ length: 30 }, (_, data) => ({ data })));
        const gate = new Deferred<void>();
        queue.process(
          async () => {
            most = Math.max(most, ++running);
            if (running === 7) gate.resolve();
            await gate.promise;
            running -= 1;
          },
          { concurrency: 7 },
        );
        await queue.idle({ timeoutMs: 10_000 });
        assert.equal(most, 7);
      });
    });

    test('an id that is there is not pushed again, in whatever state, and can be once it is gone', async () => {
      await withQueue<number>(backend, 'dedup', async (queue) => {
        assert.deepEqual(await queue.push(1, { id: 'x' }), { deduplicated: false, id: 'x' });
        assert.deepEqual(await queue.push(2, { id: 'x' }), { deduplicated: true, id: 'x' });
        const twice = await queue.pushMany([
          { data: 3, id: 'y' },
          { data: 4, id: 'y' },
        ]);
        assert.deepEqual(
          twice.map(({ deduplicated }) => deduplicated),
          [false, true],
        );
        const job = await queue.dequeue({ timeoutMs: 5000 });
        assert.equal(job.data, 1);
        assert.equal((await queue.push(5, { id: 'x' })).deduplicated, true);
        await job.ack();
        assert.equal((await queue.push(6, { id: 'x', delayMs: 60_000 })).deduplicated, false);
        assert.equal((await queue.push(7, { id: 'x' })).deduplicated, true);
        const [delayed] = await all(queue.jobs('delayed'));
        assert.equal(delayed?.data, 6);
        await backend.client().kv.delete({ prefix: 'dedup/' });
      });
    });

    test('a delayed job lines up when it is due', async () => {
      await withQueue<string>(backend, 'delay', async (queue, session) => {
        const from = session.client.clock.wall();
        await queue.pushMany([
          { data: 'late', delayMs: 300 },
          { data: 'soon', delayMs: 100 },
          { data: 'now' },
        ]);
        assert.deepEqual(await queue.counts(), { ...nobody, delayed: 2, waiting: 1 });
        const seen: [string, number][] = [];
        queue.process((job) => void seen.push([job.data, session.client.clock.wall() - from]));
        await queue.idle({ timeoutMs: 10_000 });
        assert.deepEqual(
          seen.map(([data]) => data),
          ['now', 'soon', 'late'],
        );
        assert.ok((seen[1]?.[1] ?? 0) >= 100 && (seen[2]?.[1] ?? 0) >= 300, JSON.stringify(seen));
      });
    });

    test('a queue named job never touches the jobs of one named jobs', async () => {
      await withQueue<string>(backend, 'job', async (queue, session) => {
        await using other = new JobQueue<string>(session, 'jobs');
        await using nested = new JobQueue<string>(session, 'job/s');
        await other.push('of jobs');
        await nested.push('of job/s');
        await assert.rejects(queue.dequeue({ timeoutMs: 100 }), (error) => hasCode(error, 'TIMEOUT'));
        assert.deepEqual(await queue.counts(), nobody);
        await queue.idle({ timeoutMs: 1000 });
        await queue.close();
        for (const each of [other, nested]) {
          await using job = await each.dequeue({ timeoutMs: 5000 });
          await job.ack();
        }
      });
    });
  });

  describe('failing', () => {
    test('tries again after the backoff, keeps the errors, and buries the job after the last attempt', async () => {
      const options = { backoff: { baseMs: 20, maxMs: 40 }, maxAttempts: 3 };
      await withQueue<string>(
        backend,
        'fail',
        async (queue) => {
          await queue.push('bad', { id: 'bad' });
          const attempts: [number, number][] = [];
          const reported: unknown[] = [];
          queue.process(
            (job) => {
              attempts.push([job.attempt, job.errors.length]);
              throw new RangeError(`no ${job.attempt}`);
            },
            { onError: (error) => reported.push(error) },
          );
          await queue.idle({ timeoutMs: 10_000 });
          assert.deepEqual(attempts, [
            [1, 0],
            [2, 1],
            [3, 2],
          ]);
          assert.equal(reported.length, 3);
          const [dead] = await all(queue.jobs('dead'));
          assert.deepEqual(
            dead?.errors.map(({ attempt, message }) => [attempt, message]),
            [
              [1, 'RangeError: no 1'],
              [2, 'RangeError: no 2'],
              [3, 'RangeError: no 3'],
            ],
          );
          assert.equal(dead.data, 'bad');
          assert.deepEqual(await queue.counts(), { ...nobody, dead: 1 });
          assert.equal(await queue.removeDead({ ids: ['other'] }), 0);
          assert.equal(await queue.removeDead(), 1);
        },
        options,
      );
    });

    test('a dead job can be tried again, with all its attempts', async () => {
      await withQueue<number>(backend, 'retry', async (queue) => {
        await queue.pushMany([
          { data: 1, id: 'a', maxAttempts: 1 },
          { data: 2, id: 'b', maxAttempts: 5 },
        ]);
        const first = await queue.dequeue({ timeoutMs: 5000 });
        await first.nack('broken');
        const second = await queue.dequeue({ timeoutMs: 5000 });
        await second.nack(new Error('never'), { final: true });
        assert.deepEqual(await queue.counts(), { ...nobody, dead: 2 });
        assert.equal(await queue.retryDead({ ids: ['b'] }), 1);
        assert.equal(await queue.retryDead(), 1);
        const seen: [string, number, number][] = [];
        queue.process((job) => void seen.push([job.id, job.attempt, job.errors.length]));
        await queue.idle({ timeoutMs: 10_000 });
        assert.deepEqual(seen, [
          ['b', 1, 1],
          ['a', 1, 1],
        ]);
      });
    });

    test('nack without a delay and release put the job back to its place; only nack counts', async () => {
      await withQueue<string>(backend, 'back', async (queue) => {
        await queue.pushMany([{ data: 'a' }, { data: 'b' }]);
        const tokens: bigint[] = [];
        const take = async (): Promise<Job<string>> => {
          const job = await queue.dequeue({ timeoutMs: 5000 });
          assert.equal(job.data, 'a');
          tokens.push(job.fencingToken);
          return job;
        };
        await (await take()).nack('again', { delayMs: 0 });
        await (await take()).release();
        const third = await take();
        assert.equal(third.attempt, 2);
        await third.ack();
        assert.ok(tokens.every((token, at) => at === 0 || token > (tokens[at - 1] ?? token)));
        await (await queue.dequeue({ timeoutMs: 5000 })).ack();
      });
    });

    test('a dequeued job that is left without ack counts as a failed attempt', async () => {
      await withQueue<string>(backend, 'left', async (queue) => {
        await queue.push('x', { maxAttempts: 1 });
        {
          await using job = await queue.dequeue({ timeoutMs: 5000 });
          assert.ok(job.held);
        }
        const [dead] = await all(queue.jobs('dead'));
        assert.match(dead?.errors[0]?.message ?? '', /left without ack/);
        await queue.removeDead();
      });
    });

    test('a job whose data somebody removed is dead, and says why', async () => {
      await withQueue<string>(backend, 'spoilt', async (queue, _session, client) => {
        await queue.push('x', { id: 'x' });
        await client.kv.delete('spoilt/.queue/body/x');
        const taking = queue.dequeue({ timeoutMs: 5000 });
        await until(async () => (await queue.counts()).dead === 1);
        await queue.push('y');
        await (await taking).ack();
        await client.kv.delete({ prefix: 'spoilt/' });
      });
    });
  });

  describe('what is held', () => {
    test('commit writes the result and removes the job in one transaction', async () => {
      await withQueue<number>(backend, 'commit', async (queue, _session, client) => {
        await queue.push(21);
        const job = await queue.dequeue({ timeoutMs: 5000 });
        const result = await job.commit({ then: [op.put('commit/result', String(2 * job.data))] });
        const stored = await client.kv.get('commit/result');
        assert.equal(stored?.string(), '42');
        assert.equal(stored.modRevision, result.revision);
        assert.deepEqual(await queue.counts(), nobody);
        assert.ok(!job.held && job.signal.aborted);
        await assert.rejects(job.nack('no'), (error) => hasCode(error, 'NOT_HELD'));
        // Another commit would do something else: that has not been done, and it says so.
        await assert.rejects(job.commit({ then: [] }), (error) => hasCode(error, 'NOT_HELD'));
        await client.kv.delete('commit/result');
      });
    });

    test('a commit whose own condition fails leaves the job ours', async () => {
      await withQueue<number>(backend, 'condition', async (queue, _session, client) => {
        await queue.push(1);
        const job = await queue.dequeue({ timeoutMs: 5000 });
        const spec = { if: [compare.exists('condition/flag')], then: [op.put('condition/r', '1')] };
        assert.equal((await job.commit(spec)).succeeded, false);
        assert.ok(job.held);
        await client.kv.put('condition/flag', '');
        assert.equal((await job.commit(spec)).succeeded, true);
        await client.kv.delete('condition/flag');
        assert.equal((await client.kv.delete('condition/r')).deleted, 1n);
      });
    });

    test('a commit that etcd refuses leaves the job ours', async () => {
      await withQueue<number>(backend, 'refused', async (queue) => {
        await queue.push(1);
        const job = await queue.dequeue({ timeoutMs: 5000 });
        const twice = [op.put('refused/a', '1'), op.put('refused/a', '2')];
        await assert.rejects(job.commit({ then: twice }), (error) => hasCode(error, 'DUPLICATE_KEY'));
        assert.ok(job.held);
        await job.ack();
      });
    });

    test('a write of a job that is no longer held is refused', async () => {
      await withQueue<number>(backend, 'txn', async (queue, _session, client) => {
        await queue.push(1);
        const job = await queue.dequeue({ timeoutMs: 5000 });
        await job.txn({ then: [op.put('txn/a', '1')] });
        const guard = job.guard();
        await job.ack();
        await job.ack();
        await assert.rejects(job.txn({ then: [op.put('txn/a', '2')] }), (error) =>
          hasCode(error, 'NOT_HELD'),
        );
        assert.equal((await client.kv.txn({ if: guard, then: [op.put('txn/a', '3')] })).succeeded, false);
        assert.equal((await client.kv.get('txn/a'))?.string(), '1');
        await client.kv.delete('txn/a');
      });
    });

    test('acknowledging a job that another worker has claimed since is refused with NOT_HELD', async () => {
      await withQueue<number>(backend, 'stolen', async (queue, _session, client) => {
        const victim = await Session.open(client, { ttlSeconds: 5 });
        const slow = new JobQueue<number>(victim, 'stolen');
        await queue.push(1, { id: 'x' });
        const job = await slow.dequeue({ timeoutMs: 5000 });
        assert.equal(job.signal.aborted, false);
        const taking = queue.dequeue({ timeoutMs: 20_000 });
        // The lease is gone, and the holder has not heard of it.
        await client.lease.revoke(victim.leaseId);
        const again = await taking;
        assert.equal(again.id, 'x');
        assert.equal(again.attempt, 2);
        assert.match(again.errors[0]?.message ?? '', /was lost/);
        assert.ok(again.fencingToken > job.fencingToken);
        await assert.rejects(job.commit({ then: [op.put('stolen/r', '1')] }), (error) =>
          hasCode(error, 'NOT_HELD'),
        );
        await assert.rejects(job.ack(), (error) => hasCode(error, 'NOT_HELD'));
        assert.ok(again.held);
        await again.ack();
        assert.equal(await client.kv.get('stolen/r'), undefined);
        victim.orphan();
      });
    });

    test('a commit of a worker whose lease is gone is refused, even before anybody has put its job back', async () => {
      await withQueue<number>(backend, 'orphaned', async (queue, _session, client) => {
        const own = backend.client();
        const mayPutBack = new Deferred<void>();
        const txn = own.kv.txn.bind(own.kv);
        own.kv.txn = async (spec, options) => {
          const last = spec.then?.at(-1)?.wire.requestPut?.key;
          if (Buffer.from(last ?? []).toString() === 'orphaned/.queue/control/back') await mayPutBack.promise;
          return txn(spec, options);
        };
        const victim = await Session.open(own, { ttlSeconds: 5 });
        const slow = new JobQueue<number>(victim, 'orphaned');
        await queue.push(1);
        const job = await slow.dequeue({ timeoutMs: 5000 });
        await client.lease.revoke(victim.leaseId);
        assert.deepEqual(await queue.counts(), { ...nobody, active: 1 });
        const write = { then: [op.put('orphaned/r', '1')] };
        await assert.rejects(job.txn(write), (error) => hasCode(error, 'NOT_HELD'));
        await assert.rejects(job.commit(write), (error) => hasCode(error, 'NOT_HELD'));
        victim.orphan();
        mayPutBack.resolve();
        const again = await queue.dequeue({ timeoutMs: 5000 });
        assert.equal(again.attempt, 2);
        await again.ack();
      });
    });

    test('acknowledging a job that an operator has taken away is refused', async () => {
      await withQueue<number>(backend, 'operator', async (queue, _session, client) => {
        await queue.push(1);
        const job = await queue.dequeue({ timeoutMs: 5000 });
        await client.kv.delete({ prefix: 'operator/.queue/todo/active/' });
        await assert.rejects(job.ack(), (error) => hasCode(error, 'NOT_HELD'));
        assert.equal((await client.kv.delete({ prefix: 'operator/.queue/body/' })).deleted, 1n);
      });
    });

    test('the jobs of a lost session go back to their places, and its signals abort', async () => {
      await withQueue<number>(backend, 'lost', async (queue, _session, client) => {
        await queue.pushMany([{ data: 0 }, { data: 1 }, { data: 2 }]);
        const victim = await Session.open(client, { ttlSeconds: 5 });
        const slow = new JobQueue<number>(victim, 'lost');
        const aborted: unknown[] = [];
        const worker = slow.process(
          async (job) => {
            await until(() => job.signal.aborted);
            aborted.push(job.signal.reason);
          },
          { concurrency: 2 },
        );
        await until(() => worker.running === 2);
        await client.lease.revoke(victim.leaseId);
        victim.leaseIsGone();
        await assert.rejects(worker.finished, (error) => hasCode(error, 'SESSION_LOST'));
        assert.equal(aborted.length, 2);
        assert.ok(aborted.every((reason) => hasCode(reason, 'SESSION_LOST')));
        const seen: number[] = [];
        queue.process((job) => void seen.push(job.data));
        await queue.idle({ timeoutMs: 10_000 });
        assert.deepEqual(seen, [0, 1, 2]);
      });
    });

    test('a lease that was revoked from outside is a lost session for whoever pushes or takes next', async () => {
      await withQueue<number>(backend, 'revoked', async (queue, _session, client) => {
        await queue.push(0);
        const uses = [
          async (victim: JobQueue<number>) => victim.push(1),
          async (victim: JobQueue<number>) => victim.dequeue({ timeoutMs: 10_000 }),
          async (victim: JobQueue<number>) => victim.process(() => undefined).finished,
        ];
        for (const use of uses) {
          const session = await Session.open(client, { ttlSeconds: 60 });
          const victim = new JobQueue<number>(session, 'revoked');
          await victim.push(2);
          await (await victim.dequeue()).ack();
          await queue.push(3);
          await client.lease.revoke(session.leaseId);
          // A push may be under way when the session hears of it.
          await assert.rejects(
            use(victim),
            (error) =>
              hasCode(error, 'SESSION_LOST') || (use === uses[0] && hasCode(error, 'UNKNOWN_OUTCOME')),
          );
          assert.equal(session.state, 'lost');
        }
        for (let left = (await queue.counts()).waiting; left > 0; left--)
          await (await queue.dequeue({ timeoutMs: 5000 })).ack();
      });
    });

    test('a job that kills its worker on every attempt is dead in the end', async () => {
      await withQueue<number>(backend, 'poison', async (queue, _session, client) => {
        await queue.push(1, { maxAttempts: 2 });
        for (let life = 0; life < 2; life++) {
          const victim = await Session.open(client, { ttlSeconds: 5 });
          const slow = new JobQueue<number>(victim, 'poison');
          assert.equal((await slow.dequeue({ timeoutMs: 5000 })).attempt, life + 1);
          await client.lease.revoke(victim.leaseId);
          victim.orphan();
        }
        await assert.rejects(queue.dequeue({ timeoutMs: 300 }), (error) => hasCode(error, 'TIMEOUT'));
        const [dead] = await all(queue.jobs('dead'));
        assert.equal(dead?.errors.length, 2);
        await queue.removeDead();
      });
    });
  });

  describe('stopping, pausing, waiting', () => {
    test('a worker that stops lets its handlers end, takes no more, and leaves', async () => {
      await withQueue<number>(backend, 'stop', async (queue, _session, client) => {
        await queue.pushMany(Array.from({ length: 20 }, (_, data) => ({ data })));
        const gate = new Deferred<void>();
        let done = 0;
        const worker = queue.process(
          async () => {
            await gate.promise;
            done += 1;
          },
          { concurrency: 3 },
        );
        await until(() => worker.running === 3);
        const stopping = worker.stop();
        gate.resolve();
        await stopping;
        await worker.finished;
        assert.equal(done, 3);
        assert.deepEqual(await queue.counts(), { ...nobody, waiting: 17 });
        assert.deepEqual(await keysBelow(client, 'stop/.queue/control/worker/'), []);
        queue.process(() => undefined, { concurrency: 8 });
        await queue.idle({ timeoutMs: 10_000 });
      });
    });

    test('what is not done in time is handed back without counting, and its signal aborts', async () => {
      await withQueue<number>(backend, 'stop2', async (queue) => {
        await queue.pushMany([{ data: 1 }, { data: 2 }]);
        const reasons: unknown[] = [];
        const gate = new Deferred<void>();
        const worker = queue.process(async (job) => {
          await until(() => job.signal.aborted);
          reasons.push(job.signal.reason);
          gate.resolve();
        });
        await until(() => worker.running === 1);
        await worker.stop({ timeoutMs: 20 });
        await gate.promise;
        const job = await queue.dequeue({ timeoutMs: 5000 });
        assert.equal(job.data, 1);
        assert.equal(job.attempt, 1);
        await job.ack();
        await (await queue.dequeue({ timeoutMs: 5000 })).ack();
        assert.equal(reasons.length, 1);
      });
    });

    test('an aborted signal stops a worker, even one that had not begun', async () => {
      await withQueue<number>(backend, 'abort', async (queue) => {
        const controller = new AbortController();
        const worker = queue.process(() => undefined, { signal: controller.signal });
        controller.abort();
        await worker.finished;
        const never = queue.process(() => undefined, { signal: controller.signal });
        await never.finished;
        await queue.push(1);
        await using job = await queue.dequeue({ timeoutMs: 5000 });
        await job.ack();
      });
    });

    test('dequeue gives up with the reason or TIMEOUT, and a job claimed just then goes back', async () => {
      await withQueue<number>(backend, 'giveup', async (queue) => {
        await assert.rejects(queue.dequeue({ timeoutMs: 20 }), (error) => hasCode(error, 'TIMEOUT'));
        const reason = new Error('enough');
        await assert.rejects(queue.dequeue({ signal: AbortSignal.abort(reason) }), reason);
        for (let round = 0; round < 20; round++) {
          const controller = new AbortController();
          const taking = queue.dequeue({ signal: controller.signal }).then(
            (job) => job.ack(),
            (error: unknown) => assert.equal(error, reason),
          );
          await queue.push(round);
          controller.abort(reason);
          await taking;
        }
        queue.process((job) => assert.equal(job.attempt, 1));
        await queue.idle({ timeoutMs: 10_000 });
      });
    });

    test('nobody claims while the queue is paused, and all go on afterwards', async () => {
      await withQueue<number>(backend, 'pause', async (queue) => {
        await queue.pause();
        await queue.pause();
        assert.equal(await queue.isPaused(), true);
        const seen: number[] = [];
        queue.process((job) => void seen.push(job.data), { concurrency: 2 });
        await queue.pushMany([{ data: 1 }, { data: 2 }]);
        await assert.rejects(queue.dequeue({ timeoutMs: 100 }), (error) => hasCode(error, 'TIMEOUT'));
        assert.deepEqual(seen, []);
        await queue.resume();
        await queue.idle({ timeoutMs: 10_000 });
        assert.deepEqual(seen, [1, 2]);
        assert.equal(await queue.isPaused(), false);
      });
    });

    test('idle waits for delayed and active jobs, gives up when told, and passes dead ones', async () => {
      await withQueue<number>(backend, 'idle', async (queue) => {
        await queue.idle({ timeoutMs: 1000 });
        await queue.push(1, { delayMs: 50, maxAttempts: 1 });
        const gate = new Deferred<void>();
        const worker = queue.process(async () => {
          await gate.promise;
          throw new Error('dead');
        });
        await until(() => worker.running === 1);
        await assert.rejects(queue.idle({ timeoutMs: 50 }), (error) => hasCode(error, 'TIMEOUT'));
        const reason = new Error('enough');
        await assert.rejects(queue.idle({ signal: AbortSignal.abort(reason) }), reason);
        gate.resolve();
        await queue.idle({ timeoutMs: 10_000 });
        assert.deepEqual(await queue.counts(), { ...nobody, dead: 1 });
        await queue.removeDead();
      });
    });

    test('lists the jobs of each state in their order, with their data', async () => {
      await withQueue<number>(backend, 'list', async (queue, _session, client) => {
        await queue.pushMany(
          Array.from({ length: 150 }, (_, data) => ({
            data,
            priority: data % 3,
            delayMs: data % 2 === 0 ? 0 : 60_000,
          })),
        );
        const job = await queue.dequeue({ timeoutMs: 5000 });
        const [active] = await all(queue.jobs('active'));
        assert.equal(active?.id, job.id);
        assert.ok(active.worker !== undefined && active.attempts === 1);
        await job.nack('dead', { final: true });
        const waiting = await all(queue.jobs('waiting'));
        const expected = [2, 1, 0].flatMap((priority) =>
          Array.from({ length: 150 }, (_, data) => data).filter(
            (data) => data % 2 === 0 && data % 3 === priority && data !== job.data,
          ),
        );
        assert.deepEqual(
          waiting.map(({ data }) => data),
          expected,
        );
        const delayed = await all(queue.jobs('delayed'));
        assert.equal(delayed.length, 75);
        assert.ok(delayed.every(({ dueAt, pushedAt }) => Number(dueAt) - Number(pushedAt) === 60_000));
        assert.equal((await all(queue.jobs('dead'))).length, 1);
        assert.deepEqual(await queue.counts(), { active: 0, dead: 1, delayed: 75, waiting: 74 });
        await client.kv.delete({ prefix: 'list/' });
      });
    });

    test('closing hands back what was dequeued, rejects who waits, and refuses new work', async () => {
      await withQueue<number>(backend, 'close', async (queue, session) => {
        await queue.push(1);
        const other = new JobQueue<number>(session, 'close');
        const job = await other.dequeue({ timeoutMs: 5000 });
        const waiting = assert.rejects(other.dequeue(), (error) => hasCode(error, 'CLOSED'));
        await other.close();
        await waiting;
        assert.ok(!job.held);
        await assert.rejects(other.push(2), (error) => hasCode(error, 'CLOSED'));
        await assert.rejects(other.dequeue(), (error) => hasCode(error, 'CLOSED'));
        const again = await queue.dequeue({ timeoutMs: 5000 });
        assert.equal(again.attempt, 1);
        await again.ack();
      });
    });
  });
});
