import type { InspectOptions } from 'node:util';

import { ConclaveError } from '../errors/conclave-error.js';
import { waitAtMost } from '../util/abort.js';
import { type Clock, systemClock } from '../util/clock.js';
import { checkChoice, checkMs, checkOptions } from '../util/validate.js';
import { Auth } from './admin/auth.js';
import { Cluster } from './admin/cluster.js';
import { EndpointSync } from './admin/endpoint-sync.js';
import type { CallOptions } from './transport/call.js';
import { Connection } from './transport/connection.js';
import type { KeyRange } from './kv/key-range.js';
import { type Batching, Kv } from './kv/kv.js';
import { WriteGate } from './kv/write-gate.js';
import { Lease } from './lease/lease.js';
import { Maintenance } from './admin/maintenance.js';
import { grpcTransport } from './transport/grpc-wire.js';
import type { Transport } from './transport/wire.js';
import { checkTls, type TlsOptions } from './transport/tls.js';
import { type AuthOptions, checkAuth } from './transport/token.js';
import { Watcher, type WatchOptions } from './watch/watch.js';
import { WatchStream } from './watch/watch-stream.js';
import { asText, INSPECT } from '../util/shown.js';

/** How to reach the cluster. */
export interface ClientOptions {
  /**
   * The members: `http://HOST:PORT`, `https://HOST:PORT`, `HOST:PORT` (TLS if `tls` is given), `unix:///PATH` or
   * `unixs:///PATH`.
   * @default ['http://127.0.0.1:2379']
   */
  readonly endpoints?: readonly string[] | string | undefined;
  /** Certificates: PEM text, functions that give it, or files. */
  readonly tls?: TlsOptions | undefined;
  /**
   * User and password, or a token. The token is fetched on the first call and renewed when a server refuses it. A user who is
   * the common name of our certificate needs neither.
   */
  readonly auth?: AuthOptions | undefined;
  /** How often the endpoints are taken from the member list, in milliseconds. @default never; see `syncEndpoints` */
  readonly syncIntervalMs?: number | undefined;
  /** The deadline of each call, in milliseconds. @default 5000 */
  readonly timeoutMs?: number | undefined;
  /**
   * Which calls on single keys are sent together, as one transaction, when many are made at once; five to ten times as many
   * get through so. `reads`: `kv.get` without `revision`, which changes nothing else. `all`: also `kv.put` and `kv.delete`;
   * those that were sent together share one revision, so leave it out where each write's revision must be its own.
   * @default 'reads'
   */
  readonly batch?: Batching | undefined;
  /** @internal What carries the messages. A simulated world puts its network here. @default gRPC */
  readonly transport?: Transport | undefined;
  /** Where time comes from. @default the machine's clocks */
  readonly clock?: Clock | undefined;
}

/** The names of `ClientOptions`. */
export const CLIENT_OPTIONS = [
  'endpoints',
  'tls',
  'auth',
  'syncIntervalMs',
  'timeoutMs',
  'batch',
  'clock',
  'transport',
] as const;

/** How long closing waits for the last calls. */
const FAREWELL_MS = 500;

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
  /** @internal For the rooms built on the client: the stream that carries its watches. */
  readonly watches: WatchStream;
  readonly #connection: Connection;
  readonly #sync: EndpointSync;
  readonly #farewells: (() => Promise<unknown>)[] = [];
  #closing: Promise<void> | undefined;

  constructor(options: ClientOptions = {}) {
    checkOptions(options, CLIENT_OPTIONS, 'Client');
    const { batch = 'reads' } = options;
    checkChoice(batch, ['none', 'reads', 'all'], 'batch');
    const endpoints = urlsOf(options.endpoints ?? 'http://127.0.0.1:2379');
    if (options.tls !== undefined) checkTls(options.tls);
    if (options.auth !== undefined) checkAuth(options.auth);
    this.clock = options.clock ?? systemClock;
    this.#connection = new Connection({
      auth: options.auth,
      clock: this.clock,
      endpoints,
      timeoutMs: checkMs(options.timeoutMs ?? 5000, 'timeoutMs', 1),
      transport: options.transport ?? grpcTransport(options.tls),
    });
    const gate = new WriteGate(this.#connection);
    this.watches = new WatchStream(this.#connection, gate);
    this.kv = new Kv(this.#connection, gate, batch);
    this.lease = new Lease(this.#connection, gate);
    this.cluster = new Cluster(this.#connection);
    this.auth = new Auth(this.#connection);
    this.maintenance = new Maintenance(this.#connection);
    const { syncIntervalMs } = options;
    if (syncIntervalMs !== undefined) checkMs(syncIntervalMs, 'syncIntervalMs', 1);
    this.#sync = new EndpointSync(this.#connection, this.cluster, syncIntervalMs);
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
    return this.#sync.sync(options);
  }

  /** Aborts, with an error of code `CLOSED`, when the client is closed. */
  get closed(): AbortSignal {
    return this.#connection.closed;
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
    return new Watcher({ connection: this.#connection, kv: this.kv, stream: this.watches }, range, options);
  }

  /** @internal For the rooms built on the client: `farewell` may make last calls when it is closed, but not for long. */
  beforeClose(farewell: () => Promise<unknown>): void {
    this.#farewells.push(farewell);
  }

  /**
   * Ends every call, watch and keepalive with code `CLOSED`, and every connection, so that the process can exit. Leases
   * are left to run out: close sessions first. Only what `stm` has left is removed before, within half a second. Closing
   * twice does nothing.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const last = this.#farewells.map((farewell) => farewell());
    // By the machine's clock: one that stands still must not keep connections open.
    if (last.length > 0) await waitAtMost(systemClock, FAREWELL_MS, Promise.all(last));
    this.#connection.close();
    this.watches.close(new ConclaveError('CLOSED', 'the client is closed'));
  }

  /** As `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

function urlsOf(endpoints: readonly string[] | string): readonly string[] {
  const urls = [endpoints].flat();
  if (urls.length === 0) throw new TypeError('endpoints must name at least one member');
  return urls;
}
