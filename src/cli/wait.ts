/** How long `lock` and `elect` wait, counted from their start: for a server that answers, for the hold, and for a farewell. */
import { ConclaveError, hasCode } from '../errors/conclave-error.js';
import { limitWait, onAbort, orAborted, type WaitLimit } from '../util/abort.js';
import { systemClock, type Timer } from '../util/clock.js';

/** With -n, or -w and less than this, a server gets so long to answer: "at once" is not faster. */
const LEAST_ANSWER_MS = 1000;
/** How long one that was asked to end, or gave up, tries to tidy up in etcd. */
const TIDY_MS = 1000;

/** What limits a wait for the hold; it is tried once when `timeoutMs` is 0. */
export interface HoldLimits {
  readonly signal: AbortSignal;
  readonly timeoutMs: number | undefined;
}

export class Wait implements Disposable {
  readonly #endsAt: number;
  readonly #interrupt: AbortSignal;
  /** Undefined once we have what we waited for. */
  #limit: WaitLimit | undefined;

  /** `seconds` is -w's number, 0 for -n, undefined for no limit; `interrupt` is how we are asked to end. */
  constructor(seconds: number | undefined, interrupt: AbortSignal) {
    this.#interrupt = interrupt;
    this.#endsAt = systemClock.now() + (seconds ?? Infinity) * 1000;
    const timeoutMs = seconds === undefined ? undefined : Math.max(LEAST_ANSWER_MS, seconds * 1000);
    this.#limit = limitWait(systemClock, { signal: interrupt, timeoutMs }, 'the server');
  }

  /** Aborts when it is time to give up, or we are asked to end. */
  get signal(): AbortSignal {
    return this.#limit?.signal ?? this.#interrupt;
  }

  /** Settles as `ask` does; rejects with `UNAVAILABLE` when the time is over first, and at once when we are asked to end. */
  async forAnswer<T>(ask: (signal: AbortSignal) => Promise<T>): Promise<T> {
    try {
      return await orAborted(ask(this.signal), this.signal);
    } catch (error) {
      if (!hasCode(error, 'TIMEOUT')) throw error;
      throw new ConclaveError('UNAVAILABLE', 'no server has answered in time', { cause: error });
    }
  }

  /**
   * Settles as `take` does, which waits for the hold; rejects with `TIMEOUT` when that takes too long, and with what we
   * are asked to end by. It then has a moment to leave the line.
   */
  async forHold<T>(take: (limits: HoldLimits) => Promise<T>): Promise<T> {
    const { signal } = this;
    const leftMs = Math.max(0, this.#endsAt - systemClock.now());
    const timeoutMs = leftMs === Infinity ? undefined : leftMs;
    const taking =
      timeoutMs === 0
        ? this.forAnswer(() => take({ signal, timeoutMs }))
        : tidily(signal, take({ signal, timeoutMs }));
    const taken = await taking;
    this[Symbol.dispose]();
    return taken;
  }

  [Symbol.dispose](): void {
    this.#limit?.[Symbol.dispose]();
    this.#limit = undefined;
  }
}

/** Settles as `promise` does, but once `signal` has aborted waits only a moment more; then rejects with its reason. */
export async function tidily<T>(signal: AbortSignal, promise: Promise<T>): Promise<T> {
  const over = new AbortController();
  let timer: Timer | undefined;
  const stop = onAbort(signal, (reason) => {
    timer = systemClock.setTimer(TIDY_MS, () => over.abort(reason));
  });
  try {
    return await orAborted(promise, over.signal);
  } finally {
    stop();
    timer?.cancel();
  }
}
