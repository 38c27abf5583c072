/**
 * A range of etcd kept in memory by one watch: read at one revision, then followed.
 *
 * Invariant: what it holds is the range as it was at `revision`, whole revisions at a time. When history was compacted or
 * went back before all of it had come, the range is read anew, and what it held before is served to `local` readers alone.
 *
 * A linearizable read asks etcd, together with all who ask at the same time, for the store's revision, the number of keys
 * and the newest of them. If the cache is at that revision, it holds what was there then; so it does if it has the newest
 * key and as many keys, since none that is there is unknown to it, and none is missing.
 *
 * Not guaranteed: that local reads are up to date, by any measure. That two caches are at the same revision.
 */
import { ConclaveError, hasCode, madeHere } from '../../errors/conclave-error.js';
import { services } from '../../proto/services.js';
import { limitWait, orAborted } from '../../util/abort.js';
import { inJson } from '../../util/shown.js';
import { checkCount, checkFunction, checkOptions } from '../../util/validate.js';
import type { Bytes } from '../../util/bytes.js';
import { encodeKey, encodeRange, type KeyRange, named } from '../kv/key-range.js';
import type { KeyValue } from '../kv/key-value.js';
import type { CallOptions } from '../transport/call.js';
import { watchRequest } from '../watch/watch.js';
import type { CacheChange, ChangesOptions } from './cache-changes.js';
import { type CacheBase, CacheFeed, type Kept } from './cache-feed.js';
import {
  type CacheList,
  type CacheListOptions,
  type CacheOptions,
  type CacheReadOptions,
  checkConsistency,
  LIST_OPTIONS,
  READ_OPTIONS,
} from './cache-options.js';
import { isWithin } from './cached-keys.js';
import { SharedProbe } from './shared-probe.js';
import { sorted } from './sorted.js';

/** What was in etcd at one moment after a probe was sent. */
interface Probed {
  readonly revision: bigint;
  readonly keys: number;
  /** The greatest revision at which one of the keys was written; 0n if there is none. */
  readonly newest: bigint;
  /** Another cluster has answered. */
  readonly isOther: boolean;
}

const MAX_BYTES = 64 * 1024 * 1024;

/** A range kept in memory. Made by `client.cache(range)`. */
export class Cache implements AsyncDisposable {
  readonly #base: CacheBase;
  readonly #kept: Kept;
  readonly #feed: CacheFeed;
  readonly #probe = new SharedProbe(() => this.#ask());

