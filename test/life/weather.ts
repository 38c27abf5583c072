// What can happen to an etcd of one member, and to the way to it.
import { once } from 'node:events';
import { cp, rm } from 'node:fs/promises';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

import type { Client } from 'conclave';
import { type EtcdCluster, type EtcdMember, startEtcd } from 'conclave/testing';

const NONSENSE = 'HTTP/1.1 503 Service Unavailable\r\ncontent-length: 21\r\n\r\n<html>sorry</html>\r\n\r\n';

/** A way to etcd that can be cut, fall silent, or lead to something else. */
class Way {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #mode: 'open' | 'silent' | 'nonsense' = 'open';

  private constructor(port: number) {
    this.#server = createServer((from) => {
      this.#keep(from);
      if (this.#mode === 'nonsense') {
        from.resume();
        from.write(NONSENSE);
        return;
      }
      const to = connect(port, '127.0.0.1');
      this.#keep(to);
      for (const [one, other] of [
        [from, to],
        [to, from],
      ] as const) {
        one.on('close', () => other.destroy());
        one.on('data', (chunk) => {
          if (this.#mode === 'open') other.write(chunk);
        });
      }
    });
  }

  static async to(port: number): Promise<Way> {
    const way = new Way(port);
    way.#server.listen(0, '127.0.0.1');
    await once(way.#server, 'listening');
    return way;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  /** Until `open`, bytes are lost, or nonsense is answered. */
  be(mode: 'silent' | 'nonsense'): void {
    this.#mode = mode;
    if (mode === 'nonsense') this.cut();
  }

  open(): void {
    this.#mode = 'open';
    this.cut();
  }

  async close(): Promise<void> {
    this.#server.close();
    this.cut();
    await once(this.#server, 'close');
  }

  #keep(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on('error', () => undefined);
    socket.on('close', () => this.#sockets.delete(socket));
  }
}

export class Weather {
  readonly cluster: EtcdCluster;
  readonly way: Way;
  readonly #member: EtcdMember;

  private constructor(cluster: EtcdCluster, member: EtcdMember, way: Way) {
    this.cluster = cluster;
    this.#member = member;
    this.way = way;
  }

  static async start(): Promise<Weather> {
    const cluster = await startEtcd();
    const [member] = cluster.members;
    if (member === undefined) throw new Error('a cluster without members');
    const weather = new Weather(cluster, member, await Way.to(Number(new URL(cluster.endpoint).port)));
    await weather.keep();
    return weather;
  }

  get endpoint(): string {
    return this.way.endpoint;
  }

  /** Keeps the data as they are, to come back with later. */
  async keep(): Promise<void> {
    await this.#member.stop();
    await rm(this.#copy, { force: true, recursive: true });
    await cp(this.#member.dataDir, this.#copy, { recursive: true });
    await this.#member.restart();
  }

  /** What can happen, each by name; it is over when it resolves. `admin` has a way of its own. */
  faults(admin: Client): Readonly<Record<string, (lastsMs: number) => Promise<void>>> {
    const { way } = this;
    const member = this.#member;
    const comeBack = async (data: () => Promise<void>): Promise<void> => {
      await member.kill();
      await rm(member.dataDir, { force: true, recursive: true });
      await data();
      await member.restart();
    };
    return {
      cut: () => {
        way.cut();
        return Promise.resolve();
      },
      emptied: () => comeBack(() => Promise.resolve()),
      frozen: async (lastsMs) => {
        await member.pause();
        await sleep(lastsMs);
        await member.resume();
      },
      killed: async (lastsMs) => {
        await member.kill();
        await sleep(lastsMs);
        await member.restart();
      },
      nonsense: async (lastsMs) => {
        way.be('nonsense');
        await sleep(lastsMs);
        way.open();
      },
      restored: () => comeBack(() => cp(this.#copy, member.dataDir, { recursive: true })),
      revoked: async () => {
        for (const id of await admin.lease.list()) await admin.lease.revoke(id);
      },
      silent: async (lastsMs) => {
        way.be('silent');
        await sleep(lastsMs);
        way.open();
      },
    };
  }

  async close(): Promise<void> {
    await this.way.close();
    await this.cluster.close();
  }

  get #copy(): string {
    return `${this.#member.dataDir}.kept`;
  }
}
