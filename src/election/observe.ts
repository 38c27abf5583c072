/** Following who leads: one queue per observer, fed by the line. */
import type { Client } from '../etcd/client.js';
import type { KeyValue } from '../etcd/kv/key-value.js';
import type { Line } from '../ticket/line.js';
import { firstOnly } from '../ticket/line-audience.js';
import { lineOf } from '../ticket/lines.js';
import { onAbort } from '../util/abort.js';
import { AsyncQueue } from '../util/async-queue.js';

/** Who leads: the leader's key. `string()` is the value it campaigned with or last proclaimed. */
export type LeaderInfo = KeyValue;

/** A slow reader is spared what is out of date: beyond this many changes only the latest is kept. */
const MOST_PENDING = 1000;

/** The first in line, as `firstOnly` has it. */
function leaderOf(line: Line): LeaderInfo | undefined {
  for (const kv of firstOnly(line.keys, line.beside)) return kv;
  return undefined;
}

/** Whether both are one leader with one value. Keys that one transaction wrote are of one revision. */
function isSame(one: LeaderInfo | undefined, other: LeaderInfo | undefined): boolean {
  return one?.modRevision === other?.modRevision && one?.key === other?.key;
}

/**
 * Yields who leads now, then every change of the leader or of its value; `undefined` is "no leader". Throws the signal's
 * reason, `CLOSED` when the client is closed, or what etcd answered when the name cannot be watched.
 */
export function observeLine(
  client: Client,
  name: string,
  signal: AbortSignal | undefined,
): AsyncIterableIterator<LeaderInfo | undefined, undefined> {
  signal?.throwIfAborted();
  const line = lineOf(client, name);
  let seen: LeaderInfo | 'nothing' | undefined = 'nothing';
  let stop = (): void => undefined;
  const queue = new AsyncQueue<LeaderInfo | undefined>(() => stop());
  const look = (): void => {
    if (line.error !== undefined) {
      stop();
      queue.fail(line.error);
      return;
    }
    if (!line.live) return;
    const leader = leaderOf(line);
    if (seen !== 'nothing' && isSame(leader, seen)) return;
    seen = leader;
    queue.pushOver(leader, MOST_PENDING);
  };
  const stopUsing = line.use();
  const stopWatching = line.onChange(look);
  const stopListening = onAbort(signal, (reason) => {
    stop();
    queue.fail(reason);
  });
  stop = () => {
    stopListening();
    stopWatching();
    stopUsing();
  };
  look();
  return queue;
}
