/**
 * Whether the workers of a queue may claim jobs: one key, which is written and not deleted while the queue is used.
 * Each change compares the revision of what it changes, so a copy of it that arrives late, when somebody has changed it
 * since, does nothing. The value `running` is no pause; everything else is, and says who made it.
 *
 * (The layout before this one had the key only during a pause, with the same values: it is read rightly.)
 */
import { compare } from '../../etcd/kv/compare.js';
import type { KeyValue } from '../../etcd/kv/key-value.js';
import { op } from '../../etcd/kv/op.js';
import type { Session } from '../../session/session.js';
import type { QueueKeys } from './keys.js';

export const RUNNING = 'running';

/** Whether nobody may claim, by the pause's key. */
export function isPaused(kv: KeyValue | undefined): boolean {
  return kv !== undefined && kv.string() !== RUNNING;
}

/**
 * Pauses the queue, with `value` to say who does, or lets it run with `RUNNING`. Resolves when it is so, or was for a
 * moment since the call: nobody who changed it meanwhile can have done so but by making it so first. `tidy` removes what a
 * queue that is over has left; it is run if a copy of the request that made the key has come late.
 */
export async function setPause(
  session: Session,
  { paused }: QueueKeys,
  value: string,
  tidy: () => Promise<void>,
): Promise<void> {
  const { kv } = session.client;
  const is = (found: KeyValue | undefined): boolean => isPaused(found) === (value !== RUNNING);
  for (;;) {
    const found = await kv.get(paused);
    if (is(found)) return;
    if (found === undefined) {
      // A copy of this that comes before the floor has risen makes a key that says what its absence says.
      const { guards, isIntact, number, settled } = session.floor.next();
      const first = { if: [compare.missing(paused), ...guards], then: [op.put(paused, RUNNING)] };
      const { succeeded } = await kv.txn(first, { idempotent: true }).finally(() => {
        settled();
        const isRunning = { if: [compare.value(paused, '=', RUNNING)], then: [] };
        session.floor.end(number, () => ({ removals: [isRunning], tidy }));
      });
      if (!succeeded) await isIntact(session.signal);
      continue;
    }
    const { responses, succeeded } = await kv.txn(
      {
        if: [compare.modRevision(paused, '=', found.modRevision)],
        then: [op.put(paused, value)],
        else: [op.get(paused, { keysOnly: true })],
      },
      { idempotent: true },
    );
    // Only a key that is gone leaves it open whether it was so: the last to leave an empty queue removes it.
    if (succeeded || responses[0].kvs.length > 0) return;
  }
}
