/**
 * A watcher of v2: one change after another.
 *
 * It follows the whole tree's keys and tells what v2 would have told of them: a change is one revision. A deletion says in
 * `last-deleted` what it was; a key that goes without it has expired. A directory takes along what is below it, so
 * watchers below are told of the directory.
 */
import { hasCode } from '../errors/conclave-error.js';
import { op } from '../etcd/kv/op.js';
import type { WatchEvent } from '../etcd/watch/watch-event.js';
import type { WatchBatch, Watcher } from '../etcd/watch/watch.js';
import type { Tree } from './change.js';
import { asKeysError } from './keys-error.js';
import { cleanPath, isBelow, isHidden, pathsTo } from './layout.js';
import { decodeNode, shownNode, type StoredNode } from './node.js';
import { checkKeysOptions, type KeysResponse, type KeysWatcherOptions } from './options.js';
import { goneNode } from './plans.js';
import { purge } from './sight.js';

/** What `last-deleted` holds. */
interface JournalEntry {
  readonly action: 'delete' | 'compareAndDelete' | 'purge';
  readonly path: string;
}

/**
 * The changes of a key, and with `recursive` of all below it, in order and none left out. It begins when it is made. Made by
 * `keys.watcher`.
 *
 * `next()` rejects with KeysError 401 when the history after `afterIndex` has been compacted, `HISTORY_REVERTED` when
 * history went back, `CLOSED` when the client is closed, and with the signal's reason. A refresh is no change.
 */
export class KeysWatcher implements AsyncIterableIterator<KeysResponse, undefined> {
  readonly #tree: Tree;
  readonly #path: string;
  readonly #recursive: boolean;
  readonly #watch: Watcher;
  readonly #ready: KeysResponse[] = [];
  #afterIndex: bigint;
  /** The call of next() before. */
  #before: Promise<unknown> = Promise.resolve();

  constructor(tree: Tree, key: string, options: KeysWatcherOptions = {}) {
    checkKeysOptions(options, 'watcher');
    this.#tree = tree;
    this.#path = cleanPath(key);
    this.#recursive = options.recursive ?? false;
    this.#afterIndex = options.afterIndex ?? 0n;
    const startRevision = this.#afterIndex === 0n ? undefined : this.#afterIndex + 1n;
    this.#watch = tree.client.watch(tree.layout.all, { prevKv: true, signal: options.signal, startRevision });
  }

  /** Resolves once etcd has the watch, with the store's index then: what changes after it is delivered. */
  get created(): Promise<bigint> {
    return this.#watch.created;
  }

  /** The next change. Several calls at once get one change each, in the order of the calls. */
  next(): Promise<IteratorResult<KeysResponse, undefined>> {
    const mine = this.#before.then(() => this.#next());
    this.#before = mine.catch(() => undefined);
    return mine;
  }

  /** Ends the watcher, as leaving the loop does. */
  return(): Promise<IteratorResult<KeysResponse, undefined>> {
    this.close();
    return Promise.resolve({ done: true, value: undefined });
  }

  /** Itself: a watcher has one reader. */
  [Symbol.asyncIterator](): this {
    return this;
  }

  /** Ends it; `next()` then says that it is done. Closing twice does nothing. */
  close(): void {
    this.#watch.close();
  }

