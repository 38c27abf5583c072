import type { Client } from '../etcd/client.js';
import { op } from '../etcd/op.js';
import { untilAnswered } from '../etcd/until-answered.js';
import { limitWait, orAborted, type WaitOptions } from '../util/abort.js';
import type { Layout } from './layout.js';

/**
 * Resolves once a read has shown that no job waits, is delayed or active. Between reads it waits for as many removals of
 * entries as there must be before that can be so: it neither polls nor follows what it need not.
 */
export async function untilIdle(
  client: Client,
  layout: Layout,
  options: WaitOptions,
  ended: AbortSignal,
): Promise<void> {
  using limit = limitWait(client.clock, options, `wait until ${layout.root} is idle`, [ended]);
  const { signal } = limit;
  signal.throwIfAborted();
  const range = { prefix: layout.todo };
  const watcher = client.watch(range, { filter: 'noput', onCompacted: 'relist', signal });
  try {
    await orAborted(watcher.created, signal);
    let seen = 0n;
    let left = 0n;
    const look = async (): Promise<boolean> => {
      const counted = { then: [op.get(range, { countOnly: true })] };
      const { responses, revision } = await untilAnswered(client.clock, signal, () =>
        client.kv.txn(counted, { signal }),
      );
      const [response] = responses;
      left = response?.type === 'get' ? response.count : 0n;
      seen = revision;
      return left === 0n;
    };
    if (await look()) return;
    for await (const { events, snapshot } of watcher) {
      for (const { kv } of events) if (kv.modRevision > seen) left -= 1n;
      if ((left <= 0n || snapshot !== undefined) && (await look())) return;
    }
  } finally {
    watcher.close();
  }
}
