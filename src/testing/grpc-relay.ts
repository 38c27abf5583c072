import { once } from 'node:events';
import {
  type ClientHttp2Session,
  connect,
  createServer,
  type Http2Server,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import { type AddressInfo, type Socket } from 'node:net';
import { type CallBook } from './call-faults.js';
import { RelayedCall } from './relayed-call.js';

/** Roomy, so that a test of ten thousands of calls meets no limit of the relay's own. */
const WINDOW_BYTES = 16 * 1024 * 1024;
const LIMITS = {
  maxSessionMemory: 1024,
  maxSessionInvalidFrames: 1_000_000,
  maxSessionRejectedStreams: 1_000_000,
  // A client that cancels many streams is not an attack here (CVE-2023-44487).
  streamResetBurst: 1_000_000,
  streamResetRate: 1_000_000,
  settings: { initialWindowSize: 1024 * 1024 },
};

/** An address to connect to. */
export interface Target {
  readonly host: string;
  readonly port: number;
}

/** An HTTP/2 server that repeats each call to the target, on one connection of its own per client connection. */
export class GrpcRelay {
  readonly #server: Http2Server;
  readonly #target: Target;
  readonly #book: CallBook;
  readonly #sockets = new Map<number, Socket>();
  readonly #upstreams = new Set<ClientHttp2Session>();

  private constructor(target: Target, book: CallBook) {
    this.#target = target;
    this.#book = book;
    this.#server = createServer(LIMITS);
    // Before node's own listener, which makes the session.
    this.#server.prependListener('connection', (socket: Socket) => {
      const port = socket.remotePort ?? 0;
      this.#sockets.set(port, socket);
      socket.on('close', () => this.#sockets.delete(port));
    });
    this.#server.on('session', (session) => this.#onSession(session));
    this.#server.on('sessionError', () => undefined);
  }

  static async start(target: Target, book: CallBook): Promise<GrpcRelay> {
    const relay = new GrpcRelay(target, book);
    relay.#server.listen(0, '127.0.0.1');
    await once(relay.#server, 'listening');
    return relay;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets.values()) socket.resetAndDestroy();
    for (const upstream of this.#upstreams) upstream.destroy();
  }

  #onSession(session: ServerHttp2Session): void {
    const socket = this.#sockets.get(session.socket.remotePort ?? 0);
    const cut = (): void => void socket?.resetAndDestroy();
    const { host, port } = this.#target;
    const upstream = connect(`http://${host}:${port}`, LIMITS);
    this.#upstreams.add(upstream);
    session.setLocalWindowSize(WINDOW_BYTES);
    upstream.on('connect', () => upstream.setLocalWindowSize(WINDOW_BYTES));
    upstream.on('goaway', (code: number, _lastStream: number, data?: Buffer) => {
      if (!session.destroyed) session.goaway(code, 0, data);
    });
    // Whatever ends one side ends the other; the client sees a reset, as when a server dies.
    upstream.on('error', cut);
    upstream.on('close', () => {
      this.#upstreams.delete(upstream);
      cut();
    });
    session.on('error', () => undefined);
    session.on('close', () => upstream.destroy());
    session.on('stream', (stream, headers) => this.#onStream(stream, headers, { upstream, cut }));
  }

  #onStream(
    client: ServerHttp2Stream,
    headers: IncomingHttpHeaders,
    { upstream, cut }: { readonly upstream: ClientHttp2Session; readonly cut: () => void },
  ): void {
    if (upstream.destroyed || upstream.closed) {
      client.on('error', () => undefined);
      cut();
      return;
    }
    const sent = Object.fromEntries(Object.entries(headers));
    const server = upstream.request(sent);
    new RelayedCall({ path: headers[':path'] ?? '', headers: sent, client, server, book: this.#book, cut });
  }
}
