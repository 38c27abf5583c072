/** A link that carries so many bytes a second from the server to the client, and no more. */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

const STEP_MS = 20;

export class Throttle implements AsyncDisposable {
  readonly endpoint: string;
  readonly #server: Server;
  readonly #sockets: Set<Socket>;

  private constructor(server: Server, sockets: Set<Socket>) {
    this.endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    this.#server = server;
    this.#sockets = sockets;
  }

  static async start(target: string, bytesPerSecond: number): Promise<Throttle> {
    const { hostname, port } = new URL(target);
    const sockets = new Set<Socket>();
    const server = createServer((client) => {
      const upstream = connect({ host: hostname, port: Number(port) });
      for (const [socket, other] of [
        [client, upstream],
        [upstream, client],
      ] as const) {
        sockets.add(socket);
        socket.on('error', () => socket.destroy());
        socket.on('close', () => {
          sockets.delete(socket);
          other.destroy();
        });
      }
      client.pipe(upstream);
      const waiting: Buffer[] = [];
      const timer = setInterval(() => {
        for (let left = (bytesPerSecond * STEP_MS) / 1000; left > 0 && waiting.length > 0;) {
          const [chunk = Buffer.alloc(0)] = waiting.splice(0, 1);
          client.write(chunk.subarray(0, left));
          if (chunk.length > left) waiting.unshift(chunk.subarray(left));
          left -= chunk.length;
        }
        if (waiting.length === 0) upstream.resume();
      }, STEP_MS);
      upstream.on('data', (chunk: Buffer) => {
        waiting.push(chunk);
        upstream.pause();
      });
      client.on('close', () => clearInterval(timer));
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new Throttle(server, sockets);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await once(this.#server, 'close');
  }
}
