/** A worker: so many jobs at a time, each given to a handler and handed in when it is done. */
import { inspect } from 'node:util';

import { hasCode } from '../errors/conclave-error.js';
import { onAbort, sleep, waitAtMost } from '../util/abort.js';
import { backoffMs } from '../util/backoff.js';
import type { Clock } from '../util/clock.js';
import { Deferred } from '../util/deferred.js';
import { checkCount, checkLimits, checkMs, checkOptions } from '../util/validate.js';
import type { Job } from './job.js';

/**
 * Works on one job. When it returns, the job is acknowledged, unless it has been handed in already; when it throws, that
 * attempt has failed. It should end when `job.signal` aborts.
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
  readonly clock: Clock;
  /** Resolves with a job; rejects with the signal's reason, or when none can be had any more. */
  readonly take: (signal: AbortSignal, recall: AbortSignal) => Promise<Job<T>>;
  /** Aborts when no job can be had any more. */
  readonly over: AbortSignal;
  /** Told once, when the worker has stopped. */
  readonly stopped: () => Promise<void>;
}

/** How long a worker that stops waits for etcd to take note of it. */
const LEAVE_MS = 3000;
const OPTIONS = ['concurrency', 'signal', 'stopTimeoutMs', 'onError'] as const;

/** A running worker, made by `queue.process`. */
export class JobWorker<T = unknown> implements AsyncDisposable {
  readonly #base: WorkerBase<T>;
  readonly #handler: JobHandler<T>;
  readonly #onError: (error: unknown, job: Job<T>) => void;
  readonly #stopTimeoutMs: number;
  readonly #stopping = new AbortController();
  readonly #recall = new AbortController();
  readonly #running = new Set<Job<T>>();
  readonly #slots: Promise<void>;
  readonly #finished = new Deferred<void>();
  #stops: (() => void)[] = [];
  #stopped: Promise<void> | undefined;
  #failure: { readonly error: unknown } | undefined;

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
    this.#slots = Promise.all(Array.from({ length: concurrency }, () => this.#slot())).then(() => undefined);
    this.#stops = [
      onAbort(options.signal, () => void this.stop()),
      onAbort(base.over, (reason) => {
        this.#cannotGoOn(reason);
        void this.stop();
      }),
    ];
    void this.#slots.then(() => this.stop());
  }

  /** How many jobs it works on at this moment. */
  get running(): number {
    return this.#running.size;
  }

  /**
   * Resolves when the worker has stopped, because it was told to. Rejects, with `SESSION_LOST` for instance, when it
   * cannot go on, once its handlers have ended (or `stopTimeoutMs` later): then open a new session and a new worker.
   */
  get finished(): Promise<void> {
    return this.#finished.promise;
  }

  /**
   * Takes no more jobs, lets the handlers end, and leaves. What is not done after `timeoutMs` (by default the worker's
   * `stopTimeoutMs`) is handed back to its place without counting the attempt, and the handler's signal aborts. Resolves
   * when all of that is done, or, if nobody answers, after another 3 s; it then goes on until the session ends. Never
   * rejects; calling again gives the same promise.
   */
  stop(options: { readonly timeoutMs?: number | undefined } = {}): Promise<void> {
    checkOptions(options, ['timeoutMs'], 'stop');
    const timeoutMs = checkMs(options.timeoutMs ?? this.#stopTimeoutMs, 'timeoutMs');
    this.#stopped ??= this.#stop(timeoutMs);
    return this.#stopped;
  }

  /** As `stop()`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  async #stop(timeoutMs: number): Promise<void> {
    for (const stop of this.#stops) stop();
    this.#stopping.abort(new Error('the worker stops'));
    const late = new Deferred<void>();
    const timer = this.#base.clock.setTimer(timeoutMs, () => late.resolve());
    await Promise.race([this.#slots, late.promise]);
    timer.cancel();
    const left = [...this.#running];
    this.#recall.abort(new Error('the worker stops, and takes the job back'));
    const leaving = Promise.all(left.map((job) => job.giveBack())).then(() => this.#base.stopped());
    await waitAtMost(this.#base.clock, LEAVE_MS, leaving);
    if (this.#failure === undefined) this.#finished.resolve();
    else this.#finished.reject(this.#failure.error);
  }

  async #slot(): Promise<void> {
    let next = this.#take();
    for (let job = await next; job !== undefined; job = await next) {
      if (this.#isStopping()) {
        await job.release().catch(() => undefined);
        return;
      }
      this.#running.add(job);
      const failure = await this.#handle(job);
      // Asked for before this one is handed in, so that one transaction does both.
      next = this.#isStopping() ? Promise.resolve(undefined) : this.#take();
      await this.#handIn(job, failure);
      this.#running.delete(job);
    }
  }

  #isStopping(): boolean {
    return this.#stopping.signal.aborted;
  }

  async #take(): Promise<Job<T> | undefined> {
    try {
      return await this.#base.take(this.#stopping.signal, this.#recall.signal);
    } catch (error) {
      this.#cannotGoOn(error);
      return undefined;
    }
  }

  #cannotGoOn(error: unknown): void {
    if (!this.#isStopping() && !hasCode(error, 'CLOSED')) this.#failure ??= { error };
  }

  async #handle(job: Job<T>): Promise<{ readonly error: unknown } | undefined> {
    try {
      await this.#handler(job);
      return undefined;
    } catch (error) {
      this.#report(error, job);
      return { error };
    }
  }

  /** Once the jobs are taken back, what happens to their handlers is of no interest. */
  #report(error: unknown, job: Job<T>): void {
    if (!this.#recall.signal.aborted) this.#onError(error, job);
  }

  /** What etcd refuses is tried again: the job is ours as long as our session lives, and would be stuck. */
  async #handIn(job: Job<T>, failure: { readonly error: unknown } | undefined): Promise<void> {
    let outcome = failure;
    if (job.handedIn) {
      await job[Symbol.asyncDispose]();
      if (!job.held) return;
      outcome ??= { error: new Error('what its handler handed it in with was refused') };
    }
    for (let attempt = 0; !this.#recall.signal.aborted; attempt++) {
      try {
        await (outcome === undefined ? job.ack() : job.nack(outcome.error));
        return;
      } catch (error) {
        this.#report(error, job);
        if (!job.held) return;
      }
      const pauseMs = backoffMs(attempt, { baseMs: 100, maxMs: 5000 });
      await sleep(this.#base.clock, pauseMs, this.#recall.signal).catch(() => undefined);
    }
  }
}

/** A listener whose own errors harm nobody else. */
function quietly<T>(
  listen: ((error: unknown, job: Job<T>) => unknown) | undefined,
): (error: unknown, job: Job<T>) => void {
  const warn = (thrown: unknown): void =>
    process.emitWarning(`onError threw: ${inspect(thrown)}`, 'ConclaveWarning');
  return (error, job) => {
    try {
      const told = listen?.(error, job);
      if (told instanceof Promise) told.catch(warn);
    } catch (thrown) {
      warn(thrown);
    }
  };
}
