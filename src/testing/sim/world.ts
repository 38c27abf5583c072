import { Client } from '../../etcd/client.js';
import type { ClientOptions } from '../../etcd/client-options.js';
import { type Conclave, type ConnectOptions, connectWith } from '../../connect/conclave.js';
import { drawFrom } from '../../util/chance.js';
import { Network } from './network.js';
import { Random } from './random.js';
import { type ClockFault, SimProcess } from './sim-process.js';
import { SimMember } from './sim-member.js';
import { SimServer } from './sim-server.js';
import { Timeline } from './timeline.js';

/** A client's options; its clock and what carries its messages are the world's. */
export type WorldClientOptions = Omit<ClientOptions, 'clock' | 'transport'>;
/** The same of `connect()`. */
export type WorldConnectOptions = Omit<ConnectOptions, 'clock' | 'transport'>;

/**
 * A simulated world: processes, their clocks, a network, and etcd behind three members, in one process of yours and in
 * virtual time. The same seed gives the same run: all that happens by chance, the library's own included, is drawn from it.
 * One world at a time may run in a process.
 *
 * Not simulated: snapshots, alarms, and users with different rights.
 *
 * @example
 * await using world = new World(7);
 * const process = world.process('worker');
 * const client = world.client(process);
 * const put = client.kv.put('a', 'x');
 * await world.run(1000);
 * await put;
 */
export class World implements AsyncDisposable {
  readonly seed: number;
  readonly random: Random;
  readonly timeline = new Timeline();
  readonly server: SimServer;
  readonly members: readonly SimMember[];
  readonly network: Network;
  readonly #clients: Client[] = [];
  readonly #restore: () => void;

  constructor(seed: number) {
    this.seed = seed;
    this.random = new Random(seed);
    this.#restore = drawFrom(this.random.fork());
    this.server = new SimServer(this.timeline, this.random.fork());
    this.members = [0, 1, 2].map((at) => new SimMember(`sim-${String(at)}:2379`, this.timeline, this.server));
    this.network = new Network(this.timeline, this.random.fork(), this.members);
  }

  /** Milliseconds since the world began. */
  get nowMs(): number {
    return this.timeline.nowMs;
  }

  /** A process, to run a program in: all its clients must be made for it. */
  process(name: string, fault: ClockFault = {}): SimProcess {
    return new SimProcess(name, this.timeline, fault);
  }

  /** A client in a process, of all members. */
  client(process: SimProcess, options: WorldClientOptions = {}): Client {
    const endpoints = this.members.map(({ url }) => url);
    const transport = this.network.transport(process);
    const client = new Client({ endpoints, ...options, clock: process.clock, transport });
    this.#clients.push(client);
    return client;
  }

  /** As `connect()` in a process: to all members, on a session that renews itself. */
  connect(process: SimProcess, options: WorldConnectOptions = {}): Promise<Conclave> {
    const { label, marginMs, namespace, signal, ttlSeconds, ...its } = options;
    return connectWith(this.client(process, its), { label, marginMs, namespace, signal, ttlSeconds });
  }

  /** Ends a process as SIGKILL does. */
  kill(process: SimProcess): void {
    process.kill();
    this.network.cut({ process });
  }

  /** Lets time pass, and all that happens in it. */
  async run(ms: number, done?: () => boolean): Promise<void> {
    await this.timeline.run(this.timeline.nowMs + ms, done);
  }

  /** Ends the world: its clients are closed, and nothing happens any more. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.#clients) void client.close();
    this.server.close();
    await Promise.resolve();
    this.#restore();
  }
}
