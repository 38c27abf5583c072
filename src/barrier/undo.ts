/** Undoing what may have been written by a call that was given up, or whose answer never came. */
import { hasCode } from '../errors/conclave-error.js';
import type { Client } from '../etcd/client.js';
import type { TxnSpec } from '../etcd/op.js';
import { untilAnswered } from '../etcd/until-answered.js';
import { LOOK_AGAIN_AFTER_MS } from '../ticket/sweeper.js';
import { sleep, waitAtMost } from '../util/abort.js';

/** How long a caller who gave up waits for the clean-up; it goes on after that. */
const CLEAN_UP_MS = 3000;

/**
 * Runs `undoing`, a guarded transaction, once `writing` is settled; when nobody knows what came of that, again later, in
 * the background. Resolves when the first undoing is confirmed, or after 3 s; it goes on until the client is closed.
 */
export async function undo(client: Client, writing: Promise<unknown>, undoing: TxnSpec): Promise<void> {
  const once = (): Promise<unknown> =>
    untilAnswered(client.clock, client.closed, () => client.kv.txn(undoing, { idempotent: true }));
  const work = async (): Promise<void> => {
    const unknown = await writing.then(
      () => false,
      (error: unknown) => hasCode(error, 'UNKNOWN_OUTCOME'),
    );
    await once();
    if (unknown) void lookAgain(client, once).catch(() => undefined);
  };
  await withinLimit(client, work());
}

async function lookAgain(client: Client, once: () => Promise<unknown>): Promise<void> {
  for (const delayMs of LOOK_AGAIN_AFTER_MS) {
    await sleep(client.clock, delayMs, client.closed);
    await once();
  }
}

/** Waits for a clean-up, but not longer than its limit, and whatever comes of it. */
export async function withinLimit(client: Client, cleanUp: Promise<unknown>): Promise<void> {
  await waitAtMost(client.clock, CLEAN_UP_MS, cleanUp);
}
