/** Undoing what may have been written by a call that was given up, or whose answer never came. */
import type { Client } from '../etcd/client.js';
import type { TxnSpec } from '../etcd/kv/op.js';
import { untilAnswered } from '../etcd/transport/until-answered.js';
import { waitAtMost } from '../util/abort.js';

/** How long a caller who gave up waits for the clean-up; it goes on after that. */
const CLEAN_UP_MS = 3000;

/**
 * Runs `undoing`, which also calls off what is still on its way, once `writing` is settled. Resolves when that is
 * confirmed, or after 3 s; it goes on until the client is closed.
 */
export async function undo(client: Client, writing: Promise<unknown>, undoing: TxnSpec): Promise<void> {
  const work = async (): Promise<void> => {
    await writing.catch(() => undefined);
    await untilAnswered(client.clock, client.closed, () => client.kv.txn(undoing, { idempotent: true }));
  };
  await withinLimit(client, work());
}

/** Waits for a clean-up, but not longer than its limit, and whatever comes of it. */
export async function withinLimit(client: Client, cleanUp: Promise<unknown>): Promise<void> {
  await waitAtMost(client.clock, CLEAN_UP_MS, cleanUp);
}
