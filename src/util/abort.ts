import { ConclaveError, madeHere } from '../errors/conclave-error.js';
import { type Clock } from './clock.js';
import { Deferred } from './deferred.js';
import { checkLimits } from './validate.js';

type Reaction = (reason: unknown) => void;

/** What is to be called when a signal aborts, by signal. */
const reactions = new WeakMap<AbortSignal, Reactions>();

/**
 * One listener on a signal for all who wait for it: a thousand waits may share a signal, and Node looks through all of a
 * signal's listeners whenever one is added or removed.
 */
class Reactions {
  readonly #signal: AbortSignal;
  readonly #all = new Set<{ readonly react: Reaction }>();
  readonly #listener = (): void => {
    // One that is taken back by another's reaction is not called any more.
    for (const { react } of this.#all) react(this.#signal.reason);
    this.#all.clear();
  };

  constructor(signal: AbortSignal) {
    this.#signal = signal;
  }

  add(react: Reaction): () => void {
    const reaction = { react };
    if (this.#all.size === 0) this.#signal.addEventListener('abort', this.#listener, { once: true });
    this.#all.add(reaction);
    return () => {
      if (this.#all.delete(reaction) && this.#all.size === 0) {
        this.#signal.removeEventListener('abort', this.#listener);
      }
    };
  }
}

/**
 * Calls `react` once when `signal` aborts; at once when it already has. Returns how to stop listening, which every path
 * must call, since a caller's signal may live as long as the process. This is the one place that adds abort listeners.
 */
export function onAbort(signal: AbortSignal | undefined, react: Reaction): () => void {
  if (signal === undefined) return () => undefined;
  if (signal.aborted) {
    react(signal.reason);
    return () => undefined;
  }
  let known = reactions.get(signal);
  if (known === undefined) {
    known = new Reactions(signal);
    reactions.set(signal, known);
  }
  return known.add(react);
}

/** Settles as `promise` does, unless `signal` aborts first: then rejects with its reason. `promise` itself goes on. */
export async function orAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  const aborted = new Deferred<never>();
  const stop = onAbort(signal, (reason) => aborted.reject(reason));
  try {
    return await Promise.race([promise, aborted.promise]);
  } catch (error) {
    throw awaitedHere(error);
  } finally {
    stop();
  }
}

/** The end of a wait's time is made by a timer, whose stack tells nobody which wait it was: it is made anew where that is. */
export function awaitedHere(error: unknown): unknown {
  return error instanceof ConclaveError && error.code === 'TIMEOUT' ? madeHere(error) : error;
}

/** Resolves after `delayMs`; rejects with the signal's reason when it aborts first. */
export async function sleep(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  signal?.throwIfAborted();
  const done = new Deferred<void>();
  const timer = clock.setTimer(delayMs, () => done.resolve());
  const stop = onAbort(signal, (reason) => done.reject(reason));
  try {
    await done.promise;
  } catch (error) {
    throw awaitedHere(error);
  } finally {
    timer.cancel();
    stop();
  }
}

/** The reason with which something is stopped that nobody asks: without one, each abort makes a DOMException with its stack. */
export const OVER = new Error('it is over');

/** Waits for `promise`, whatever comes of it, but not longer than `limitMs`; it goes on after that. */
export async function waitAtMost(clock: Clock, limitMs: number, promise: Promise<unknown>): Promise<void> {
  const stop = new AbortController();
  const limit = sleep(clock, limitMs, stop.signal).catch(() => undefined);
  await Promise.race([promise.catch(() => undefined), limit]);
  stop.abort(OVER);
}

/** What a wait may be limited by. */
export interface WaitOptions {
  /** Aborts the wait: it rejects with the signal's reason once what it left in etcd has been removed. */
  readonly signal?: AbortSignal | undefined;
  /** Gives up after this many milliseconds, with code `TIMEOUT`. @default no limit */
  readonly timeoutMs?: number | undefined;
}

/** The names of `WaitOptions`, for a primitive that takes no others. */
export const WAIT_OPTIONS = ['signal', 'timeoutMs'] as const;

/** One signal made of a caller's signal and timeout. `dispose` must be called on every path. */
export interface WaitLimit extends Disposable {
  readonly signal: AbortSignal;
}

/** Joins `options.signal`, `options.timeoutMs` and `others` (already made signals, such as a session's) into one signal. */
export function limitWait(
  clock: Clock,
  options: WaitOptions,
  what: string,
  others: readonly AbortSignal[] = [],
): WaitLimit {
  checkLimits(options);
  const { timeoutMs } = options;
  const signals = options.signal === undefined ? others : [options.signal, ...others];
  const [first] = signals;
  if (timeoutMs === undefined && first !== undefined && signals.length === 1) {
    return { signal: first, [Symbol.dispose]: () => undefined };
  }
  const controller = new AbortController();
  const stops = signals.map((signal) => onAbort(signal, (reason) => controller.abort(reason)));
  const timer =
    timeoutMs === undefined || timeoutMs === Infinity
      ? undefined
      : clock.setTimer(timeoutMs, () =>
          controller.abort(new ConclaveError('TIMEOUT', `${what}: gave up after ${String(timeoutMs)} ms`)),
        );
  return {
    signal: controller.signal,
    [Symbol.dispose]() {
      timer?.cancel();
      for (const stop of stops) stop();
    },
  };
}
