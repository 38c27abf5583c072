/** The lines of a client, by name. A line that fails is dropped, and another of the same name takes its place. */
import type { Client } from '../etcd/client.js';
import { orAborted, OVER, sleep } from '../util/abort.js';
import { backoffMs } from '../util/backoff.js';
import { Deferred } from '../util/deferred.js';
import { Line } from './line.js';
import type { Follower } from './line-audience.js';
import type { LineName } from './line-keys.js';

const lines = new WeakMap<Client, Map<string, Line>>();

/**
 * The line of `name`, shared by all who use it through this client. One with a key beside it is a line of its own. To be
 * used at once: it is forgotten when its last use ends, and else never.
 */
export function lineOf(client: Client, line: string | LineName): Line {
  const id: LineName = typeof line === 'string' ? { name: line } : line;
  const mapKey = mapKeyOf(id);
  const named = lines.get(client) ?? new Map<string, Line>();
  lines.set(client, named);
  let found = named.get(mapKey);
  if (found === undefined) {
    found = new Line(client, id, () => {
      if (named.get(mapKey) === found) named.delete(mapKey);
    });
    named.set(mapKey, found);
  }
  return found;
}

/** The line of `name` if somebody uses it, or has just used it: for who only wants to know what it tells anyway. */
export function lineIfUsed(client: Client, line: LineName): Line | undefined {
  return lines.get(client)?.get(mapKeyOf(line));
}

function mapKeyOf({ besideKey, name }: LineName): string {
  return besideKey ?? `${name}/`;
}

/** How long to wait before a line that failed is opened anew for those who follow a key of it. */
const REOPEN = { baseMs: 200, maxMs: 10_000 } as const;

/**
 * Tells a follower what becomes of its key for as long as it is wanted, whichever line the name has meanwhile: one that
 * failed (its watch was refused) is opened anew, over and over. Returns how to stop.
 */
export function followKey(client: Client, name: LineName, follower: Follower): () => void {
  const stop = new AbortController();
  const follow = async (): Promise<never> => {
    for (let failures = 0; ; failures++) {
      const failed = new Deferred<void>();
      const stopFollowing = lineOf(client, name).follow({
        ...follower,
        changed: () => {
          failures = -1; // It has been live.
          follower.changed?.();
        },
        failed: () => failed.resolve(),
      });
      await orAborted(failed.promise, stop.signal).finally(stopFollowing);
      await sleep(client.clock, backoffMs(Math.max(0, failures), REOPEN), stop.signal);
    }
  };
  void follow().catch(() => undefined); // Nobody wants to know any more.
  return () => stop.abort(OVER);
}
