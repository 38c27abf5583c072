import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import {
  type CallAction,
  CallBook,
  type CallFault,
  type CallFaultOptions,
  type CallLoss,
} from './call-faults.js';
import { type FactOptions, Facts } from './facts.js';
import { GrpcRelay, type Target } from './grpc-relay.js';
import { LateCopies, type LateCopyOptions } from './late-copies.js';
import { freePorts } from './ports.js';
import { type Lane, type LaneSettings, TcpLink } from './tcp-link.js';

/** Which bytes a fault applies to. */
export type Direction = 'toServer' | 'toClient' | 'both';

/** Which connections a fault applies to: those that are there, those that are to come, or both (`all`). */
export type Connections = 'all' | 'existing' | 'new';

/** How a proxy is started. */
export interface FaultProxyOptions {
  /**
   * Relay each gRPC call by itself, so that calls can be counted and be struck one by one (`onCall`). The target must
   * speak plaintext HTTP/2. HTTP/2's own pings are then answered by the proxy, and what Node's HTTP/2 finds malformed is
   * refused (such as the `:authority` that `etcdctl` 3.4 sends in `endpoint status`). @default false
   */
  readonly grpc?: boolean | undefined;
}

const PASS: LaneSettings = { mode: 'pass', delayMs: 0 };
const LISTEN_TRIES = 5;

/**
 * A TCP proxy between a client and an etcd, which can be told to misbehave in the ways networks do.
 *
 * Without faults it is transparent. Faults can be set at any time, and together. Waits are on facts (`waitFor`, and
 * `CallFault.hit`), so that no test needs a sleep.
 *
 * @example
 * await using proxy = await FaultProxy.start(etcd.endpoint, { grpc: true });
 * const fault = proxy.swallowNextReply({ method: '/etcdserverpb.KV/Txn', then: 'cut' });
 * await fault.hit(); // etcd has carried it out, and the client will never know
 */
export class FaultProxy implements AsyncDisposable {
  /** Where clients connect, with the target's scheme. */
  readonly endpoint: string;
  readonly port: number;
  /** What is connected to next: the server, or our relay before it. */
  readonly #target: Target;
  readonly #server: Target;
  readonly #relay: GrpcRelay | undefined;
  readonly #book: CallBook;
  readonly #facts: Facts;
  readonly #links = new Set<TcpLink>();
  readonly #late: LateCopies[] = [];
  #listener: Server | undefined;
  #accepted = 0;
  #fresh = { toServer: PASS, toClient: PASS };

  private constructor(setup: {
    readonly scheme: string;
    readonly port: number;
    readonly target: Target;
    readonly server: Target;
    readonly relay: GrpcRelay | undefined;
    readonly book: CallBook;
    readonly facts: Facts;
  }) {
    this.endpoint = `${setup.scheme}//127.0.0.1:${setup.port}`;
    this.port = setup.port;
    this.#target = setup.target;
    this.#server = setup.server;
    this.#relay = setup.relay;
    this.#book = setup.book;
    this.#facts = setup.facts;
  }

  /** Starts a proxy in front of `target` (`http://host:port`, `host:port` or its parts) on a free port of 127.0.0.1. */
  static async start(target: string | Target, options: FaultProxyOptions = {}): Promise<FaultProxy> {
    const { scheme, host, port } = readTarget(target);
    if (options.grpc && scheme === 'https:') {
      throw new TypeError(`FaultProxy: grpc needs a plaintext target, not ${scheme}//${host}:${port}`);
    }
    const facts = new Facts();
    const book = new CallBook(facts);
    const relay = options.grpc ? await GrpcRelay.start({ host, port }, book) : undefined;
    const next = relay === undefined ? { host, port } : { host: '127.0.0.1', port: relay.port };
    for (let tries = 1; ; tries++) {
      const [free = 0] = await freePorts(1);
      const server = { host, port };
      const proxy = new FaultProxy({ scheme, port: free, target: next, server, relay, book, facts });
      try {
        await proxy.accept();
        return proxy;
      } catch (error) {
        if (tries < LISTEN_TRIES) continue;
        relay?.close();
        throw error;
      }
    }
  }

