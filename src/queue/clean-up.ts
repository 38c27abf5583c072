import type { Client } from '../etcd/client.js';
import { compare } from '../etcd/compare.js';
import { op } from '../etcd/op.js';
import type { Layout } from './layout.js';

/**
 * Removes what a queue keeps between jobs (its counters), if it holds no job and nobody uses it. Whoever pushes or works
 * has a lane, so nobody's knowledge of the counters can outlive them.
 */
export async function cleanUp(client: Client, layout: Layout): Promise<void> {
  const { kv } = client;
  const counting = await kv.txn({
    then: [layout.bodies, layout.lanes].map((prefix) => op.get({ prefix }, { countOnly: true })),
  });
  // Comparing a range makes etcd read all of it, so look before.
  if (counting.responses.some((response) => response.type === 'get' && response.count > 0n)) return;
  const nobody = [layout.bodies, layout.lanes].map((prefix) => compare.createRevision({ prefix }, '=', 0n));
  const gone = [op.delete({ prefix: layout.tails }), op.delete(layout.back), op.delete(layout.due)];
  await kv.txn({ if: nobody, then: gone }, { idempotent: true });
}
