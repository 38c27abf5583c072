/** The network of the simulated world: connections of processes to members, on which each message is an event. */
import { EventEmitter } from 'node:events';
import { Readable } from 'node:stream';

import { type ClientReadableStream, Metadata, type ServiceError, status } from '@grpc/grpc-js';

import type { ClientRpc } from '../../proto/rpc.js';
import { Deferred } from '../../util/deferred.js';
import type {
  Message,
  Outcome,
  Readiness,
  Sent,
  Transport,
  Wire,
  WireStream,
} from '../../etcd/transport/wire.js';
import { carrierOf, carry } from './carried.js';
import type { Random } from './random.js';
import type { SimMember } from './sim-member.js';
import type { ServerEnd } from './sim-server.js';
import type { SimProcess } from './sim-process.js';
import type { Timeline } from './timeline.js';

/** How messages fare. */
export interface Weather {
  /** How long a message takes, in milliseconds: from, up to. */
  readonly latencyMs: readonly [number, number];
  /** The share of messages on which the connection is cut: before they arrive, or when they just have. */
  readonly cuts: number;
  /** The share of requests that arrive, up to some seconds, after their connection was cut. */
  readonly late: number;
}

const CALM: Weather = { cuts: 0, late: 0, latencyMs: [0.2, 2] };
const LATEST_MS = 5000;
const PING_MS = 8000;
const RECONNECT_MS = [50, 1000] as const;

export class Network {
  readonly timeline: Timeline;
  readonly random: Random;
  readonly members: readonly SimMember[];
  weather: Weather = CALM;
  /** What has been done to messages. */
  readonly counts = { cut: 0, late: 0, messages: 0 };
  readonly #wires = new Set<SimWire>();

  constructor(timeline: Timeline, random: Random, members: readonly SimMember[]) {
    this.timeline = timeline;
    this.random = random;
    this.members = members;
    for (const member of members) member.cut = () => this.cut({ member });
  }

  /** @internal What carries the messages of a process. */
  transport(process: SimProcess): Transport {
    return (url) => {
      const member = this.members.find((each) => each.url === url);
      if (member === undefined) throw new TypeError(`there is no ${url} in this world`);
      return {
        findMisfit: () => Promise.resolve(undefined),
        open: () => {
          const wire = new SimWire(this, process, member);
          this.#wires.add(wire);
          return wire;
        },
      };
    };
  }

  /** Cuts the connections of a process, or to a member, or all. */
  cut(of?: { readonly process?: SimProcess; readonly member?: SimMember }): void {
    for (const wire of this.#wires)
      if ((of?.process ?? wire.process) === wire.process && (of?.member ?? wire.member) === wire.member)
        wire.cut();
  }

  /** @internal */
  forget(wire: SimWire): void {
    this.#wires.delete(wire);
  }

  get latencyMs(): number {
    return this.random.between(...this.weather.latencyMs);
  }
}

/** What is under way on a connection, and can end with it. */
interface UnderWay {
  failed(error: ServiceError, refused: boolean): void;
}

type State =
  | { readonly is: 'idle' }
  | { readonly is: 'connecting' }
  | { readonly is: 'failed' }
  | { readonly is: 'ready'; readonly connection: Connection };

/** One connection, from when it is up to when it is cut. */
class Connection {
  readonly underWay = new Set<UnderWay>();
  isCut = false;
  /** A message on it is stuck: what comes after it does not arrive before, so not at all. */
  isStuck = false;
}

class SimWire implements Wire {
  readonly process: SimProcess;
  readonly member: SimMember;
  readonly #network: Network;
  /** Calls that wait for a connection. */
  readonly #waiting = new Set<(connection: Connection | undefined) => void>();
  #state: State = { is: 'idle' };
  #closed = false;
  #failures = 0;
  #changed: Deferred<void> | undefined;

  constructor(network: Network, process: SimProcess, member: SimMember) {
    this.#network = network;
    this.process = process;
    this.member = member;
  }

  readiness(connect: boolean): Readiness {
    if (connect) this.#connect();
    const { is } = this.#state;
    if (is === 'ready') return 'ready';
    return is === 'failed' || this.#closed ? 'failed' : 'connecting';
  }

  changed(): Promise<void> {
    this.#changed ??= new Deferred<void>();
    return this.#changed.promise;
  }

  unary<Request, Reply>(message: Message<Request, Reply>, done: (outcome: Outcome<Reply>) => void): Sent {
    const { path } = message.rpc;
    const { bytes, message: request } = carry(carrierOf(path).request, message.request);
    const token = tokenOf(message.metadata);
    let over = false;
    let connection: Connection | undefined;
    const end = (outcome: Outcome<Reply>): void => {
      if (over) return;
      over = true;
      connection?.underWay.delete(underWay);
      done(outcome);
    };
    const underWay: UnderWay = { failed: (error, refused) => end({ error, refused }) };
    const go = (given: Connection | undefined): void => {
      if (over) return;
      if (given === undefined) {
        end({ error: NOT_CONNECTED, refused: false });
        return;
      }
      connection = given;
      given.underWay.add(underWay);
      this.toServer(given, () => {
        this.member.answer({ bytes, path, request, token }, (answer) => {
          this.toClient(given, () => {
            if (over) return;
            message.onBegun?.();
            if ('reply' in answer) end({ reply: answer.reply as Reply });
            else end({ error: failure(answer.code, answer.details), refused: false });
          });
        });
      });
    };
    const stopWaiting = this.withConnection(go);
    return {
      cancel: () => {
        over = true;
        connection?.underWay.delete(underWay);
        stopWaiting();
      },
      hasLeft: () => connection !== undefined,
    };
  }

