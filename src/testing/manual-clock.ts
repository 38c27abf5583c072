import { type Clock, type Timer } from '../util/clock.js';

/** Where a manual clock begins. */
export interface ManualClockOptions {
  /** What `now()` says at first. @default 0 */
  readonly nowMs?: number | undefined;
  /** What `wall()` says at first. @default the start of 2026, UTC */
  readonly wallMs?: number | undefined;
}

interface Pending {
  readonly dueMs: number;
  readonly fire: () => void;
}

/**
 * A clock that stands still until a test moves it.
 *
 * @example
 * const clock = new ManualClock();
 * clock.setTimer(1000, () => console.log('a second has passed'));
 * await clock.advance(1000);
 */
export class ManualClock implements Clock {
  readonly #timers = new Set<Pending>();
  #nowMs: number;
  #wallMs: number;
  /** The last `advance`, which the next one waits for. */
  #turn: Promise<void> = Promise.resolve();

  constructor(options: ManualClockOptions = {}) {
    this.#nowMs = options.nowMs ?? 0;
    this.#wallMs = options.wallMs ?? Date.UTC(2026, 0, 1);
  }

  now(): number {
    return this.#nowMs;
  }

  wall(): number {
    return this.#wallMs;
  }

  /** As with the machine's clock, what is no number is due at once. */
  setTimer(delayMs: number, fire: () => void): Timer {
    const timer = { dueMs: this.#nowMs + (delayMs > 0 ? delayMs : 0), fire };
    this.#timers.add(timer);
    return { cancel: () => void this.#timers.delete(timer) };
  }

  /** How many timers have neither fired nor been cancelled. */
  get pendingTimers(): number {
    return this.#timers.size;
  }

  /** In how many milliseconds the next timer is due; 0 or less when it is overdue, `undefined` when there is none. */
  get nextTimerMs(): number | undefined {
    const next = this.#next(Infinity);
    return next === undefined ? undefined : next.dueMs - this.#nowMs;
  }

  /**
   * Lets time pass. Timers that come due fire in order, each at its own time, those of the same time in the order they
   * were set; what they start (promises, and events that are ready) runs before the next. Resolves when all is done, with
   * `now()` exactly `ms` later. Rejects with what a timer throws; time then stands at that timer.
   */
  async advance(ms: number): Promise<void> {
    checkForward(ms);
    const mine = this.#turn.then(() => this.#advance(ms));
    this.#turn = mine.catch(() => undefined);
    await mine;
  }

  /** Time passes, and no timer fires, as while the process is stopped or its event loop blocked. `advance(0)` fires them late. */
  jump(ms: number): void {
    checkForward(ms);
    this.#move(this.#nowMs + ms);
  }

  /** Sets the wall clock, as an administrator does: `now()` and the timers do not notice. */
  setWall(wallMs: number): void {
    this.#wallMs = wallMs;
  }

  async #advance(ms: number): Promise<void> {
    const endMs = this.#nowMs + ms;
    await settle();
    for (let next = this.#next(endMs); next !== undefined; next = this.#next(endMs)) {
      this.#move(Math.max(this.#nowMs, next.dueMs));
      this.#timers.delete(next);
      next.fire();
      await settle();
    }
    this.#move(Math.max(this.#nowMs, endMs));
  }

  #next(endMs: number): Pending | undefined {
    let first: Pending | undefined;
    for (const timer of this.#timers) {
      if (timer.dueMs <= endMs && (first === undefined || timer.dueMs < first.dueMs)) first = timer;
    }
    return first;
  }

  #move(nowMs: number): void {
    this.#wallMs += nowMs - this.#nowMs;
    this.#nowMs = nowMs;
  }
}

function checkForward(ms: number): void {
  if (!(ms >= 0 && Number.isFinite(ms))) throw new RangeError(`a clock cannot advance by ${ms} ms`);
}

/** Lets promise callbacks run until none is left, and one turn of the event loop. */
async function settle(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}
