/** Random use of a queue by several sessions, against a model. Env CONCLAVE_SEED repeats a run. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { type Client, hasCode, type Job, JobQueue, op, Session } from 'conclave';

import { type Backend, onEachBackend } from '../support/backends.js';

const seed = Number(process.env['CONCLAVE_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
const ACTORS = 5;
const STEPS = 60;

/** What must be so, as one process that sees everything knows it. */
class Model {
  readonly pushed = new Map<string, number>();
  readonly done = new Set<string>();
  readonly dead = new Set<string>();
  readonly #counted = new Map<string, number>();
  readonly #tokens = new Map<string, bigint>();
  readonly #holders = new Map<string, Job<string>>();
  losses = 0;

  claimed(job: Job<string>): void {
    const { id } = job;
    assert.ok(this.pushed.has(id), `${id} was never pushed`);
    assert.ok(!this.done.has(id), `${id} is done, and was claimed again`);
    assert.ok(this.#holders.get(id)?.held !== true, `${id} has two holders`);
    assert.ok(job.fencingToken > (this.#tokens.get(id) ?? 0n), `the token of ${id} does not grow`);
    // A claim that came too late for its dequeue, and whose session was lost before it could be handed back, counts too.
    const known = (this.#counted.get(id) ?? 0) + 1;
    assert.ok(
      job.attempt >= known && job.attempt <= known + this.losses,
      `attempt ${job.attempt} of ${id} is ${known}`,
    );
    this.#counted.set(id, job.attempt - 1);
    this.#tokens.set(id, job.fencingToken);
    this.#holders.set(id, job);
  }

  /** The attempt counts, and the job may be dead by it. */
  failed(job: Job<string>, final = false): void {
    const attempts = (this.#counted.get(job.id) ?? 0) + 1;
    this.#counted.set(job.id, attempts);
    if (final || attempts >= (this.pushed.get(job.id) ?? 0)) this.dead.add(job.id);
  }
}

class Actor {
  readonly #client: Client;
  readonly #model: Model;
  readonly #next: (below: number) => number;
  readonly #held: Job<string>[] = [];
  readonly #name: string;
  #session!: Session;
  #queue!: JobQueue<string>;
  #pushes = 0;

  constructor(client: Client, model: Model, name: string, next: (below: number) => number) {
    this.#client = client;
    this.#model = model;
    this.#name = name;
    this.#next = next;
  }

  async join(): Promise<void> {
    this.#session = await Session.open(this.#client, { ttlSeconds: 20 });
    this.#queue = new JobQueue<string>(this.#session, 'model', { backoff: { baseMs: 5, maxMs: 20 } });
  }

  async leave(): Promise<void> {
    for (const job of this.#held.splice(0)) await job.release();
    await this.#queue.close();
    await this.#session.close();
  }

  async step(): Promise<void> {
    switch (this.#next(12)) {
      case 0:
      case 1:
      case 2:
        return this.#push();
      case 3:
      case 4:
      case 5:
      case 6:
        return this.#take();
      case 7:
        return this.#next(4) === 0 ? this.#lose() : undefined;
      case 8:
        return this.#next(4) === 0 ? this.#pause() : undefined;
      default:
        return this.#handIn();
    }
  }

  async #push(): Promise<void> {
    const items = Array.from({ length: 1 + this.#next(4) }, () => {
      const maxAttempts = 1 + this.#next(4);
      const id = `${this.#name}-${this.#pushes++}`;
      this.#model.pushed.set(id, maxAttempts);
      return {
        data: id,
        delayMs: this.#next(5) === 0 ? 1 + this.#next(30) : 0,
        id,
        maxAttempts,
        priority: this.#next(3),
      };
    });
    for (const { deduplicated } of await this.#queue.pushMany(items)) assert.equal(deduplicated, false);
    const [first] = items;
    // At once again: it is there, or was just done.
    if (first !== undefined && this.#next(4) === 0 && first.delayMs > 0) {
      const { deduplicated } = await this.#queue.push('never', { id: first.id });
      if (!deduplicated) assert.ok(this.#model.done.has(first.id), `${first.id} was pushed twice`);
    }
  }

  async #take(): Promise<void> {
    const limit =
      this.#next(3) === 0 ? { signal: AbortSignal.timeout(this.#next(8)) } : { timeoutMs: this.#next(40) };
    try {
      const job = await this.#queue.dequeue(limit);
      assert.equal(job.data, job.id);
      this.#model.claimed(job);
      this.#held.push(job);
    } catch (error) {
      if (!hasCode(error, 'TIMEOUT') && !(error instanceof DOMException)) throw error;
    }
  }

  async #handIn(): Promise<void> {
    const [job] = this.#held.splice(this.#next(this.#held.length), 1);
    if (job === undefined) return;
    const { id } = job;
    switch (this.#next(6)) {
      case 0:
        await job.release();
        return;
      case 1:
        this.#model.failed(job);
        await job.nack('failed', this.#next(2) === 0 ? { delayMs: 0 } : {});
        return;
      case 2:
        this.#model.failed(job, true);
        await job.nack('final', { final: true });
        return;
      case 3:
        this.#model.done.add(id);
        await job.ack();
        return;
      default:
        this.#model.done.add(id);
        await job.commit({ then: [op.put(`effect/${id}`, this.#name)] });
    }
  }

  /** The session ends without a word, as in a crash. */
  async #lose(): Promise<void> {
    this.#model.losses += 1;
    for (const job of this.#held.splice(0)) this.#model.failed(job);
    const old = this.#session;
    this.#session.orphan();
    await this.#client.lease.revoke(old.leaseId);
    await this.join();
  }

  async #pause(): Promise<void> {
    await this.#queue.pause();
    await sleep(this.#next(10));
    await this.#queue.resume();
  }
}

async function run(backend: Backend, runSeed: number): Promise<void> {
  let state = runSeed | 1;
  const next = (below: number): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * Math.max(1, below));
  };
  const model = new Model();
  const client = backend.client();
  const shared = backend.client();
  const actors = Array.from({ length: ACTORS }, (_, at) => {
    return new Actor(at % 2 === 0 ? shared : client, model, `actor${at}`, next);
  });
  await Promise.all(
    actors.map(async (actor) => {
      await actor.join();
      for (let at = 0; at < STEPS; at++) await actor.step();
      await actor.leave();
    }),
  );
  const session = await Session.open(client, { ttlSeconds: 20 });
  const queue = new JobQueue<string>(session, 'model');
  const worker = queue.process(
    (job) => {
      model.claimed(job);
      model.done.add(job.id);
    },
    { concurrency: 10 },
  );
  await queue.idle({ timeoutMs: 20_000 });
  await worker.stop();
  const dead = new Set<string>();
  for await (const { id, attempts, maxAttempts } of queue.jobs('dead')) {
    assert.ok(model.dead.delete(id) || attempts >= maxAttempts, `${id} is dead after ${attempts} attempts`);
    dead.add(id);
  }
  assert.deepEqual([...model.dead], [], 'these should be dead');
  assert.deepEqual([...model.done, ...dead].sort(), [...model.pushed.keys()].sort());
  for await (const kv of client.kv.scan({ prefix: 'effect/' })) assert.equal(kv.version, 1n, kv.key);
  await client.kv.delete({ prefix: 'effect/' });
  await queue.removeDead();
  await queue.close();
  await session.close();
}

onEachBackend('JobQueue against a model', (backend) => {
  for (const round of [0, 1, 2]) {
    test(`random use keeps every promise (${round})`, async (t) => {
      t.diagnostic(`CONCLAVE_SEED=${seed}`);
      await run(backend, seed + round);
    });
  }
});
