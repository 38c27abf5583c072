import { chance } from './chance.js';

/** How long to wait before the next try. */
export interface BackoffOptions {
  /** Before the second try, in milliseconds. @default 10 */
  readonly baseMs?: number | undefined;
  /** Never longer than this. @default 1000 */
  readonly maxMs?: number | undefined;
}

/**
 * Milliseconds to wait after failed try number `attempt` (the first is 0): exponential with full jitter, as in
 * "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015), but never under half of the step.
 */
export function backoffMs(attempt: number, { baseMs = 10, maxMs = 1000 }: BackoffOptions = {}): number {
  const step = Math.min(maxMs, baseMs * 2 ** Math.min(attempt, 30));
  return step / 2 + (chance.fraction() * step) / 2;
}
