/** Undoing what may have been written by a call that was given up, or whose answer never came. */
import { hasCode } from '../errors/conclave-error.js';
import type { Client } from '../etcd/client.js';
import type { TxnSpec } from '../etcd/op.js';
import { sleep } from '../util/abort.js';

/** How long a caller who gave up waits for the clean-up; it goes on after that. */
const CLEAN_UP_MS = 3000;
/** A request whose answer was lost may still arrive until the server has given it up, after 7 s by default. */
const LOOK_AGAIN_AFTER_MS = [500, 2000, 6000] as const;

/** Whether an error means that nobody knows, or nobody answered: the same guarded write may then be tried again. */
export function isUnanswered(error: unknown): boolean {
  return hasCode(error, 'UNKNOWN_OUTCOME', 'UNAVAILABLE', 'DEADLINE_EXCEEDED');
}

/** Tries `write`, which a compare must guard, until it is answered. Rejects with the signal's reason, or etcd's refusal. */
export async function untilAnswered<T>(
  client: Client,
  write: () => Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  for (let attempt = 0; ; attempt++) {
    signal.throwIfAborted();
    try {
      return await write();
    } catch (error) {
      if (!isUnanswered(error)) throw error;
      await sleep(client.clock, Math.min(100 * 2 ** attempt, 2000), signal);
    }
  }
}

/**
 * Runs `undoing`, a guarded transaction, once `writing` is settled; when nobody knows what came of that, again later, in
 * the background. Resolves when the first undoing is confirmed, or after 3 s; it goes on until the signal aborts.
 */
export async function undo(
  client: Client,
  writing: Promise<unknown>,
  undoing: TxnSpec,
  signal: AbortSignal,
): Promise<void> {
  const once = (): Promise<unknown> =>
    untilAnswered(client, () => client.kv.txn(undoing, { idempotent: true }), signal);
  const work = async (): Promise<void> => {
    const unknown = await writing.then(
      () => false,
      (error: unknown) => hasCode(error, 'UNKNOWN_OUTCOME'),
    );
    await once();
    if (unknown) void lookAgain(client, once, signal).catch(() => undefined);
  };
  await withinLimit(client, work());
}

async function lookAgain(client: Client, once: () => Promise<unknown>, signal: AbortSignal): Promise<void> {
  for (const delayMs of LOOK_AGAIN_AFTER_MS) {
    await sleep(client.clock, delayMs, signal);
    await once();
  }
}

/** Waits for a clean-up, but not longer than its limit, and whatever comes of it. */
export async function withinLimit(client: Client, cleanUp: Promise<unknown>): Promise<void> {
  const stop = new AbortController();
  const limit = sleep(client.clock, CLEAN_UP_MS, stop.signal).catch(() => undefined);
  await Promise.race([cleanUp.catch(() => undefined), limit]);
  stop.abort();
}
