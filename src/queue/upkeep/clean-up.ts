/** What goes with the last one who leaves an empty queue. */
import type { Client } from '../../etcd/client.js';
import { compare } from '../../etcd/kv/compare.js';
import { op } from '../../etcd/kv/op.js';
import type { QueueKeys } from '../store/keys.js';
import { RUNNING } from '../store/pause.js';

/**
 * Removes what a queue keeps between jobs (its counters), if it holds no job and nobody works on it. Whoever pushes at that
 * moment compares the counters that he numbers his jobs by: he is refused once, and begins anew.
 */
export async function cleanUp(client: Client, layout: QueueKeys): Promise<void> {
  const { kv } = client;
  // A job whose data somebody removed is there as long as its entry is.
  const inUse = [layout.bodies, layout.todo, layout.workers];
  const counting = await kv.txn({
    then: inUse.map((prefix) => op.get({ prefix }, { countOnly: true })),
  });
  // Comparing a range makes etcd read all of it, so look before.
  if (counting.responses.some(({ count }) => count > 0n)) return;
  const nobody = inUse.map((prefix) => compare.createRevision({ prefix }, '=', 0n));
  const gone = [
    op.delete({ prefix: layout.sequences }),
    op.delete({ prefix: layout.tails }),
    op.delete(layout.back),
    op.delete(layout.due),
    op.txn({ if: [compare.value(layout.paused, '=', RUNNING)], then: [op.delete(layout.paused)] }),
  ];
  await kv.txn({ if: nobody, then: gone }, { idempotent: true });
}
