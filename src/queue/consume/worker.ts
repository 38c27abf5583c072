/**
 * A worker: so many slots, each of which takes a job, gives it to the handler, and settles it. Its life is WORKER_LIFE in
 * lives.ts.
 */
import { AsyncLocalStorage } from 'node:async_hooks';

import { onAbort, sleep, waitAtMost } from '../../util/abort.js';
import { backoffMs } from '../../util/backoff.js';
import { trace } from '../../util/channels.js';
import type { Clock, Timer } from '../../util/clock.js';
import { Deferred } from '../../util/deferred.js';
import { thrownText, warn } from '../../util/warn.js';
import { checkCount, checkLimits, checkMs, checkOptions } from '../../util/validate.js';
import type { ConsumerUse } from './consumers.js';
import type { Job } from './job.js';
import { following, WORKER_LIFE, type WorkerEvent, type WorkerState } from './lives.js';

/**
 * Works on one job. When it returns, the job is acknowledged, unless it has been handed in already; when it throws, that
 * attempt has failed, as it has when it returns after a `commit` that was declined. It should end when `job.signal` aborts.
 */
export type JobHandler<T = unknown> = (job: Job<T>) => unknown;

/** Options of `process`. */
export interface ProcessOptions<T = unknown> {
  /** How many jobs at a time. @default 1 */
  readonly concurrency?: number | undefined;
  /** Ends the worker as `stop()` does. */
  readonly signal?: AbortSignal | undefined;
  /** How long handlers may go on when the worker stops, in milliseconds. @default 10000 */
  readonly stopTimeoutMs?: number | undefined;
  /** Told what a handler threw, and why a job could not be handed in. Must not throw. */
  readonly onError?: ((error: unknown, job: Job<T>) => void) | undefined;
}

/** What a worker stands on. */
export interface WorkerBase<T> {
  /** The queue's name. */
  readonly queue: string;
  readonly clock: Clock;
  /** The consumer that the worker gets its jobs from, for its whole life. */
  readonly use: () => ConsumerUse<T>;
  /** Whether the caller has ended what the worker stands on, so that its end is one that was asked for. */
  readonly closedByCaller: () => boolean;
  /** Told once, when the worker has stopped. */
  readonly stopped: () => void;
}

/** How long a worker that stops waits for etcd to take note of it. */
const LEAVE_MS = 3000;
const OPTIONS = ['concurrency', 'signal', 'stopTimeoutMs', 'onError'] as const;

/** Of which worker the code that runs now is a handler, and whether that has ended. */
const handling = new AsyncLocalStorage<{ readonly worker: unknown; ended: boolean }>();

/** A running worker, made by `queue.process`. */
export class JobWorker<T = unknown> implements AsyncDisposable {
  readonly #base: WorkerBase<T>;
  readonly #handler: JobHandler<T>;
  readonly #onError: (error: unknown, job: Job<T>) => void;
  readonly #stopTimeoutMs: number;
  /** What it has claimed and not settled. */
  readonly #jobs = new Set<Job<T>>();
  /** Aborts when no more jobs are taken. */
  readonly #draining = new AbortController();
  /** Aborts when the jobs are taken back. */
  readonly #leaving = new AbortController();
  readonly #finished = new Deferred<void>();
  readonly #stopped = new Deferred<void>();
  #state: WorkerState = { is: 'working' };
  #slots = 0;
  #stops: (() => void)[] = [];
  #use: ConsumerUse<T> | undefined;
  #late: Timer | undefined;
  #isFollowed = false;

  constructor(base: WorkerBase<T>, handler: JobHandler<T>, options: ProcessOptions<T>) {
    checkOptions(options, OPTIONS, 'process');
    if (typeof handler !== 'function')
      throw new TypeError(`the handler must be a function, not ${typeof handler}`);
    if (options.onError !== undefined && typeof options.onError !== 'function')
      throw new TypeError(`onError must be a function, not ${typeof options.onError}`);
    checkLimits({ signal: options.signal });
    const concurrency = checkCount(options.concurrency ?? 1, 'concurrency', 1);
    this.#stopTimeoutMs = checkMs(options.stopTimeoutMs ?? 10_000, 'stopTimeoutMs');
    this.#base = base;
    this.#handler = handler;
    this.#onError = quietly(options.onError);
    this.#stops.push(onAbort(options.signal, () => void this.stop()));
    this.#start(concurrency);
  }

