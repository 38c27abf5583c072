import { systemClock } from '../util/clock.js';
import { Deferred } from '../util/deferred.js';

/** How long a test waits for a fact. */
export interface FactOptions {
  /** Then the wait rejects, so that a test fails with a reason instead of hanging. @default 10000 */
  readonly timeoutMs?: number | undefined;
  /** The fact in words, for the error. */
  readonly what?: string | undefined;
}

/** Lets tests wait until something is so, instead of sleeping. */
export class Facts {
  readonly #waiting = new Set<() => void>();

  /** Something has changed: everyone who waits looks again. */
  changed(): void {
    for (const look of [...this.#waiting]) look();
  }

  /** Resolves as soon as `fact()` is true; rejects when it is not in time, or when `fact` throws. */
  async waitFor(fact: () => boolean, options: FactOptions = {}): Promise<void> {
    if (fact()) return;
    const { timeoutMs = 10_000, what = fact.toString() } = options;
    const done = new Deferred<void>();
    const look = (): void => {
      try {
        if (fact()) done.resolve(undefined);
      } catch (error) {
        done.reject(error);
      }
    };
    const timer = systemClock.setTimer(timeoutMs, () => {
      done.reject(new Error(`not true after ${timeoutMs} ms: ${what}`));
    });
    this.#waiting.add(look);
    try {
      await done.promise;
    } finally {
      timer.cancel();
      this.#waiting.delete(look);
    }
  }
}
