import { hasCode } from '../errors/conclave-error.js';
import { sleep } from '../util/abort.js';
import { backoffMs } from '../util/backoff.js';
import type { Clock } from '../util/clock.js';

/** Asks again for as long as nobody answers. Rejects with any other error, and with the reason when `signal` aborts. */
export async function untilAnswered<T>(clock: Clock, signal: AbortSignal, ask: () => Promise<T>): Promise<T> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await ask();
    } catch (error) {
      if (!hasCode(error, 'UNAVAILABLE', 'DEADLINE_EXCEEDED')) throw error;
      await sleep(clock, backoffMs(attempt), signal);
    }
  }
}
