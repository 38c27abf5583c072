import { ConclaveError } from '../../errors/conclave-error.js';
import { orAborted } from '../../util/abort.js';
import { systemClock } from '../../util/clock.js';

/** A value, or a function that is asked for it whenever it is needed. */
export type Given<T> = T | (() => T | Promise<T>);

/** How long a function may take: a connection, or a call, waits for it. */
const GIVES_MS = 10_000;

/**
 * What `source` gives now. Rejects with `code`, naming the option `what`, when its function fails, takes too long, or gives
 * something that is not `fit`.
 */
export async function given<T>(
  source: Given<T>,
  what: string,
  fit: (value: unknown) => boolean,
  code: 'AUTH_FAILED' | 'TLS_FAILED',
): Promise<T> {
  if (typeof source !== 'function') return source;
  const stop = new AbortController();
  const late = new Error(`it gave nothing within ${String(GIVES_MS / 1000)} s`);
  // By the machine's clock: connections are made by it.
  const timer = systemClock.setTimer(GIVES_MS, () => stop.abort(late));
  let value: T;
  try {
    value = await orAborted(Promise.resolve((source as () => T | Promise<T>)()), stop.signal);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new ConclaveError(code, `the function ${what} failed: ${why}`, { cause });
  } finally {
    timer.cancel();
  }
  if (fit(value)) return value;
  throw new ConclaveError(
    code,
    `the function ${what} gave no text, but ${value === null ? 'null' : typeof value}`,
  );
}
