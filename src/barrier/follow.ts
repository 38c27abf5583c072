/**
 * A range of keys, followed so that every state it goes through can be judged. What barriers and latches wait with: a
 * wait ends on a state that was read or that an ordered watch brought, and never because a watch ended.
 */
import { ConclaveError, hasCode } from '../errors/conclave-error.js';
import { isHistoryGone } from '../errors/transient.js';
import type { Client } from '../etcd/client.js';
import type { KeyValue } from '../etcd/kv/key-value.js';
import { untilAnswered } from '../etcd/transport/until-answered.js';
import type { WatchEvent } from '../etcd/watch/watch-event.js';
import { orAborted, type WaitOptions } from '../util/abort.js';

/** The keys below a prefix, all of them, as they were at `revision`. It changes when the next state is asked for. */
export interface View {
  readonly revision: bigint;
  readonly keys: ReadonlyMap<string, KeyValue>;
  /** What led here from the state before; undefined when the state was read anew. */
  readonly changes: readonly WatchEvent[] | undefined;
}

/** How keys are followed. */
export interface FollowOptions {
  readonly signal: AbortSignal;
  /** Whether the first read is tried again until it is answered; else it has the client's own time limit. */
  readonly patient: boolean;
  /** What a wait whose time is up says of the last state that it saw. */
  readonly timeUp?: (view: View) => string | undefined;
}

/** Whether a wait has a limit of its own: then it goes on while no member answers, also at first. */
export function isLimited({ signal, timeoutMs }: WaitOptions): boolean {
  return signal !== undefined || timeoutMs !== undefined;
}

/**
 * Yields the state of the keys below `prefix` as it is now, then after every revision that changes it, in order. Only
 * after a compaction that overtook a broken watch, or when history went back, are states left out; the next one is then read. It never ends by
 * itself: it throws the signal's reason, `CLOSED`, or what etcd answered.
 */
export async function* follow(
  client: Client,
  prefix: string,
  { patient, signal, timeUp }: FollowOptions,
): AsyncGenerator<View, never, undefined> {
  const all = states(client, prefix, patient, signal);
  let last: View | undefined;
  try {
    for (;;) yield (last = (await all.next()).value);
  } catch (error) {
    const more = last === undefined || !hasCode(error, 'TIMEOUT') ? undefined : timeUp?.(last);
    if (more === undefined) throw error;
    throw new ConclaveError('TIMEOUT', `${(error as Error).message}; ${more}`, { cause: error, key: prefix });
  } finally {
    await all.return(undefined as never);
  }
}

async function* states(
  client: Client,
  prefix: string,
  patient: boolean,
  signal: AbortSignal,
): AsyncGenerator<View, never, undefined> {
  const read = () => client.kv.range({ prefix }, { signal });
  const readPatiently = () => untilAnswered(client.clock, signal, read);
  // Many waits are over before they begin: these take one read and no watch.
  yield readView(await (patient ? readPatiently() : read()));
  for (;;) {
    // From now, then one read to catch up: a watch that starts in the past is served only every 100 ms.
    const watcher = client.watch({ prefix }, { signal });
    try {
      await orAborted(watcher.created, signal);
      // A wait that has begun does not end because no member answers for a while.
      let view = readView(await readPatiently());
      yield view;
      for await (const { events } of watcher) {
        for (const changes of byRevision(events, view.revision)) {
          view = applied(view, changes);
          yield view;
        }
      }
      throw new ConclaveError('CLOSED', `the watch of ${JSON.stringify(prefix)} was closed`, { key: prefix });
    } catch (error) {
      if (!isHistoryGone(error)) throw error;
    } finally {
      watcher.close();
    }
  }
}

/** A view whose map is ours: it goes on to the next state, so a state is judged before the next is asked for. */
interface OwnView extends View {
  readonly keys: Map<string, KeyValue>;
}

function readView(read: { readonly kvs: readonly KeyValue[]; readonly revision: bigint }): OwnView {
  return { changes: undefined, keys: new Map(read.kvs.map((kv) => [kv.key, kv])), revision: read.revision };
}

/** The events after `revision`, those of each revision together. */
function* byRevision(events: readonly WatchEvent[], revision: bigint): Generator<readonly WatchEvent[]> {
  let group: WatchEvent[] = [];
  for (const event of events) {
    const { modRevision } = event.kv;
    if (modRevision <= revision) continue;
    if (group[0] !== undefined && group[0].kv.modRevision !== modRevision) {
      yield group;
      group = [];
    }
    group.push(event);
  }
  if (group.length > 0) yield group;
}

function applied({ keys, revision }: OwnView, changes: readonly WatchEvent[]): OwnView {
  for (const { type, kv } of changes) {
    if (type === 'put') keys.set(kv.key, kv);
    else keys.delete(kv.key);
  }
  return { changes, keys, revision: changes[0]?.kv.modRevision ?? revision };
}
