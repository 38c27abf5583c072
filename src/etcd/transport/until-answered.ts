import { isTransient } from '../../errors/transient.js';
import { sleep } from '../../util/abort.js';
import { backoffMs } from '../../util/backoff.js';
import type { Clock } from '../../util/clock.js';

/** Asks again for as long as nobody answers, or etcd cannot for the time being. Rejects with any other error, and with the reason when `signal` aborts. */
export async function untilAnswered<T>(clock: Clock, signal: AbortSignal, ask: () => Promise<T>): Promise<T> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await ask();
    } catch (error) {
      if (!isTransient(error)) throw error;
      await sleep(clock, backoffMs(attempt), signal);
    }
  }
}
