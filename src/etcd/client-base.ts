/**
 * What a client stands on. The clients of its namespaces share it: one connection, one stream of watches, one of leases.
 */
import { ConclaveError } from '../errors/conclave-error.js';
import { systemClock } from '../util/clock.js';
import { checkChoice, checkMs, checkOptions } from '../util/validate.js';
import { Auth } from './admin/auth.js';
import { Cluster } from './admin/cluster.js';
import { EndpointSync } from './admin/endpoint-sync.js';
import { Maintenance } from './admin/maintenance.js';
import { CLIENT_OPTIONS, type ClientOptions } from './client-options.js';
import { type Farewell, sayFarewell } from './farewells.js';
import type { Batching } from './kv/kv.js';
import { WriteGate } from './kv/write-gate.js';
import { LeaseStream } from './lease/lease-stream.js';
import { Connection } from './transport/connection.js';
import { grpcTransport } from './transport/grpc-wire.js';
import type { Link } from './transport/link.js';
import { checkTls } from './transport/tls.js';
import { checkAuth } from './transport/token.js';
import { type Watches, WatchStream } from './watch/watch-stream.js';

/** What the parts of a client stand on, for a whole cluster or for a namespace of it. */
export interface ClientBase {
  /** What all clients on the same connection share. */
  readonly whole: ClusterBase;
  readonly link: Link;
  readonly watches: Watches;
  /** Has last calls made when it is closed; returns how to take that back. */
  beforeClose(farewell: Farewell): () => void;
  /** Makes the last calls, and ends what stands on it and nothing else. */
  close(): Promise<void>;
}

export class ClusterBase implements ClientBase {
  readonly connection: Connection;
  readonly gate: WriteGate;
  readonly leases: LeaseStream;
  readonly watches: WatchStream;
  readonly cluster: Cluster;
  readonly auth: Auth;
  readonly maintenance: Maintenance;
  readonly sync: EndpointSync;
  readonly batch: Batching;
  readonly #farewells = new Set<Farewell>();

  constructor(options: ClientOptions) {
    checkOptions(options, CLIENT_OPTIONS, 'Client');
    const { batch = 'reads' } = options;
    checkChoice(batch, ['none', 'reads', 'all'], 'batch');
    const endpoints = urlsOf(options.endpoints ?? 'http://127.0.0.1:2379');
    if (options.tls !== undefined) checkTls(options.tls);
    if (options.auth !== undefined) checkAuth(options.auth);
    this.batch = batch;
    this.connection = new Connection({
      auth: options.auth,
      certified: (options.tls?.cert ?? options.tls?.certFile) !== undefined,
      clock: options.clock ?? systemClock,
      endpoints,
      timeoutMs: checkMs(options.timeoutMs ?? 5000, 'timeoutMs', 1),
      transport: options.transport ?? grpcTransport(options.tls),
    });
    this.gate = new WriteGate(this.connection);
    this.leases = new LeaseStream(this.connection);
    this.watches = new WatchStream(this.connection, this.gate);
    this.cluster = new Cluster(this.connection);
    this.auth = new Auth(this.connection);
    this.maintenance = new Maintenance(this.connection);
    const { syncIntervalMs } = options;
    if (syncIntervalMs !== undefined) checkMs(syncIntervalMs, 'syncIntervalMs', 1);
    this.sync = new EndpointSync(this.connection, this.cluster, syncIntervalMs);
  }

  get whole(): this {
    return this;
  }

  get link(): Connection {
    return this.connection;
  }

  beforeClose(farewell: Farewell): () => void {
    this.#farewells.add(farewell);
    return () => this.#farewells.delete(farewell);
  }

  async close(): Promise<void> {
    await sayFarewell(this.#farewells, this.link.clock);
    this.connection.close();
    this.watches.close(new ConclaveError('CLOSED', 'the client is closed'));
  }
}

/** The URLs of endpoints, one or several. */
export function urlsOf(endpoints: readonly string[] | string): readonly string[] {
  const urls = [endpoints].flat();
  if (urls.length === 0) throw new TypeError('endpoints must name at least one member');
  return urls;
}
