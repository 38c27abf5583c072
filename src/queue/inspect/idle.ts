/** Waiting until a queue has nothing to do any more. */
import { isHistoryGone } from '../../errors/transient.js';
import type { Client } from '../../etcd/client.js';
import { op } from '../../etcd/kv/op.js';
import { untilAnswered } from '../../etcd/transport/until-answered.js';
import { limitWait, orAborted, type WaitOptions } from '../../util/abort.js';
import type { QueueKeys } from '../store/keys.js';

/**
 * Resolves once a read has shown that no job waits, is delayed or active. Between reads it waits for as many removals of
 * entries as there must be before that can be so: it neither polls nor follows what it need not. When the history that it
 * follows is gone, it counts anew, and reads no entry for that.
 */
export async function untilIdle(
  client: Client,
  layout: QueueKeys,
  options: WaitOptions,
  ended: AbortSignal,
): Promise<void> {
  using limit = limitWait(client.clock, options, `wait until ${layout.root} is idle`, [ended]);
  const { signal } = limit;
  for (;;) {
    signal.throwIfAborted();
    try {
      if (await followUntilIdle(client, layout, signal)) return;
    } catch (error) {
      if (!isHistoryGone(error)) throw error;
    }
  }
}

/** Resolves with true once the queue is idle; with false when it cannot be followed any more. */
async function followUntilIdle(client: Client, layout: QueueKeys, signal: AbortSignal): Promise<boolean> {
  const range = { prefix: layout.todo };
  const count = async (): Promise<{ readonly left: bigint; readonly seen: bigint }> => {
    const counted = { then: [op.get(range, { countOnly: true })] };
    const { responses, revision } = await untilAnswered(client.clock, signal, () =>
      client.kv.txn(counted, { signal }),
    );
    const [response] = responses;
    return { left: response?.type === 'get' ? response.count : 0n, seen: revision };
  };
  const watcher = client.watch(range, { filter: 'noput', signal });
  try {
    await orAborted(watcher.created, signal);
    let { left, seen } = await count();
    if (left === 0n) return true;
    for await (const { events } of watcher) {
      for (const { kv } of events) if (kv.modRevision > seen) left -= 1n;
      if (left > 0n) continue;
      ({ left, seen } = await count());
      if (left === 0n) return true;
    }
    return false;
  } finally {
    watcher.close();
  }
}
