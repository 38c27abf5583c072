/**
 * etcd v2's keys on etcd v3, for code that was written for v2's KeysAPI.
 *
 * Keys: src/keys/layout.ts. Each node is one key; a directory's content is one range.
 *
 * Invariant: a node exists if its key and those of all directories above it do. So a directory that expires takes along
 * all that is in it, at once; its leftovers are removed by whoever next changes, lists or watches something there.
 *
 * Not guaranteed: that an expiry comes on the second (a lease lasts at least as long as the TTL, never shorter); that a
 * client of etcd's own v2 store sees any of it: the two are different stores.
 */
import type { InspectOptions } from 'node:util';

import { Client } from '../etcd/client.js';
import { op } from '../etcd/kv/op.js';
import { orAborted } from '../util/abort.js';
import { asText, INSPECT } from '../util/shown.js';
import { checkInstance, checkOptions } from '../util/validate.js';
import { type Change, makeChange, type Tree } from './change.js';
import { cleanPath, Layout } from './layout.js';
import { listNodes, rootNode, shownNode } from './node.js';
import {
  checkKeysOptions,
  checkValue,
  type KeysCallOptions,
  type KeysCreateOptions,
  type KeysDeleteOptions,
  type KeysGetOptions,
  type KeysResponse,
  type KeysSetOptions,
  type KeysUpdateOptions,
  type KeysWatcherOptions,
} from './options.js';
import { planDelete, planInOrder, planSet } from './plans.js';
import { look, purge } from './sight.js';
import { KeysWatcher } from './watcher.js';

/** Options of a KeysAPI. */
export interface KeysAPIOptions {
  /** Below which all its keys are; trees of different prefixes know nothing of each other. @default 'keys' */
  readonly prefix?: string | undefined;
}

/**
 * etcd v2's operations on a tree of files and directories, with v2's answers and errors (KeysError).
 *
 * Every change is one transaction that compares what it was decided on. When its answer is lost and what is stored does not
 * tell whether it was applied, it rejects with `UNKNOWN_OUTCOME`; it is never applied twice.
 *
 * @example
 * const keys = new KeysAPI(client, { prefix: 'app' });
 * await keys.set('/config/color', 'blue', { ttl: 60 });
 * const { node } = await keys.get('/config', { recursive: true });
 */
export class KeysAPI {
  readonly #tree: Tree;
  readonly #prefix: string;
  /** The last createInOrder of each directory: those of one process go one after another instead of against each other. */
  readonly #inOrder = new Map<string, Promise<unknown>>();

  constructor(client: Client, options: KeysAPIOptions = {}) {
    checkInstance(client, { Client }, 'client');
    checkOptions(options, ['prefix'], 'KeysAPI');
    this.#prefix = options.prefix ?? 'keys';
    this.#tree = { client, layout: new Layout(this.#prefix) };
  }

