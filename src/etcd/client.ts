import type { InspectOptions } from 'node:util';

import type { Bytes } from '../util/bytes.js';
import type { Clock } from '../util/clock.js';
import { asText, INSPECT } from '../util/shown.js';
import type { Auth } from './admin/auth.js';
import type { Cluster } from './admin/cluster.js';
import type { Maintenance } from './admin/maintenance.js';
import { Cache } from './cache/cache.js';
import type { CacheOptions } from './cache/cache-options.js';
import { type ClientBase, ClusterBase, urlsOf } from './client-base.js';
import type { ClientOptions } from './client-options.js';
import type { Farewell } from './farewells.js';
import type { KeyRange } from './kv/key-range.js';
import { Kv } from './kv/kv.js';
import { Lease } from './lease/lease.js';
import { Mirror } from './mirror/mirror.js';
import { checkApart, type MirrorOptions, mirrorTerms } from './mirror/mirror-options.js';
import { NamespaceBase } from './namespace-base.js';
import { OrderedReads } from './ordering/ordered-reads.js';
import type { CallOptions } from './transport/call.js';
import type { Connection } from './transport/connection.js';
import { Watcher, type WatchOptions } from './watch/watch.js';
import type { Watches } from './watch/watch-stream.js';

/**
 * A client of one etcd cluster. It connects when first used. All its watches share one stream, all its leases another.
 *
 * @example
 * await using client = new Client({ endpoints: ['http://127.0.0.1:2379'] });
 * await client.kv.put('cfg/a', 'x');
 */
export class Client {
  readonly kv: Kv;
  readonly lease: Lease;
  readonly cluster: Cluster;
  readonly auth: Auth;
  readonly maintenance: Maintenance;
  readonly clock: Clock;
  /** @internal For the rooms built on the client: where its watches begin. */
  readonly watches: Watches;
  readonly #base: ClientBase;
  #closing: Promise<void> | undefined;

  constructor(options?: ClientOptions);
  /** @internal `namespace` is the way to one. */
  constructor(namespace: NamespaceBase);
  constructor(given: ClientOptions | NamespaceBase = {}) {
    const base = given instanceof NamespaceBase ? given : new ClusterBase(given);
    const { link, watches, whole } = base;
    this.#base = base;
    this.clock = whole.connection.clock;
    this.watches = watches;
    this.kv = new Kv(link, whole.gate, whole.batch);
    this.lease = new Lease(link, whole.gate, whole.leases);
    this.cluster = whole.cluster;
    this.auth = whole.auth;
    this.maintenance = whole.maintenance;
  }

