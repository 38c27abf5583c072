/** A timer that can be called off. Cancelling twice, or after it fired, does nothing. */
export interface Timer {
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
}

/** Node refuses longer timeouts, and would fire at once. */
const LONGEST_TIMEOUT_MS = 2_147_483_647;

/** The machine's own clocks. */
export const systemClock: Clock = {
  now: () => performance.now(),
  setTimer(delayMs, fire) {
    const handle = setTimeout(fire, Math.min(Math.max(0, delayMs), LONGEST_TIMEOUT_MS));
    return { cancel: () => clearTimeout(handle) };
  },
  wall: () => Date.now(),
};