  /** @internal `client.cache` is the way to one. */
  constructor(base: CacheBase, range: KeyRange, options: CacheOptions = {}) {
    checkOptions(options, ['maxBytes'], 'cache');
    const maxBytes = checkCount(options.maxBytes ?? MAX_BYTES, 'maxBytes', 1);
    const request = watchRequest(range, { progressNotify: true });
    const { key, rangeEnd } = request.create;
    this.#base = base;
    this.#kept = {
      maxBytes,
      range: rangeEnd == null ? { key } : { key, rangeEnd },
      request,
      what: `the cache of ${named(range)}`,
    };
    this.#feed = new CacheFeed(base, this.#kept);
  }

  /** The revision up to which it has everything; 0n until it was read for the first time. */
  get revision(): bigint {
    return this.#feed.revision;
  }

  /** How many keys it holds. */
  get size(): number {
    return this.#feed.keys.size;
  }

  /** How much it holds, as `maxBytes` counts it. */
  get bytes(): number {
    return this.#feed.keys.memory;
  }

  /**
   * A key of the range, or undefined if it does not exist. Waits until the cache is as new as `consistency` says; rejects
   * with `TIMEOUT` when that takes longer than `timeoutMs` (by default the client's), with the signal's reason, with
   * `FUTURE_REVISION` if the store has not got to `atLeast`, with what keeps etcd from answering, and with what the cache
   * ended with: `CLOSED`, `OVER_LIMIT`, or etcd's refusal, such as `PERMISSION_DENIED`. Throws RangeError for a key that
   * is not in the range.
   */
  async get(key: Bytes, options: CacheReadOptions = {}): Promise<KeyValue | undefined> {
    checkOptions(options, READ_OPTIONS, 'get');
    const bytes = encodeKey(key);
    this.#checkWithin(key);
    await this.#settle(options);
    return this.#feed.keys.get(bytes);
  }

  /** The keys of the range, or of a part of it. Waits and rejects as `get` does. */
  async list(options: CacheListOptions = {}): Promise<CacheList> {
    checkOptions(options, LIST_OPTIONS, 'list');
    const { filter, limit, range, sort } = options;
    if (limit !== undefined) checkCount(limit, 'limit', 0);
    if (filter !== undefined) checkFunction(filter, 'filter');
    const order = sorted(sort);
    const within = range === undefined ? this.#kept.range : encodeRange(range);
    if (range !== undefined) this.#checkWithin(range);
    await this.#settle(options);
    const found: KeyValue[] = [];
    for (const kv of this.#feed.keys.within(within)) if (filter?.(kv) ?? true) found.push(kv);
    const kvs = order(found);
    const isCut = limit !== undefined && limit > 0 && kvs.length > limit;
    return inJson({ kvs: isCut ? kvs.slice(0, limit) : kvs, more: isCut, revision: this.#feed.revision });
  }

  /**
   * What it holds at this very moment, in the order of the keys; nothing until it was read for the first time. Throws what
   * the cache ended with. What `changes()`, called in the same turn, brings is what follows.
   */
  entries(): IterableIterator<KeyValue> {
    this.#feed.checkOpen();
    return [...this.#feed.keys.within(this.#kept.range)].values();
  }

  /**
   * What changes from now on: whole revisions, in order, none of them twice. It begins at once, not when it is first read;
   * leaving the loop ends it. Of a cache that was not read yet, the first is all that was read. Throws what the cache ended
   * with, and `OVER_LIMIT` when it is read too slowly.
   */
  changes(options: ChangesOptions = {}): AsyncIterableIterator<CacheChange, undefined> {
    this.#feed.checkOpen();
    return this.#feed.changes.read(options);
  }

  /** Resolves once it was read for the first time. Rejects as `get` does. */
  async ready(options: CallOptions = {}): Promise<void> {
    checkOptions(options, ['timeoutMs', 'signal'], 'ready');
    await this.#settle({ ...options, consistency: 'local' });
  }

  /** Ends its watch, and gives up what it holds. Whoever reads or follows it is told `CLOSED`. Closing twice does nothing. */
  close(): void {
    this.#feed.end(new ConclaveError('CLOSED', `${this.#kept.what} is closed`));
  }

  /** As `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    this.close();
    return Promise.resolve();
  }

  #checkWithin(range: KeyRange): void {
    if (isWithin(encodeRange(range), this.#kept.range)) return;
    throw new RangeError(`${named(range)} is not within ${this.#kept.what}`);
  }

  /** Waits until what it holds is new enough. */
  async #settle(options: CacheReadOptions): Promise<void> {
    const { consistency = 'linearizable', signal, timeoutMs = this.#base.link.timeoutMs } = options;
    const atLeast = checkConsistency(consistency);
    signal?.throwIfAborted();
    using limit = limitWait(this.#base.link.clock, { signal, timeoutMs }, `read ${this.#kept.what}`);
    if (consistency === 'local') await this.#feed.until(() => this.#feed.readings > 0, limit.signal);
    else await this.#settleFresh(atLeast, limit.signal);
    this.#feed.checkOpen();
  }

  /** Each time that the range is read anew, what was asked before may be of a history that is no more. */
  async #settleFresh(atLeast: bigint | undefined, signal: AbortSignal): Promise<void> {
    for (;;) {
      await this.#feed.until(() => this.#feed.isFollowing, signal);
      if (atLeast !== undefined && this.#feed.revision >= atLeast) return;
      const readings = this.#feed.readings;
      const isAnother = (): boolean => !this.#feed.isFollowing || this.#feed.readings !== readings;
      const probed = await this.#probed(signal);
      if (isAnother()) continue;
      if (atLeast !== undefined && !probed.isOther && probed.revision < atLeast)
        throw this.#future(atLeast, probed);
      await this.#feed.until(() => isAnother() || this.#has(probed), signal);
      if (!isAnother()) return;
    }
  }

  /** Whether it holds what was there then, or later. */
  #has({ isOther, keys, newest, revision }: Probed): boolean {
    if (isOther) return false;
    return (
      this.#feed.revision >= revision || (this.#feed.revision >= newest && this.#feed.keys.size === keys)
    );
  }

  async #probed(signal: AbortSignal): Promise<Probed> {
    try {
      return await orAborted(this.#probe.ask(), signal);
    } catch (error) {
      throw hasCode(error) && error !== signal.reason ? madeHere(error) : error;
    }
  }

  async #ask(): Promise<Probed> {
    const { history, link } = this.#base;
    const { count, header, kvs } = await link.unary({
      key: this.#kept.request.key,
      kind: 'read',
      request: { ...this.#kept.range, keysOnly: true, limit: 1n, sortOrder: 'DESCEND', sortTarget: 'MOD' },
      rpc: services.KV.Range,
      what: `ask how new ${this.#kept.what} must be`,
    });
    const isOther = header === null || history.isOther(header);
    const newest = kvs[0]?.modRevision ?? 0n;
    return { isOther, keys: Number(count), newest, revision: header?.revision ?? 0n };
  }

  #future(atLeast: bigint, { revision }: Probed): ConclaveError {
    const text = `read ${this.#kept.what}: revision ${String(atLeast)} is yet to come; the store is at ${String(revision)}`;
    return new ConclaveError('FUTURE_REVISION', text, { key: this.#kept.request.key });
  }
}