  /** Reads a file, or a directory with what is in it. Rejects with KeysError 100 or 104. */
  async get(key: string, options: KeysGetOptions = {}): Promise<KeysResponse> {
    checkKeysOptions(options, 'get');
    const { client, layout } = this.#tree;
    const path = cleanPath(key);
    const { quorum = true, recursive = false, signal, timeoutMs } = options;
    const serializable = !quorum;
    const also = op.get(recursive ? layout.descendants(path) : layout.children(path), { serializable });
    const sight = await look(this.#tree, path, { also, serializable, signal, timeoutMs });
    const wallMs = client.clock.wall();
    const list = (): ReturnType<typeof listNodes> =>
      listNodes(path, sight.also, { layout, recursive, wallMs });
    const answer = { action: 'get', index: sight.index, prevNode: undefined } as const;
    if (path === '/') return { ...answer, node: rootNode(list()) };
    if (sight.firstMissing !== undefined && sight.also.length > 0)
      await purge(this.#tree, sight.firstMissing, { signal, timeoutMs }).catch(() => undefined);
    const node = sight.existing();
    return { ...answer, node: shownNode(node, wallMs, node.record.dir === true ? list() : undefined) };
  }

  /**
   * Writes a file, or with `dir` makes a directory; the directories above are made as needed. Without `ttl` it stays for
   * ever, whatever it had before. `prevExist`, `prevValue` and `prevIndex` make it a create, an update or a compareAndSwap.
   * Rejects with KeysError 100, 101, 102, 104, 105 or 107.
   */
  async set(key: string, value?: string, options: KeysSetOptions = {}): Promise<KeysResponse> {
    checkKeysOptions(options, 'set');
    return await this.#set(key, value, options);
  }

  /** Writes what must not exist yet. Rejects with KeysError 104, 105 or 107. */
  async create(key: string, value?: string, options: KeysCreateOptions = {}): Promise<KeysResponse> {
    checkKeysOptions(options, 'create');
    return await this.#set(key, value, { ...options, prevExist: false });
  }

  /** Writes what must exist: a file's value, or a directory's TTL. Rejects with KeysError 100, 101, 102, 104 or 107. */
  async update(key: string, value?: string, options: KeysUpdateOptions = {}): Promise<KeysResponse> {
    checkKeysOptions(options, 'update');
    return await this.#set(key, value, { ...options, prevExist: true });
  }

  /**
   * Writes a new file into a directory, under a name that is greater than those of all that were made so before in it: 20
   * digits. Rejects with KeysError 104.
   */
  async createInOrder(
    dir: string,
    value = '',
    options: Omit<KeysCreateOptions, 'dir'> = {},
  ): Promise<KeysResponse> {
    checkKeysOptions(options, 'createInOrder');
    const path = cleanPath(dir, 'dir');
    cleanPath(`${path}/0`, 'what is made in dir');
    const also = op.get(this.#tree.layout.lastInOrder(path));
    const plan = planInOrder(this.#tree, checkValue(value, {}));
    return await this.#afterOthers(path, { also, path, plan, ttl: options.ttl }, options);
  }

  /**
   * Deletes a file; with `dir` an empty directory; with `recursive` a directory and all in it. `prevValue` and `prevIndex`
   * make it a compareAndDelete. Rejects with KeysError 100, 101, 102, 104, 107 or 108.
   */
  async delete(key: string, options: KeysDeleteOptions = {}): Promise<KeysResponse> {
    checkKeysOptions(options, 'delete');
    const path = cleanPath(key);
    const also = op.get(this.#tree.layout.children(path), { keysOnly: true, limit: 1 });
    return await makeChange(this.#tree, { also, path, plan: planDelete(this.#tree, options) }, options);
  }

  /** Follows a key; it begins at once, not with the first `next()`. Close it, or leave its loop, when done. */
  watcher(key: string, options: KeysWatcherOptions = {}): KeysWatcher {
    return new KeysWatcher(this.#tree, key, options);
  }

  /** Its prefix. */
  toJSON(): Record<string, unknown> {
    return { prefix: this.#prefix };
  }

  /** @internal */
  [INSPECT](_depth: number, options: InspectOptions): string {
    return asText('KeysAPI', this.toJSON(), options);
  }

  #set(key: string, value: string | undefined, options: KeysSetOptions): Promise<KeysResponse> {
    const path = cleanPath(key);
    const plan = planSet(this.#tree, { options, value: checkValue(value, options) });
    return makeChange(this.#tree, { path, plan, ttl: options.ttl }, options);
  }

  async #afterOthers(path: string, change: Change, options: KeysCallOptions): Promise<KeysResponse> {
    const before = this.#inOrder.get(path) ?? Promise.resolve();
    const mine = before.catch(() => undefined).then(() => makeChange(this.#tree, change, options));
    this.#inOrder.set(path, mine);
    try {
      return await orAborted(mine, options.signal);
    } finally {
      if (this.#inOrder.get(path) === mine) this.#inOrder.delete(path);
    }
  }
}
