import type { Clock, Timer } from '../../util/clock.js';
import type { Timeline } from './timeline.js';

/** How a process's clocks differ from the world's. */
export interface ClockFault {
  /** How many of its milliseconds pass in one of the world's. @default 1 */
  readonly rate?: number | undefined;
  /** By how much its wall clock is ahead, in milliseconds. @default 0 */
  readonly wallAheadMs?: number | undefined;
}

const WALL_MS = Date.UTC(2026, 0, 1);

/**
 * A process of the simulated world: what comes to it (a timer, a message) comes one at a time; not while it is frozen, and
 * not at all once it is dead.
 */
export class SimProcess {
  readonly name: string;
  readonly clock: Clock;
  readonly #timeline: Timeline;
  #state: 'running' | 'frozen' | 'dead' = 'running';
  /** What has come while it was frozen. */
  #waiting: (() => void)[] = [];
  #wallAheadMs: number;

  constructor(name: string, timeline: Timeline, { rate = 1, wallAheadMs = 0 }: ClockFault = {}) {
    this.name = name;
    this.#timeline = timeline;
    this.#wallAheadMs = wallAheadMs;
    this.clock = {
      goesOn: true,
      // Nobody may take 0 for a time.
      now: () => 1000 + timeline.nowMs * rate,
      setTimer: (delayMs, fire) => this.#timer(delayMs / rate, fire),
      soon: (fire) => void this.#timer(0, fire),
      wall: () => WALL_MS + timeline.nowMs + this.#wallAheadMs,
    };
  }

  /** Whether it is neither frozen nor dead. */
  get isRunning(): boolean {
    return this.#state === 'running';
  }

  /** Whether it was killed. */
  get isDead(): boolean {
    return this.#state === 'dead';
  }

  /** Something comes to it. */
  deliver(event: () => void): void {
    if (this.#state === 'running') event();
    else if (this.#state === 'frozen') this.#waiting.push(event);
  }

  /** As SIGSTOP, or a blocked event loop. */
  freeze(): void {
    if (this.#state === 'running') this.#state = 'frozen';
  }

  /** As SIGCONT: what has come meanwhile comes now, one after the other. */
  thaw(): void {
    if (this.#state !== 'frozen') return;
    this.#state = 'running';
    for (const event of this.#waiting.splice(0)) this.#timeline.after(0, () => this.deliver(event));
  }

  /** As SIGKILL. */
  kill(): void {
    this.#state = 'dead';
    this.#waiting = [];
  }

  /** Sets its wall clock forward, or back. */
  moveWall(byMs: number): void {
    this.#wallAheadMs += byMs;
  }

  #timer(delayMs: number, fire: () => void): Timer {
    let cancelled = false;
    const timer = this.#timeline.after(delayMs > 0 ? delayMs : 0, () =>
      this.deliver(() => {
        if (!cancelled) fire();
      }),
    );
    return {
      cancel: () => {
        cancelled = true;
        timer.cancel();
      },
    };
  }
}
