/** Where the server listens, and every connection it has: gRPC is handed them, and knows only of those that speak to it. */
import { once } from 'node:events';
import { rm, stat } from 'node:fs/promises';
import {
  type AddressInfo,
  connect,
  createServer,
  type ListenOptions,
  type Server,
  type Socket,
} from 'node:net';
import { dirname } from 'node:path';

import { Deferred } from '../../util/deferred.js';

export class Listener {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #place: ListenOptions;

  /**
   * Listens at `place` and hands on each connection. Rejects with the machine's own error when nobody can listen there. A
   * Unix socket that a crashed server has left there is removed.
   */
  static async open(place: ListenOptions, take: (socket: Socket) => void): Promise<Listener> {
    if (place.path !== undefined) await clearStaleSocket(place.path);
    const listener = new Listener(place, take);
    try {
      listener.#server.listen(place);
      await once(listener.#server, 'listening');
    } catch (error) {
      throw await missingFolder(error, place.path);
    }
    return listener;
  }

  private constructor(place: ListenOptions, take: (socket: Socket) => void) {
    this.#place = place;
    this.#server = createServer({ noDelay: true }, (socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
      take(socket);
    });
  }

  /** What clients connect to. */
  get endpoint(): string {
    const { path, host = '' } = this.#place;
    if (path !== undefined) return `unix://${path}`;
    const { port } = this.#server.address() as AddressInfo;
    return `http://${host.includes(':') ? `[${host}]` : host}:${port}`;
  }

  /** Takes no more connections. Those it has stay until `cut`. */
  close(): void {
    this.#server.close();
  }

  /** Ends all connections, whatever they have said so far. Resolves when the port or socket is free. */
  async cut(): Promise<void> {
    const closed = new Deferred<void>();
    this.#server.close(() => closed.resolve());
    for (const socket of this.#sockets) socket.destroy();
    await closed.promise;
  }
}

/** libuv calls it EACCES when a Unix socket's folder is not there; any other error is what it says. */
async function missingFolder(error: unknown, path: string | undefined): Promise<unknown> {
  if (path === undefined || (error as NodeJS.ErrnoException).code !== 'EACCES') return error;
  try {
    await stat(dirname(path));
    return error;
  } catch (missing) {
    return missing;
  }
}

/** One that answers is left alone, and so is any other file. */
async function clearStaleSocket(path: string): Promise<void> {
  const found = await stat(path).catch(() => undefined);
  if (found?.isSocket() !== true) return;
  const answer = new Deferred<boolean>();
  const socket = connect(path, () => answer.resolve(true));
  socket.on('error', () => answer.resolve(false));
  const alive = await answer.promise;
  socket.destroy();
  if (!alive) await rm(path, { force: true });
}
