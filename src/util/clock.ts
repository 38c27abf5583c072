/** A timer that can be called off. Cancelling twice, or after it fired, does nothing. */
export interface Timer {
  /** Calls it off. */
  cancel(): void;
}

/** Where time comes from. One monotonic clock for deadlines, one wall clock for what people read. */
export interface Clock {
  /** Monotonic milliseconds, with fractions. Only differences mean anything. */
  now(): number;
  /** Milliseconds since 1970 by the wall clock. Never used for a deadline. */
  wall(): number;
  /** Calls `fire` once, not before `delayMs` have passed. A pending timer keeps the process running. */
  setTimer(delayMs: number, fire: () => void): Timer;
  /** Calls `fire` at the next turn of the event loop. @default setImmediate */
  soon?(fire: () => void): void;
  /**
   * Its time passes by itself. What has to be over soon whatever happens, such as a client's close, is timed by such a clock;
   * beside any other, which may stand still, by the machine's.
   */
  readonly goesOn?: true;
}

/** Node refuses longer timeouts, 24.8 days, and would fire at once: a longer wait is made of several. */
const LONGEST_TIMEOUT_MS = 2_147_483_647;

/**
 * The real ones, taken when this is loaded: a test runner's fake timers, put in their place later, must stop neither keepalives
 * nor the limits of calls, which would then hang for ever.
 */
const real: Pick<typeof globalThis, 'clearTimeout' | 'setTimeout'> = {
  clearTimeout: globalThis.clearTimeout,
  setTimeout: globalThis.setTimeout,
};
/** As `setImmediate`, whatever a test runner puts in its place. */
export const nextTurn = globalThis.setImmediate;

/** Calls `fire` at the next turn of the event loop, as the clock has it. */
export function soon(clock: Clock, fire: () => void): void {
  if (clock.soon === undefined) nextTurn(fire);
  else clock.soon(fire);
}
const now = performance.now.bind(performance);

/** Whether somebody else's timers are in the place of the real ones, such as a test runner's. */
export function timersAreFaked(): boolean {
  return globalThis.setTimeout !== real.setTimeout || globalThis.setImmediate !== nextTurn;
}

/** What `setTimer` is, made of such timers. */
export function timersOf({ clearTimeout, setTimeout }: typeof real): Clock['setTimer'] {
  return (delayMs, fire) => {
    let handle: NodeJS.Timeout | undefined;
    const wait = (leftMs: number): void => {
      const then = leftMs <= LONGEST_TIMEOUT_MS ? fire : () => wait(leftMs - LONGEST_TIMEOUT_MS);
      handle = setTimeout(then, Math.min(leftMs, LONGEST_TIMEOUT_MS));
    };
    wait(Math.max(0, delayMs));
    return { cancel: () => clearTimeout(handle) };
  };
}

/** The clock for what has to be over soon, whatever happens. */
export function goingClock(clock: Clock): Clock {
  return clock.goesOn === true ? clock : systemClock;
}

/** As the machine's clock has it, but it keeps no process running: for what is looked after now and then. */
export function setIdleTimer(delayMs: number, fire: () => void): Timer {
  const handle = real.setTimeout(fire, delayMs);
  handle.unref();
  return { cancel: () => real.clearTimeout(handle) };
}

/** The machine's own clocks. */
export const systemClock: Clock = { goesOn: true, now, setTimer: timersOf(real), wall: () => Date.now() };