  /** How many jobs it has at this moment: they are with the handler, or about to be, or are being handed in. */
  get running(): number {
    return this.#jobs.size;
  }

  /**
   * Resolves when the worker has stopped because it was told to, by `stop()`, its signal, or the closing of its queue, its
   * session or its client. Rejects, with `SESSION_LOST` for instance, when it cannot go on, once its handlers have ended
   * (or `stopTimeoutMs` later): then open a new session and a new worker. If nobody asks for it, that is a process warning.
   */
  get finished(): Promise<void> {
    this.#isFollowed = true;
    return this.#finished.promise;
  }

  /**
   * Takes no more jobs, lets the handlers end, and leaves. What is not done after `timeoutMs` (by default the worker's
   * `stopTimeoutMs`) is handed back to its place without counting the attempt, and the handler's signal aborts. Resolves
   * when all of that is done, or, if nobody answers, after another 3 s; it then goes on until the session ends. Never
   * rejects; calling again gives the same promise. A handler of this worker, which would wait for itself, is not kept
   * waiting: called inside one, it resolves at once, and `finished` tells when all is done.
   */
  stop(options: { readonly timeoutMs?: number | undefined } = {}): Promise<void> {
    checkOptions(options, ['timeoutMs'], 'stop');
    const timeoutMs = checkMs(options.timeoutMs ?? this.#stopTimeoutMs, 'timeoutMs');
    this.#on({ timeoutMs, what: 'stop' });
    return this.isHandling ? Promise.resolve() : this.#stopped.promise;
  }

  /** As `stop()`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  /** Whether the caller is one of this worker's handlers, or was called by one that has not ended. */
  get isHandling(): boolean {
    const now = handling.getStore();
    return now !== undefined && now.worker === this && !now.ended;
  }

  #start(slots: number): void {
    if (this.#state.is !== 'working') return;
    this.#use = this.#base.use();
    this.#stops.push(onAbort(this.#use.ended, (error) => this.#fail(error)));
    for (this.#slots = slots; slots > 0; slots--) void this.#slot();
  }

  #fail(error: unknown): void {
    const timeoutMs = this.#stopTimeoutMs;
    if (this.#base.closedByCaller()) this.#on({ timeoutMs, what: 'stop' });
    else this.#on({ error, timeoutMs, what: 'failed' });
  }

  #on(event: WorkerEvent): void {
    const before = this.#state;
    this.#state = following(WORKER_LIFE, before, event);
    if (this.#state === before) return;
    switch (this.#state.is) {
      case 'working':
        return;
      case 'draining':
        for (const stop of this.#stops) stop();
        this.#draining.abort(new Error('the worker stops'));
        this.#late = this.#base.clock.setTimer(this.#state.timeoutMs, () => this.#on({ what: 'late' }));
        this.#checkDrained();
        return;
      case 'leaving':
        this.#late?.cancel();
        this.#leaving.abort(new Error('the worker stops, and takes the job back'));
        void waitAtMost(this.#base.clock, LEAVE_MS, this.#leave()).then(() => this.#on({ what: 'left' }));
        return;
      case 'stopped':
        if (this.#state.end.by === 'request') this.#finished.resolve();
        else this.#reject(this.#state.end.error);
        this.#base.stopped();
        this.#stopped.resolve();
    }
  }

  /** Nothing ends silently: whom nobody listens to warns. */
  #reject(error: unknown): void {
    this.#finished.reject(error);
    if (!this.#isFollowed) warn('CONCLAVE_WORKER_ENDED', `a worker cannot go on: ${thrownText(error)}`);
  }

  #checkDrained(): void {
    if (this.#slots === 0 && this.#jobs.size === 0) this.#on({ what: 'drained' });
  }

  async #leave(): Promise<void> {
    await Promise.all([...this.#jobs].map((job) => job.giveBack(this.#leaving.signal.reason)));
    await this.#use?.end();
  }

  async #slot(): Promise<void> {
    let next = this.#take();
    for (let job = await next; job !== undefined; job = await next) {
      const failure = await this.#handle(job);
      // Asked for before this one is handed in, so that one transaction does both.
      next = this.#take();
      await this.#handIn(job, failure);
    }
    this.#slots -= 1;
    this.#checkDrained();
  }

  async #take(): Promise<Job<T> | undefined> {
    if (this.#state.is !== 'working' || this.#use === undefined) return undefined;
    try {
      const job = await this.#use.take(this.#draining.signal);
      this.#jobs.add(job);
      if (this.#isWorking()) return job;
      await job.giveBack(this.#draining.signal.reason);
      this.#forget(job);
    } catch (error) {
      this.#fail(error);
    }
    return undefined;
  }

  #isWorking(): boolean {
    return this.#state.is === 'working';
  }

  async #handle(job: Job<T>): Promise<{ readonly error: unknown } | undefined> {
    const call = { ended: false, worker: this };
    try {
      const about = (): Record<string, unknown> => ({
        attempt: job.attempt,
        fencingToken: job.fencingToken,
        id: job.id,
        queue: this.#base.queue,
      });
      await trace('job', about, async () => {
        await handling.run(call, () => this.#handler(job));
      });
      return undefined;
    } catch (error) {
      this.#report(error, job);
      return { error };
    } finally {
      call.ended = true;
    }
  }

  /** Once the jobs are taken back, what happens to their handlers is of no interest. */
  #report(error: unknown, job: Job<T>): void {
    if (!this.#leaving.signal.aborted) this.#onError(error, job);
  }

  /** Settles a job whose handler has ended. Resolves after the first try; what etcd refuses is tried again meanwhile. */
  async #handIn(job: Job<T>, failure: { readonly error: unknown } | undefined): Promise<void> {
    let outcome = failure;
    if (job.handedIn) {
      await job.settled();
      if (job.held) outcome ??= { error: new Error('what its handler handed it in with was refused') };
    }
    if (job.declined) outcome ??= { error: new Error('its commit was declined, so it is not done') };
    if (!(await this.#tryToHandIn(job, outcome))) void this.#insist(job, outcome);
  }

  /** Whether nothing is left to be done for it here. */
  async #tryToHandIn(job: Job<T>, failure: { readonly error: unknown } | undefined): Promise<boolean> {
    try {
      if (!job.handedIn) await (failure === undefined ? job.ack() : job.nack(failure.error));
    } catch (error) {
      this.#report(error, job);
      if (job.held) return false;
    }
    this.#forget(job);
    return true;
  }

  /** The job is ours as long as our session lives, and would be stuck. */
  async #insist(job: Job<T>, failure: { readonly error: unknown } | undefined): Promise<void> {
    for (let attempt = 0; !this.#leaving.signal.aborted; attempt++) {
      const pauseMs = backoffMs(attempt, { baseMs: 100, maxMs: 5000 });
      await sleep(this.#base.clock, pauseMs, this.#leaving.signal).catch(() => undefined);
      if (await this.#tryToHandIn(job, failure)) return;
    }
  }

  #forget(job: Job<T>): void {
    this.#jobs.delete(job);
    this.#checkDrained();
  }
}

/** A listener whose own errors harm nobody else. */
function quietly<T>(
  listen: ((error: unknown, job: Job<T>) => unknown) | undefined,
): (error: unknown, job: Job<T>) => void {
  const threw = (thrown: unknown): void =>
    warn('CONCLAVE_ON_ERROR_THREW', `onError threw: ${thrownText(thrown)}`);
  return (error, job) => {
    try {
      const told = listen?.(error, job);
      if (told instanceof Promise) told.catch(threw);
    } catch (thrown) {
      threw(thrown);
    }
  };
}