  get #connection(): Connection {
    return this.#base.whole.connection;
  }

  /** The endpoints, as they were given last. */
  get endpoints(): readonly string[] {
    return this.#connection.endpoints.map((endpoint) => endpoint.url);
  }

  /** The endpoint that calls go to at this moment; they go elsewhere when it does not answer. */
  get endpoint(): string {
    return this.#connection.preferred?.url ?? '';
  }

  /**
   * Replaces the endpoints. Those that stay keep their connections; watches and keepalives on one that goes move to another;
   * calls that it was asked are answered yet. Throws TypeError when one is none, and `CLOSED`.
   */
  setEndpoints(endpoints: readonly string[] | string): void {
    this.#connection.replace(this.#connection.named(urlsOf(endpoints)));
  }

  /**
   * Replaces the endpoints by the client URLs that the members advertise, learners excepted, if one of them can be
   * connected to; else, and when nobody answers, it rejects with `UNAVAILABLE`, and they stay. Returns them.
   */
  syncEndpoints(options: CallOptions = {}): Promise<readonly string[]> {
    return this.#base.whole.sync.sync(options);
  }

  /** Aborts, with an error of code `CLOSED`, when the client is closed. */
  get closed(): AbortSignal {
    return this.#base.link.closed;
  }

  /** Its endpoints, and whether it is closed. */
  toJSON(): Record<string, unknown> {
    return { closed: this.closed.aborted, endpoints: this.endpoints };
  }

  /** @internal */
  [INSPECT](_depth: number, options: InspectOptions): string {
    return asText('Client', this.toJSON(), options);
  }

  /**
   * Watches a key or range from now on, or from `startRevision`. The watch begins at once, not when it is first read:
   * what this client writes afterwards is seen.
   */
  watch(range: KeyRange, options: WatchOptions = {}): Watcher {
    return new Watcher({ connection: this.#base.link, kv: this.kv, stream: this.watches }, range, options);
  }

  /**
   * Keeps a range in memory, by one watch, so that it can be read without asking etcd, or as new as etcd has it at the cost
   * of one small question that all who read at the same time share. Begins at once, and ends with `close()` or the client.
   *
   * @example
   * await using cache = client.cache({ prefix: 'cfg/' });
   * const port = await cache.get('cfg/port'); // as new as kv.get
   * for await (const { events } of cache.changes()) console.log(events);
   */
  cache(range: KeyRange, options: CacheOptions = {}): Cache {
    const { link, watches, whole } = this.#base;
    return new Cache({ history: whole.connection.history, kv: this.kv, link, watches }, range, options);
  }

  /**
   * Reads that never show older state than this client has seen, even if they are `serializable`: answered by one member
   * alone, without a quorum.
   *
   * @example
   * const kv = await client.orderedReads().get('cfg/a', { serializable: true });
   */
  orderedReads(): OrderedReads {
    const { link, whole } = this.#base;
    return new OrderedReads({ history: whole.connection.history, kv: this.kv, link });
  }

  /**
   * Keeps a copy of all keys with a prefix up to date in another cluster, namespace or prefix. It does nothing until it is
   * `run`. Throws RangeError if it would copy what it has copied: to this client, with prefixes of which one has the other.
   *
   * @example
   * const mirror = client.mirror({ prefix: 'app/' }, { to: standby });
   * const running = mirror.run({ signal }); // goes on where it, or another process, had stopped
   * const { isSame } = await mirror.verify();
   */
  mirror(range: { readonly prefix: Bytes }, options: MirrorOptions): Mirror {
    const { link, watches, whole } = this.#base;
    const terms = mirrorTerms(range, options);
    if (terms.to.kv === this.kv) checkApart(terms);
    return new Mirror({ history: whole.connection.history, kv: this.kv, link, watches }, terms);
  }

  /**
   * A client whose keys all begin with `prefix` in etcd, which nobody who uses it sees: keys, ranges, transactions, watches,
   * the keys of leases, errors, and whatever is built on a client. Its ranges end where the namespace ends, and a namespace
   * of it is one within it. It shares this client's connection and streams. Leases, revisions, `compact`, `cluster`, `auth`
   * and `maintenance` are the whole cluster's. Throws TypeError for a prefix that is neither text nor bytes, and `CLOSED`.
   *
   * Closing it ends its watches and keepalives, and refuses new calls; calls that are under way are answered yet, and this
   * client goes on. Closing this client closes it too.
   *
   * @example
   * const app = client.namespace('app/');
   * await app.kv.put('a', 'x'); // 'app/a' in etcd
   */
  namespace(prefix: Bytes): Client {
    this.closed.throwIfAborted();
    return new Client(new NamespaceBase(this.#base, prefix));
  }

  /** @internal For the rooms built on the client: `farewell` may make last calls when it is closed, but not for long. */
  beforeClose(farewell: Farewell): void {
    this.#base.beforeClose(farewell);
  }

  /**
   * Ends every call, watch and keepalive with code `CLOSED`, and every connection, so that the process can exit. Leases
   * are left to run out: close sessions first. Only what `stm` has left is removed before, within half a second. Closing
   * twice does nothing. What closing a namespace's client ends: see `namespace`.
   */
  close(): Promise<void> {
    this.#closing ??= this.#base.close();
    return this.#closing;
  }

  /** As `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
