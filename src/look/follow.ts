/** Looking again whenever something may have changed. */
import type { Client } from '../etcd/client.js';
import type { KeyRange } from '../etcd/kv/key-range.js';
import { sleep } from '../util/abort.js';

/** How often it is looked at least: at what is counted and not watched, such as jobs, and at leases. */
const TICK_MS = 1000;

/** Calls `look` now, after each change in `ranges`, and each second; never twice at once. Ends with the error that one of them throws, or the signal's reason. */
export async function follow(
  client: Client,
  ranges: readonly KeyRange[],
  look: () => Promise<void>,
  signal: AbortSignal,
): Promise<never> {
  const over = new AbortController();
  const either = AbortSignal.any([signal, over.signal]);
  let changed = new AbortController();
  const watching = ranges.map(async (range) => {
    // History that is lost changes nothing: all is read anew each time.
    for await (const _ of client.watch(range, { onCompacted: 'relist', signal: either })) changed.abort();
    throw new Error('a watch has ended');
  });
  const looking = async (): Promise<never> => {
    for (;;) {
      changed = new AbortController();
      await look();

      await sleep(client.clock, TICK_MS, AbortSignal.any([either, changed.signal])).catch(() => undefined);
      either.throwIfAborted();
    }
  };
  try {
    return await Promise.race([...watching, looking()]);
  } finally {
    over.abort();
    await Promise.allSettled(watching);
  }
}
