/** The queue under fire: real worker processes, killed and stopped. Env CONCLAVE_QUEUE_JOBS: how many jobs. */
import assert from 'node:assert/strict';
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import { Client, JobQueue, Session } from 'conclave';
import { startEtcd } from 'conclave/testing';

import { until } from '../support/until.js';
import type { FleetJob } from './fleet-worker.js';

const JOBS = Number(process.env['CONCLAVE_QUEUE_JOBS'] ?? 1500);
const WORKERS = 8;
/** A minute is usual for 20,000 jobs on two free cores; busy ones take several. */
const LIMIT_MS = Math.max(120_000, JOBS * 30);
const program = fileURLToPath(new URL('fleet-worker.js', import.meta.url));

interface Message {
  readonly ready?: true;
  readonly holding?: string;
  readonly attempt?: number;
  readonly committed?: string;
}

describe('JobQueue with worker processes (etcd)', () => {
  let etcd: Awaited<ReturnType<typeof startEtcd>>;
  let client: Client;
  const children = new Set<ChildProcess>();

  before(async () => {
    etcd = await startEtcd();
    client = new Client({ endpoints: etcd.endpoints });
  });

  after(async () => {
    for (const child of children) child.kill('SIGKILL');
    await client.close();
    await etcd.close();
  });

  function start(name: string, concurrency: number): ChildProcess {
    const child = fork(program, [etcd.endpoints[0] ?? '', name, String(concurrency)], { execArgv: [] });
    children.add(child);
    child.once('exit', () => children.delete(child));
    return child;
  }

  async function message(child: ChildProcess, wanted: (message: Message) => boolean): Promise<Message> {
    for (;;) {
      const [got] = (await once(child, 'message')) as [Message];
      if (wanted(got)) return got;
    }
  }

  async function stop(child: ChildProcess): Promise<void> {
    const gone = once(child, 'exit');
    child.kill('SIGTERM');
    await gone;
  }

  async function assertEmpty(): Promise<void> {
    await until(async () => (await client.lease.list()).length === 0);
    const { kvs } = await client.kv.range({ prefix: '' }, { keysOnly: true });
    assert.deepEqual(
      kvs.map((kv) => kv.key).filter((key) => !/control\/(tail|back|due)/.test(key)),
      [],
    );
    await client.kv.delete({ prefix: '' });
  }

  test('the job of a killed worker is with another one within its TTL', async () => {
    const session = await Session.open(client);
    const queue = new JobQueue<FleetJob>(session, 'killed');
    const victim = start('killed', 1);
    await message(victim, ({ ready }) => ready === true);
    const holding = message(victim, (got) => got.holding !== undefined);
    await queue.push({ effect: 'killed-effect', how: 'hold' });
    await holding;
    const taking = queue.dequeue({ timeoutMs: 20_000 });
    const from = performance.now();
    victim.kill('SIGKILL');
    const job = await taking;
    const tookMs = performance.now() - from;
    assert.equal(job.attempt, 2);
    // 3 s of TTL, half a second until etcd looks, and a busy machine.
    assert.ok(tookMs < 6000, `after ${tookMs} ms`);
    await job.ack();
    await queue.close();
    await session.close();
    await assertEmpty();
  });

  test('a worker that was stopped for longer than its TTL cannot commit what another one has done', async () => {
    const session = await Session.open(client);
    const queue = new JobQueue<FleetJob>(session, 'stopped');
    const victim = start('stopped', 1);
    await message(victim, ({ ready }) => ready === true);
    const holding = message(victim, (got) => got.holding !== undefined);
    await queue.push({ effect: 'stopped-effect', how: 'hold' });
    await holding;
    victim.kill('SIGSTOP');
    const job = await queue.dequeue({ timeoutMs: 20_000 });
    const committed = message(victim, (got) => got.committed !== undefined);
    victim.kill('SIGCONT');
    victim.send('go on');
    assert.equal((await committed).committed, 'NOT_HELD');
    assert.equal(await client.kv.get('stopped-effect'), undefined);
    assert.ok(job.held);
    await job.ack();
    await stop(victim);
    await queue.close();
    await session.close();
    await assertEmpty();
  });

  test(
    `${WORKERS} workers, one killed every second: of ${JOBS} jobs every effect happens, and with commit exactly once`,
    { timeout: 20_000 + LIMIT_MS },
    async (t) => {
      const session = await Session.open(client);
      const queue = new JobQueue<FleetJob>(session, 'fleet', { maxAttempts: 20 });
      const working = new Set<ChildProcess>();
      const begin = (): ChildProcess => {
        const child = start('fleet', 8);
        child.once('message', () => working.add(child));
        return child;
      };
      const fleet = Array.from({ length: WORKERS }, begin);
      const over = new AbortController();
      let kills = 0;
      const killing = (async () => {
        for (;;) {
          await sleep(1000, undefined, { signal: over.signal });
          // The one that has worked for longest; on a busy machine, a new one takes seconds to begin.
          const [victim] = working;
          if (victim === undefined) continue;
          working.delete(victim);
          victim.kill('SIGKILL');
          kills += 1;
          fleet[fleet.indexOf(victim)] = begin();
        }
      })().catch(() => undefined);
      const from = performance.now();
      const job = (at: number): FleetJob => ({
        effect: `effect/${at}`,
        how: at % 2 === 0 ? 'commit' : 'ack',
      });
      for (let at = 0; at < JOBS; at += 500) {
        const size = Math.min(500, JOBS - at);
        await queue.pushMany(Array.from({ length: size }, (_, more) => ({ data: job(at + more) })));
      }
      const pushedMs = performance.now() - from;
      await queue.idle({ timeoutMs: LIMIT_MS });
      const doneMs = performance.now() - from;
      over.abort();
      await killing;
      const counts = await queue.counts();
      const versions = new Map<string, bigint>();
      for await (const kv of client.kv.scan({ prefix: 'effect/' }, { keysOnly: true }))
        versions.set(kv.key, kv.version);
      let lost = 0;
      let committedTwice = 0;
      let ackedTwice = 0;
      for (let at = 0; at < JOBS; at++) {
        const times = versions.get(`effect/${at}`) ?? 0n;
        if (times === 0n) lost += 1;
        if (times > 1n && at % 2 === 0) committedTwice += 1;
        if (times > 1n && at % 2 === 1) ackedTwice += 1;
      }
      const result = { ackedTwice, committedTwice, doneMs, jobs: JOBS, kills, lost, pushedMs, ...counts };
      t.diagnostic(
        JSON.stringify(result, (_, value: unknown) =>
          typeof value === 'number' ? Math.round(value) : value,
        ),
      );
      assert.equal(lost, 0);
      assert.equal(committedTwice, 0);
      assert.deepEqual(counts, { active: 0, dead: 0, delayed: 0, waiting: 0 });
      await Promise.all(fleet.map(stop));
      await queue.close();
      await session.close();
      await client.kv.delete({ prefix: 'effect/' });
      await assertEmpty();
    },
  );
});
