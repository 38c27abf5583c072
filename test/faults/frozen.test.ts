// A process that is frozen while it holds a lock, and comes back after others hold it.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { Election, hasCode, JobQueue, Mutex } from 'conclave';
import { ManualClock } from 'conclave/testing';
import { until } from '../support/until.js';
import { etcdOfSuite, RPC, Scene } from './scene.js';

interface Report {
  readonly event: 'holds' | 'woke';
  readonly [fact: string]: unknown;
}

/** A child process and what it has told. */
class Child {
  readonly process: ChildProcess;
  readonly reports: Report[] = [];
  #text = '';

  constructor(endpoint: string, ttlSeconds: number) {
    const file = fileURLToPath(new URL('frozen-child.js', import.meta.url));
    this.process = spawn(process.execPath, [file, endpoint, String(ttlSeconds)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    this.process.stdout?.on('data', (chunk: Buffer) => {
      const lines = (this.#text + chunk.toString()).split('\n');
      this.#text = lines.pop() ?? '';
      for (const line of lines) this.reports.push(JSON.parse(line) as Report);
    });
  }

  async told(event: Report['event']): Promise<Report> {
    return until(() => this.reports.find((report) => report.event === event), {
      timeoutMs: 20_000,
      what: `the child tells that it ${event}`,
    });
  }
}

describe('a frozen holder', () => {
  const etcd = etcdOfSuite();

  for (const through of ['etcd itself', 'a proxy']) {
    test(`finds its lock gone at once when it wakes, and its late writes are refused (${through})`, async (t) => {
      const scene = new Scene(t, etcd);
      const proxy = await scene.proxy();
      const child = new Child(through === 'a proxy' ? proxy.endpoint : etcd.endpoint, 2);
      scene.atEnd(async () => child.process.kill('SIGKILL'));
      const exited = once(child.process, 'exit');
      const { token } = await child.told('holds');
      const session = await scene.session(scene.direct, { ttlSeconds: 30 });
      const [lock, leadership] = [
        new Mutex(session, 'frozen').lock(),
        new Election(session, 'frozen-election').campaign('parent'),
      ];
      await scene.untilKeys('frozen/', 2);
      await scene.untilKeys('frozen-election/', 2);
      child.process.kill('SIGSTOP');
      const [mine, term] = await Promise.all([lock, leadership]);
      assert.ok(mine.fencingToken > BigInt(String(token)));
      await scene.direct.kv.put('frozen-data', 'in time');
      child.process.kill('SIGCONT');
      const woke = await child.told('woke');
      assert.deepEqual(
        { ...woke },
        {
          aborted: true,
          alive: false,
          blind: false,
          event: 'woke',
          held: false,
          leads: false,
          proclaim: 'NOT_HELD',
          reason: 'SESSION_LOST',
          state: 'lost',
          write: 'NOT_HELD',
        },
      );
      assert.equal((await scene.direct.kv.get('frozen-data'))?.string(), 'in time');
      assert.equal((await new Election(session, 'frozen-election').leader())?.string(), 'parent');
      assert.ok(mine.held && term.held);
      await mine.unlock();
      await term.resign();
      await exited;
      assert.equal(child.process.exitCode, 0);
      await scene.direct.kv.delete('frozen-data');
    });
  }

  test('a holder whose event loop was blocked finds its lock gone with its next statement', async (t) => {
    const scene = new Scene(t, etcd);
    const session = await scene.session(scene.direct, { ttlSeconds: 2 });
    const lock = await new Mutex(session, 'blocked').lock();
    const isHeld = (): boolean => lock.held;
    assert.ok(isHeld());
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2500);
    assert.equal(isHeld(), false);
    assert.equal(session.state, 'lost');
    assert.ok(lock.signal.aborted);
  });

  test('a holder that is killed is followed within its time to live', async (t) => {
    const scene = new Scene(t, etcd);
    const child = new Child(etcd.endpoint, 2);
    await child.told('holds');
    const session = await scene.session(scene.direct, { ttlSeconds: 30 });
    const lock = new Mutex(session, 'frozen').lock();
    await scene.untilKeys('frozen/', 2);
    const killedAt = performance.now();
    child.process.kill('SIGKILL');
    await (await lock).unlock();
    assert.ok(performance.now() - killedAt < 5000);
  });
});

describe('a proof that is read after the session has ended', () => {
  const etcd = etcdOfSuite();

  for (const kind of ['mutex', 'election'] as const) {
    test(`is none: ${kind}`, async (t) => {
      const scene = new Scene(t, etcd);
      const proxy = await scene.proxy();
      const clock = new ManualClock({ nowMs: 1000 });
      const client = scene.client(proxy, { clock, timeoutMs: 60_000 });
      const session = await scene.session(client, { timeoutMs: undefined, ttlSeconds: 5 });
      const fault = proxy.onCall(RPC.txn, 'holdReply');
      const name = `late/${kind}`;
      const taking =
        kind === 'mutex' ? new Mutex(session, name).lock() : new Election(session, name).campaign('x');
      taking.catch(() => undefined); // It is awaited below.
      await fault.hit();
      // As when the process is stopped: its timers have not fired when it reads what has come meanwhile.
      clock.jump(10_000);
      fault.release();
      await assert.rejects(taking, (error) => hasCode(error, 'SESSION_LOST'));
    });
  }

  test('is none: job', async (t) => {
    const scene = new Scene(t, etcd);
    const proxy = await scene.proxy();
    const direct = await scene.session(scene.direct, { ttlSeconds: 30 });
    await new JobQueue(direct, 'late/jobs').push('x', { id: 'one' });
    const clock = new ManualClock({ nowMs: 1000 });
    const client = scene.client(proxy, { clock, timeoutMs: 60_000 });
    const session = await scene.session(client, { timeoutMs: undefined, ttlSeconds: 5 });
    // Its answer has the job's data.
    const claim = proxy.onCall(RPC.txn, 'holdReply', { where: (answer) => answer.includes('/body/one') });
    const handled: string[] = [];
    const worker = new JobQueue(session, 'late/jobs').process((job) => void handled.push(job.id));
    const ended = assert.rejects(worker.finished, (error) => hasCode(error, 'SESSION_LOST'));
    const state = { isHit: false };
    const hit = claim.hit().then(() => (state.isHit = true));
    await until(async () => {
      await clock.advance(1);
      return state.isHit;
    });
    await hit;
    clock.jump(10_000);
    claim.release();
    await ended;
    assert.deepEqual(handled, []);
    await scene.direct.lease.revoke(session.leaseId);
    const queue = new JobQueue(direct, 'late/jobs');
    await (await queue.dequeue({ timeoutMs: 10_000 })).ack();
    await queue.close();
  });
});
