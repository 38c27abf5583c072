import { Server, ServerCredentials } from '@grpc/grpc-js';

import { type Clock, systemClock } from '../util/clock.js';
import { waitAtMost } from '../util/abort.js';
import { Deferred } from '../util/deferred.js';
import { checkCount, checkMs, checkOptions } from '../util/validate.js';
import type { CallSet } from './rpc/call-set.js';
import { Listener } from './rpc/listener.js';
import type { Lessor } from './lease/lessor.js';
import { makeMember } from './member.js';
import { letIn } from './rpc/turns.js';
import { RpcServer } from './rpc/rpc-server.js';
import {
  type AutoCompaction,
  checkAutoCompaction,
  compactByItself,
  DEFAULT_RETENTION,
} from './store/auto-compaction.js';

/** How an embedded server is started. */
export interface EmbeddedServerOptions {
  /** The TCP port; 0 takes a free one. @default 0 */
  readonly port?: number | undefined;
  /** The address to listen at. @default '127.0.0.1' */
  readonly host?: string | undefined;
  /** Listens at this Unix socket instead of a TCP port. */
  readonly socketPath?: string | undefined;
  /** Where time comes from: leases end, and idle watches report, by this clock. @default the machine's clock */
  readonly clock?: Clock | undefined;
  /** The member's name in MemberList. @default 'default' */
  readonly name?: string | undefined;
  /** How often an idle watch made with `progress_notify` is told of the store's progress. @default 600000 */
  readonly watchProgressIntervalMs?: number | undefined;
  /** How much history is kept; false: all of it, in memory. @default { retentionRevisions: 100_000 } */
  readonly autoCompaction?: AutoCompaction | false | undefined;
}

const OPTIONS = ['autoCompaction', 'port', 'host', 'socketPath', 'clock', 'name', 'watchProgressIntervalMs'];
const TEN_MINUTES_MS = 600_000;
/** etcd's shortest progress interval. */
const LEAST_PROGRESS_INTERVAL_MS = 100;
/** etcd takes requests of 1.5 MiB and leaves gRPC half a MiB more. */
const MAX_MESSAGE_BYTES = 2 * 1024 * 1024;
/** How long connections get to say goodbye when the server closes. */
const GOODBYE_MS = 250;

/** What ends with a server. */
interface Parts {
  readonly server: Server;
  readonly listener: Listener;
  readonly calls: CallSet;
  readonly lessor: Lessor;
  readonly stopCompacting: () => void;
}

/**
 * An etcd v3 server of one member in this process, in memory: for development, for tests, and for fleets that live on
 * one machine. It speaks etcd's gRPC API, so etcdctl and every etcd client work against it.
 *
 * Not guaranteed: nothing is written to disk, so everything is gone when the server closes or the process ends; there is
 * no authentication and no TLS, so it should listen only where every peer is trusted.
 *
 * @example
 * ```ts
 * await using server = await EmbeddedServer.start();
 * console.log(server.endpoint); // http://127.0.0.1:43219
 * ```
 */
export class EmbeddedServer implements AsyncDisposable {
  /** What clients connect to: `http://host:port`, or `unix:///path` for a Unix socket. */
  readonly endpoint: string;
  readonly #parts: Parts;
  #closed: Promise<void> | undefined;

  private constructor(parts: Parts) {
    this.endpoint = parts.listener.endpoint;
    this.#parts = parts;
  }

  /**
   * Starts a server. Resolves when it takes connections; rejects when it cannot listen (the port or socket is taken).
   * Every call starts a server of its own, with an empty store.
   */
  static async start(options: EmbeddedServerOptions = {}): Promise<EmbeddedServer> {
    checkOptions(options, OPTIONS, 'EmbeddedServer.start');
    const { clock = systemClock, name = 'default', watchProgressIntervalMs = TEN_MINUTES_MS } = options;
    checkMs(watchProgressIntervalMs, 'watchProgressIntervalMs', LEAST_PROGRESS_INTERVAL_MS);
    const { autoCompaction = DEFAULT_RETENTION } = options;
    const keep = autoCompaction === false ? undefined : checkAutoCompaction(autoCompaction);
    const server = new Server({
      'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
      'grpc.max_send_message_length': -1,
    });
    const rpcs = new RpcServer(server);

    const listener = await listen(server, options);
    const member = {
      clock,
      endpoint: listener.endpoint,
      leaseIds: 'rising',
      // By any other clock no time passes while the loop is busy.
      letIn: clock.goesOn === true ? letIn : undefined,
      name,
      watchProgressIntervalMs,
    } as const;
    const { calls, lessor, store } = makeMember(rpcs, member);
    const stopCompacting = keep === undefined ? () => undefined : compactByItself(store, clock, keep);
    return new EmbeddedServer({ calls, lessor, listener, server, stopCompacting });
  }

  /**
   * Stops the server: ends all streams with etcd's "server stopped", closes all connections, forgets everything.
   * Resolves when the port or socket is free again. Never rejects; calling it twice is safe.
   */
  async close(): Promise<void> {
    this.#closed ??= this.#stop();
    return this.#closed;
  }

  /** As `close`. */
  async [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #stop(): Promise<void> {
    const { calls, lessor, listener, server, stopCompacting } = this.#parts;
    stopCompacting();
    lessor.close();
    calls.endAll();
    listener.close();
    const done = new Deferred<void>();
    server.tryShutdown(() => done.resolve());
    // By the machine's clock: this is about sockets, and a clock that stands still must not keep them open.
    await waitAtMost(systemClock, GOODBYE_MS, done.promise);
    server.forceShutdown();
    // What is left are connections that have not spoken to us, or not enough.
    await listener.cut();
  }
}

/** What every system takes as a Unix socket's path; Node cuts a longer one off and listens at what is left. */
const LONGEST_PATH = 103;

/** Has the server take the connections that come in where it is to listen. */
async function listen(server: Server, options: EmbeddedServerOptions): Promise<Listener> {
  const { port = 0, host = '127.0.0.1', socketPath } = options;
  checkCount(port, 'port');
  if (port > 65_535) throw new RangeError(`port must be at most 65535, not ${port}`);
  if (socketPath !== undefined && Buffer.byteLength(socketPath) > LONGEST_PATH)
    throw new RangeError(`socketPath must have at most ${LONGEST_PATH} bytes, not ${socketPath}`);
  const connections = server.createConnectionInjector(ServerCredentials.createInsecure());
  const place = socketPath === undefined ? { host, port } : { path: socketPath };
  return Listener.open(place, (socket) => connections.injectConnection(socket));
}