  /** How many connections are open on the client's side. */
  get connections(): number {
    return [...this.#links].filter((link) => link.isOpen).length;
  }

  /** How many connections have been accepted since the start. */
  get accepted(): number {
    return this.#accepted;
  }

  /** With `grpc`: how many request messages of this rpc were handed to the server (one per call that is not a stream). */
  requests(path: string): number {
    return this.#calls().requests.get(path) ?? 0;
  }

  /** With `grpc`: how many reply messages of this rpc were handed to the client. */
  replies(path: string): number {
    return this.#calls().replies.get(path) ?? 0;
  }

  /** Resolves as soon as `fact(proxy)` is true, looking at every connection and message; rejects after 10 s or `timeoutMs`. */
  async waitFor(fact: (proxy: this) => boolean, options: FactOptions = {}): Promise<void> {
    await this.#facts.waitFor(() => fact(this), { what: fact.toString(), ...options });
  }

  /** The peer goes silent: bytes are accepted and lost, and nothing is closed, as when a machine loses its power. */
  drop(direction: Direction = 'both', connections: Connections = 'all'): void {
    this.#set({ mode: 'drop' }, direction, connections);
  }

  /** Bytes are held, to be delivered in order by `resume`. */
  pause(direction: Direction = 'both', connections: Connections = 'all'): void {
    this.#set({ mode: 'hold' }, direction, connections);
  }

  /** Ends `drop` and `pause`. Connections that lost bytes are cut, since nothing sensible can follow on them. */
  resume(): void {
    for (const link of this.#links) if (link.toServer.lost || link.toClient.lost) link.cut();
    this.#set({ mode: 'pass' }, 'both', 'all');
  }

  /** Every byte from now on takes this much longer each way. 0 ends it. */
  delay(delayMs: number, direction: Direction = 'both', connections: Connections = 'all'): void {
    this.#set({ delayMs }, direction, connections);
  }

  /** Resets all connections, on both sides. */
  cut(): void {
    for (const link of this.#links) link.cut();
  }

  /** Stops listening, so that new connections are refused; those that are there stay. */
  async refuse(): Promise<void> {
    const listener = this.#listener;
    this.#listener = undefined;
    listener?.close();
    // The port is closed at the end of this turn of the event loop.
    await new Promise((resolve) => setImmediate(resolve));
  }

  /** Listens again on the same port, after `refuse`. */
  async accept(): Promise<void> {
    if (this.#listener !== undefined) return;
    const listener = createServer({ allowHalfOpen: true }, (socket) => this.#onConnection(socket));
    listener.listen({ port: this.port, host: '127.0.0.1', exclusive: true });
    await once(listener, 'listening');
    this.#listener = listener;
  }

  /** With `grpc`: does `action` to the next calls of the rpc `path`, as in `/etcdserverpb.KV/Txn`; `*` for any. */
  onCall(path: string, action: CallAction, options: CallFaultOptions = {}): CallFault {
    return this.#calls().add(path, action, options);
  }

  /** With `grpc`: lets the next call of `method` (or any) pass and be carried out, and loses the answer. */
  swallowNextReply(options: { readonly method?: string; readonly then?: CallLoss } = {}): CallFault {
    return this.onCall(options.method ?? '*', 'dropReply', { then: options.then });
  }

  /**
   * With `grpc`: from now on each request that a client may send again when its answer is lost (a transaction with
   * compares, a grant of a lease under an id, a revocation) arrives at the server a second time, at a random later moment,
   * and that answer is thrown away. Plain writes, which a client must not send twice, pass once. A second call of this
   * replaces the first; `heal` lets no more be taken, and what was taken still arrives, until the proxy is closed.
   */
  lateCopies(options: LateCopyOptions): LateCopies {
    const book = this.#calls();
    book.late?.stop();
    const late = new LateCopies(options, this.#server, this.#facts);
    this.#late.push(late);
    book.late = late;
    return late;
  }

  /** Ends all faults: of calls and of bytes, and accepts connections again. */
  async heal(): Promise<void> {
    this.#book.releaseAll();
    this.delay(0);
    this.resume();
    await this.accept();
  }

  /** Stops listening and resets what is open. Calling it again does nothing. */
  async close(): Promise<void> {
    await this.refuse();
    this.cut();
    for (const late of this.#late) late.close();
    this.#relay?.close();
  }

  /** As `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #calls(): CallBook {
    if (this.#relay === undefined) {
      throw new Error('this FaultProxy sees bytes only: start it with { grpc: true } to see calls');
    }
    return this.#book;
  }

  #onConnection(client: Socket): void {
    const server = connect({ ...this.#target, allowHalfOpen: true });
    const link = new TcpLink(client, server, this.#fresh);
    this.#links.add(link);
    this.#accepted++;
    link.onClose(() => {
      if (link.isGone) this.#links.delete(link);
      this.#facts.changed();
    });
    this.#facts.changed();
  }

  #set(change: Partial<LaneSettings>, direction: Direction, connections: Connections): void {
    const apply = (lane: Lane): void => {
      lane.settings = { ...lane.settings, ...change };
    };
    for (const side of ['toServer', 'toClient'] as const) {
      if (direction !== 'both' && direction !== side) continue;
      if (connections !== 'existing')
        this.#fresh = { ...this.#fresh, [side]: { ...this.#fresh[side], ...change } };
      if (connections !== 'new') for (const link of this.#links) apply(link[side]);
    }
  }
}

function readTarget(target: string | Target): Target & { readonly scheme: string } {
  if (typeof target !== 'string') return { scheme: 'http:', host: target.host, port: target.port };
  const url = new URL(target.includes('://') ? target : `http://${target}`);
  const port = Number(url.port);
  if (port === 0) throw new TypeError(`FaultProxy: the target must name a port, not ${target}`);
  return { scheme: url.protocol, host: url.hostname, port };
}