  /** As `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    this.close();
    return Promise.resolve();
  }

  async #next(): Promise<IteratorResult<KeysResponse, undefined>> {
    for (;;) {
      const value = this.#ready.shift();
      if (value !== undefined) return { done: false, value };
      const turn = await this.#turn();
      if (turn.done === true) return turn;
      for (const [index, events] of byRevision(turn.value)) {
        const change = await this.#changeOf(events, index);
        if (change !== undefined) this.#ready.push({ ...change, index: turn.value.revision });
        this.#afterIndex = index;
      }
    }
  }

  async #turn(): Promise<IteratorResult<WatchBatch, undefined>> {
    try {
      return await this.#watch.next();
    } catch (error) {
      throw asKeysError(error, this.#afterIndex + 1n);
    }
  }

  /** What one revision was, if it concerns this watcher. */
  async #changeOf(events: readonly WatchEvent[], index: bigint): Promise<KeysResponse | undefined> {
    const { layout } = this.#tree;
    const journal = events.find(({ kv, type }) => type === 'put' && kv.key === layout.lastDeleted);
    if (journal !== undefined) {
      const { action, path } = JSON.parse(journal.kv.string()) as JournalEntry;
      const gone = events.find(({ kv, type }) => type === 'delete' && kv.key === layout.node(path));
      return action === 'purge' || gone === undefined ? undefined : this.#gone(gone, { action, index });
    }
    for (const event of events) {
      const change = event.type === 'put' ? this.#put(event, index) : await this.#expired(event, index);
      if (change !== undefined) return change;
    }
    return undefined;
  }

  #put({ kv, prevKv }: WatchEvent, index: bigint): KeysResponse | undefined {
    const path = this.#tree.layout.path(kv.key);
    if (path === undefined || !this.#covers(path)) return undefined;
    const node = decodeNode(path, kv);
    const { action, refresh } = node.record;
    if (action === 'mkdir' || refresh === true) return undefined;
    const wall = this.#tree.client.clock.wall();
    const prevNode = prevKv === undefined ? undefined : shownNode(decodeNode(path, prevKv), wall);
    return { action, index, node: { ...shownNode(node, wall), modifiedIndex: index }, prevNode };
  }

  async #expired(event: WatchEvent, index: bigint): Promise<KeysResponse | undefined> {
    const change = this.#gone(event, { action: 'expire', index });
    if (change === undefined || !(await this.#wasThere(change.node.key, index))) return undefined;
    // Whoever comes next would do it else; what cannot be removed now is removed then.
    if (change.node.dir) await purge(this.#tree, change.node.key).catch(() => undefined);
    return change;
  }

  #gone(
    { kv, prevKv }: WatchEvent,
    { action, index }: { readonly action: 'delete' | 'compareAndDelete' | 'expire'; readonly index: bigint },
  ): KeysResponse | undefined {
    const path = this.#tree.layout.path(kv.key);
    if (path === undefined) return undefined;
    const before: StoredNode | undefined = prevKv === undefined ? undefined : decodeNode(path, prevKv);
    const takesAlong = before?.record.dir === true && isBelow(this.#path, path);
    if (!takesAlong && !this.#covers(path)) return undefined;
    const node = goneNode(before ?? decodeNode(path, kv), index);
    const wall = this.#tree.client.clock.wall();
    return { action, index, node, prevNode: before === undefined ? undefined : shownNode(before, wall) };
  }

  /** Whether all directories above were there when it went: below one that had expired, it was gone already. */
  async #wasThere(path: string, index: bigint): Promise<boolean> {
    const { client, layout } = this.#tree;
    const above = pathsTo(path).slice(0, -1);
    if (above.length === 0) return true;
    const reads = above.map((each) => op.get(layout.node(each), { keysOnly: true, revision: index }));
    try {
      const { responses } = await client.kv.txn({ then: reads });
      return responses.every(({ kvs }) => kvs.length > 0);
    } catch (error) {
      if (!hasCode(error, 'COMPACTED')) throw error;
      return true;
    }
  }

  #covers(path: string): boolean {
    if (path === this.#path) return true;
    return this.#recursive && isBelow(path, this.#path) && !isHidden(path, this.#path);
  }
}

/** The events of each revision together: a watch delivers all of one at once. */
function byRevision({ events }: WatchBatch): Map<bigint, WatchEvent[]> {
  const groups = new Map<bigint, WatchEvent[]>();
  for (const event of events) {
    const group = groups.get(event.kv.modRevision);
    if (group === undefined) groups.set(event.kv.modRevision, [event]);
    else group.push(event);
  }
  return groups;
}
