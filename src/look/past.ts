/**
 * The past of a line, from etcd's history: what its tickets were when history begins, and every change since.
 *
 * That nothing is missing is proven by what etcd answers: a message of a watch that catches up brings the changes of 1000
 * revisions, or all there are up to the revision in its header.
 */
import { hasCode } from '../errors/conclave-error.js';
import type { Client } from '../etcd/client.js';
import type { KeyValue } from '../etcd/kv/key-value.js';
import type { WatchEvent } from '../etcd/watch/watch-event.js';
import { systemClock } from '../util/clock.js';

/** As many revisions as etcd puts into a message of a watch that catches up, and, in the embedded server, as many bytes. */
const MESSAGE = { bytes: 1024 * 1024, revisions: 1000 } as const;
/** So long it is waited for the past of a name that has none now: nothing tells that nothing will come. */
const SILENCE_MS = 1500;
const TRIES = 5;

/** What was there at the beginning, and what happened since. */
export interface Past {
  /** The revision at which `first` was so: history before it is compacted; 0n: there is all of it. */
  readonly since: bigint;
  readonly first: readonly KeyValue[];
  /** In order; none of them later than `until`. */
  readonly events: readonly WatchEvent[];
  readonly until: bigint;
  /** Whether it is proven that nothing is missing. */
  readonly complete: boolean;
}

/** The keys directly below a name that begin with a lease in hex: nothing that primitives keep in segments of their own. */
function rangeOf(name: string): { readonly start: string; readonly end: string } {
  return { end: `${name}/g`, start: `${name}/0` };
}

/** Reads the past of the line of `name`. */
export async function readPast(client: Client, name: string, signal: AbortSignal): Promise<Past> {
  const range = rangeOf(name);
  let since = 0n;
  for (let tries = 1; ; tries++) {
    try {
      // Also says whether the name may be read, and that its keys are there.
      const now = await client.kv.range(range, { keysOnly: true, signal });
      const first = since === 0n ? [] : (await client.kv.range(range, { revision: since, signal })).kvs;
      const expected = now.kvs.some((kv) => kv.modRevision > since);
      const { complete, events } = await eventsUntil(client, range, {
        expected,
        signal,
        since,
        until: now.revision,
      });
      return { complete, events, first, since, until: now.revision };
    } catch (error) {
      const isCompacted = hasCode(error, 'COMPACTED');
      if (!isCompacted || error.compactRevision === undefined || tries === TRIES) throw error;
      since = error.compactRevision;
    }
  }
}

/** What is read of a watch. */
interface Span {
  readonly since: bigint;
  readonly until: bigint;
  /** Whether something must come: a key is there that was written since. */
  readonly expected: boolean;
  readonly signal: AbortSignal;
}

async function eventsUntil(
  client: Client,
  range: { readonly start: string; readonly end: string },
  { expected, signal, since, until }: Span,
): Promise<Pick<Past, 'complete' | 'events'>> {
  if (since === until) return { complete: true, events: [] };
  const events: WatchEvent[] = [];
  const silent = new AbortController();
  const timer = expected ? undefined : systemClock.setTimer(SILENCE_MS, () => silent.abort());
  const watcher = client.watch(range, {
    signal: AbortSignal.any([signal, silent.signal]),
    startRevision: since + 1n,
  });
  try {
    for await (const batch of watcher) {
      timer?.cancel();
      events.push(...batch.events.filter(({ kv }) => kv.modRevision <= until));
      const isLast = batch.revision >= until && !isFull(batch.events);
      if (isLast || batch.nextRevision > until) return { complete: true, events };
    }
  } catch (error) {
    if (!silent.signal.aborted || signal.aborted) throw error;
  } finally {
    timer?.cancel();
    watcher.close();
  }
  return { complete: false, events };
}

/** Whether there may be more where these come from. */
function isFull(events: readonly WatchEvent[]): boolean {
  const bytes = events.reduce((sum, { kv }) => sum + kv.keyBytes.length + kv.value.length + 100, 0);
  return new Set(events.map(({ kv }) => kv.modRevision)).size >= MESSAGE.revisions || bytes >= MESSAGE.bytes;
}
