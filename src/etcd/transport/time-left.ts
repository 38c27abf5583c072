/** One time limit for an operation that makes several calls. */
import { checkLimits } from '../../util/validate.js';
import type { CallOptions } from './call.js';
import type { Connection } from './connection.js';

/** Starts the time of an operation. Each call of what is returned gives the limits for its next call. */
export function timeLeft(
  { clock, timeoutMs: usual }: Pick<Connection, 'clock' | 'timeoutMs'>,
  { signal, timeoutMs = usual }: CallOptions,
): () => { readonly signal: AbortSignal | undefined; readonly timeoutMs: number } {
  checkLimits({ signal, timeoutMs });
  const deadline = clock.now() + timeoutMs;
  return () => ({ signal, timeoutMs: Math.max(0, deadline - clock.now()) });
}