  duplex<Request, Reply>(rpc: ClientRpc<Request, Reply>, metadata: Metadata): WireStream<Request, Reply> {
    return new SimStream(this, this.#network.timeline, rpc, tokenOf(metadata));
  }

  /** Of this world's servers, none knows a call that answers in parts. */
  download<Request, Reply>(rpc: ClientRpc<Request, Reply>): ClientReadableStream<Reply> {
    const refused = failure(status.UNIMPLEMENTED, `unknown method ${rpc.path}`);
    const stream = new Readable({
      destroy(error, done) {
        stream.emit('status', refused);
        done(error);
      },
      objectMode: true,
      read() {
        stream.destroy(refused);
      },
    });
    return Object.assign(stream, {
      cancel: () => stream.destroy(),
    }) as unknown as ClientReadableStream<Reply>;
  }

  close(): void {
    this.#closed = true;
    this.cut();
    this.#network.forget(this);
    this.#failWaiting();
  }

  /** The connection is gone, and with it all that was under way on it. */
  cut(): void {
    if (this.#state.is !== 'ready') return;
    const { connection } = this.#state;
    connection.isCut = true;
    this.#enter({ is: 'idle' });
    const { timeline } = this.#network;
    timeline.after(0, () =>
      this.process.deliver(() => {
        for (const each of [...connection.underWay]) each.failed(CUT, false);
        connection.underWay.clear();
      }),
    );
  }

  /** Has a stream or call go ahead once there is a connection; with undefined when none comes about. Returns how to stop waiting. */
  withConnection(go: (connection: Connection | undefined) => void): () => void {
    const stop = (): void => void this.#waiting.delete(go);
    if (this.#closed) {
      go(undefined);
      return stop;
    }
    if (this.#state.is === 'ready') {
      go(this.#state.connection);
      return stop;
    }
    this.#waiting.add(go);
    if (this.#state.is === 'failed') this.#network.timeline.after(0, () => this.#failWaiting());
    else this.#connect();
    return stop;
  }

  /** Sends a request on. Returns when it arrives. */
  toServer(connection: Connection, arrive: () => void, notBeforeMs = 0): number {
    const { counts, random, timeline, weather } = this.#network;
    counts.messages += 1;
    const atMs = Math.max(notBeforeMs, timeline.nowMs + this.#network.latencyMs);
    if (connection.isStuck) return atMs;
    if (random.chance(weather.late)) {
      counts.late += 1;
      connection.isStuck = true;
      timeline.after(random.between(0, 50), () => this.#cutIf(connection));
      timeline.after(random.between(50, LATEST_MS), () => {
        this.member.pass(arrive);
      });
      return atMs;
    }
    if (random.chance(weather.cuts)) {
      counts.cut += 1;
      const isBefore = random.chance(0.5);
      timeline.at(atMs, () => {
        this.#cutIf(connection);
        if (!isBefore) arrive();
      });
      return atMs;
    }
    timeline.at(atMs, () => {
      this.member.pass(() => {
        if (!connection.isCut) arrive();
      });
    });
    if (this.member.state === 'silent') this.#ping(connection);
    return atMs;
  }

  /** Sends an answer on. Returns when it arrives. */
  toClient(connection: Connection, arrive: () => void, notBeforeMs = 0): number {
    const { counts, random, timeline, weather } = this.#network;
    counts.messages += 1;
    const atMs = Math.max(notBeforeMs, timeline.nowMs + this.#network.latencyMs);
    const isCut = random.chance(weather.cuts);
    if (isCut) counts.cut += 1;
    timeline.at(atMs, () => {
      if (isCut) this.#cutIf(connection);
      this.member.pass(() => {
        if (!connection.isCut) this.process.deliver(arrive);
      });
    });
    return atMs;
  }

  /** A member that says nothing is noticed by pings. */
  #ping(connection: Connection): void {
    this.#network.timeline.after(PING_MS, () => {
      if (this.member.state === 'silent') this.#cutIf(connection);
    });
  }

  #cutIf(connection: Connection): void {
    if (this.#state.is === 'ready' && this.#state.connection === connection) this.cut();
  }

  #connect(): void {
    if (this.#closed || this.#state.is !== 'idle') return;
    this.#enter({ is: 'connecting' });
    const { timeline } = this.#network;
    const waitMs = this.member.state === 'silent' ? 20_000 : this.#network.latencyMs;
    timeline.after(waitMs, () => this.process.deliver(() => this.#connected()));
  }

  #connected(): void {
    if (this.#closed || this.#state.is !== 'connecting') return;
    if (this.member.state === 'up') {
      this.#failures = 0;
      const connection = new Connection();
      this.#enter({ connection, is: 'ready' });
      for (const go of [...this.#waiting]) {
        this.#waiting.delete(go);
        go(connection);
      }
      return;
    }
    this.#failures += 1;
    this.#enter({ is: 'failed' });
    this.#failWaiting();
    const [base, most] = RECONNECT_MS;
    this.#network.timeline.after(Math.min(most, base * 1.6 ** this.#failures), () =>
      this.process.deliver(() => {
        if (this.#state.is !== 'failed' || this.#closed) return;
        this.#enter({ is: 'idle' });
        this.#connect();
      }),
    );
  }

  #failWaiting(): void {
    for (const go of [...this.#waiting]) {
      this.#waiting.delete(go);
      go(undefined);
    }
  }

  #enter(state: State): void {
    this.#state = state;
    this.#changed?.resolve();
    this.#changed = undefined;
  }
}

/** The client's end of a stream. Messages of each direction keep their order. */
class SimStream<Request, Reply> extends EventEmitter {
  readonly #wire: SimWire;
  readonly #rpc: ClientRpc<Request, Reply>;
  readonly #token: string | undefined;
  readonly #stopWaiting: () => void;
  readonly #underWay: UnderWay = { failed: (error) => this.#end(error) };
  /** What was written before there was a connection. */
  readonly #unsent: unknown[] = [];
  #connection: Connection | undefined;
  #server: ServerEnd | undefined;
  #lastToServerMs = 0;
  #lastToClientMs = 0;
  #over = false;
  #isTold = false;

  constructor(wire: SimWire, timeline: Timeline, rpc: ClientRpc<Request, Reply>, token: string | undefined) {
    super();
    this.#wire = wire;
    this.#rpc = rpc;
    this.#token = token;
    this.#stopWaiting = wire.withConnection((connection) => {
      // Nobody listens yet when there is one at once.
      timeline.after(0, () => wire.process.deliver(() => this.#begin(connection)));
    });
  }

  write(request: Request): boolean {
    if (this.#over) return false;
    const message = carrierOf(this.#rpc.path).request(request);
    if (this.#connection === undefined) this.#unsent.push(message);
    else this.#send(this.#connection, message);
    return true;
  }

  cancel(): void {
    if (this.#over) return;
    this.#over = true;
    this.#stopWaiting();
    const { process } = this.#wire;
    const connection = this.#connection;
    connection?.underWay.delete(this.#underWay);
    process.clock.soon?.(() => this.#tell(failure(status.CANCELLED, 'Cancelled on client')));
    if (connection !== undefined)
      this.#wire.toServer(connection, () => this.#server?.leave(), this.#lastToServerMs);
  }

  #begin(connection: Connection | undefined): void {
    if (this.#over) return;
    if (connection === undefined || connection.isCut) {
      this.#end(connection === undefined ? NOT_CONNECTED : CUT);
      return;
    }
    this.#connection = connection;
    connection.underWay.add(this.#underWay);
    this.#lastToServerMs = this.#wire.toServer(connection, () => {
      this.#server = this.#wire.member.open(this.#rpc.path, this.#token, {
        data: (message) => {
          const reply = (): void => {
            if (!this.#over) this.emit('data', message);
          };
          this.#lastToClientMs = this.#wire.toClient(connection, reply, this.#lastToClientMs);
        },
        end: (code, details) => {
          const ended = (): void => this.#end(failure(code, details));
          this.#lastToClientMs = this.#wire.toClient(connection, ended, this.#lastToClientMs);
        },
      });
    });
    for (const message of this.#unsent.splice(0)) this.#send(connection, message);
  }

  #send(connection: Connection, message: unknown): void {
    this.#lastToServerMs = this.#wire.toServer(
      connection,
      () => this.#server?.receive(message),
      this.#lastToServerMs,
    );
  }

  #end(error: ServiceError): void {
    if (this.#over) return;
    this.#over = true;
    this.#connection?.underWay.delete(this.#underWay);
    // The server notices, too, sooner or later.
    const server = this.#server;
    if (server !== undefined) this.#wire.process.clock.setTimer(1, () => server.leave());
    this.#tell(error);
  }

  #tell(error: ServiceError): void {
    if (this.#isTold) return;
    this.#isTold = true;
    if (error.code === status.OK) this.emit('end');
    else if (this.listenerCount('error') > 0) this.emit('error', error);
    this.emit('status', error);
  }
}

function tokenOf(metadata: Metadata): string | undefined {
  const [token] = metadata.get('token');
  return token === undefined ? undefined : String(token);
}

function failure(code: status, details: string): ServiceError {
  const error = new Error(`${String(code)} ${status[code]}: ${details}`);
  return Object.assign(error, { code, details, metadata: new Metadata() });
}

const CUT = failure(status.UNAVAILABLE, 'Connection dropped');
const NOT_CONNECTED = failure(
  status.UNAVAILABLE,
  'No connection established. Last error: connect ECONNREFUSED. Resolution note: ',
);
