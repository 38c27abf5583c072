/** Requests that arrive late, a second time: what a client may send again, delivered once more at a random later moment. */
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  type OutgoingHttpHeaders,
} from 'node:http2';

import { services } from '../proto/services.js';
import { systemClock, type Timer } from '../util/clock.js';
import { type FactOptions, type Facts } from './facts.js';
import { payloadOf } from './message-framer.js';

/**
 * What arrives late:
 * - `copy`: each request passes and is answered, and a copy of it comes later. Harsher than any network, since the client
 *   has sent it once and cannot know: only a compare that names a state that never returns is safe from it.
 * - `first`: the request itself is on its way for so long, and its stream is reset, so that the client, which cannot know
 *   what became of it, sends it again if it may: that one passes, and the first comes later. This is what happens when a
 *   member is frozen or cut off for a while. What a client may not send again it must report as of unknown outcome.
 */
export type LateKind = 'copy' | 'first';

/** Which requests arrive late, and when. */
export interface LateCopyOptions {
  /** @default 'copy' */
  readonly kind?: LateKind | undefined;
  /** Repeats the random choices: which requests, and after how long. */
  readonly seed: number;
  /** They come after a random time from 0 to this. @default 10000 */
  readonly withinMs?: number | undefined;
  /** The chance of each request, from 0 to 1. @default 1 */
  readonly chance?: number | undefined;
}

/** Where a relay delivers to. */
interface Destination {
  readonly host: string;
  readonly port: number;
}

interface Pending {
  readonly headers: OutgoingHttpHeaders;
  readonly message: Buffer;
  readonly timer: Timer;
}

const { KV, Lease } = services;

/**
 * Whether a client may send this request again when its answer is lost: a transaction with compares that writes, a lease
 * that is granted under an id, or is revoked. Of plain writes nobody could know how often they were applied.
 */
function mayBeSentAgain(path: string, message: Buffer): boolean {
  switch (path) {
    case KV.Txn.path:
      return KV.Txn.requestDeserialize(message).compare.length > 0;
    case Lease.LeaseGrant.path:
      return Lease.LeaseGrant.requestDeserialize(message).ID !== 0n;
    default:
      return path === Lease.LeaseRevoke.path;
  }
}

/** A running mode of a proxy: takes note of requests, and delivers them late. */
export class LateCopies implements Disposable {
  readonly #kind: LateKind;
  readonly #chance: number;
  readonly #withinMs: number;
  readonly #facts: Facts;
  readonly #destination: Destination;
  readonly #pending = new Set<Pending>();
  /** Requests whose first sending is late: the next that is the same passes. */
  readonly #struck = new Set<string>();
  #upstream: ClientHttp2Session | undefined;
  #random: number;
  #taking = true;
  #taken = 0;
  #arrived = 0;

  constructor(options: LateCopyOptions, destination: Destination, facts: Facts) {
    this.#kind = options.kind ?? 'copy';
    this.#chance = options.chance ?? 1;
    this.#withinMs = options.withinMs ?? 10_000;
    this.#destination = destination;
    this.#facts = facts;
    this.#random = options.seed >>> 0;
  }

  /** How many requests are to arrive late, or have. */
  get taken(): number {
    return this.#taken;
  }

  /** How many of them the server has answered by now; nobody was told. */
  get arrived(): number {
    return this.#arrived;
  }

  /** Takes no more requests; those that were taken still arrive. */
  stop(): void {
    this.#taking = false;
  }

  /** Resolves once all that were taken have arrived; rejects when they have not `timeoutMs` after the last one should. */
  async settled(options: FactOptions = {}): Promise<void> {
    const timeoutMs = this.#withinMs + (options.timeoutMs ?? 10_000);
    const what = `all late copies have arrived (${String(this.#taken)} taken, ${String(this.#arrived)} arrived)`;
    await this.#facts.waitFor(() => this.#arrived === this.#taken, { what, ...options, timeoutMs });
  }

  /** Stops at once: what has not arrived never will. */
  close(): void {
    this.stop();
    for (const { timer } of this.#pending) timer.cancel();
    this.#taken -= this.#pending.size;
    this.#pending.clear();
    this.#upstream?.destroy();
    this.#facts.changed();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** Takes a request, framed as it came, or not. Says which of the two kinds of lateness it is in for. */
  take(path: string, message: Buffer, headers: OutgoingHttpHeaders): LateKind | undefined {
    if (!this.#taking || !mayBeSentAgain(path, payloadOf(message))) return undefined;
    const kind = this.#kind;
    const id = `${path} ${message.toString('latin1')}`;
    if (kind === 'first' && this.#struck.delete(id)) return undefined;
    if (this.#next() >= this.#chance) return undefined;
    if (kind === 'first') this.#struck.add(id);
    this.#taken++;
    const pending: Pending = {
      // Its time had not begun when it was on its way.
      headers: { ...headers, 'grpc-timeout': undefined },
      message: Buffer.from(message),
      timer: systemClock.setTimer(this.#next() * this.#withinMs, () => {
        this.#pending.delete(pending);
        this.#deliver(pending);
      }),
    };
    this.#pending.add(pending);
    return kind;
  }

  #deliver({ headers, message }: Pending): void {
    const stream = this.#open().request(headers);
    stream.on('error', () => undefined);
    stream.on('close', () => {
      this.#arrived++;
      this.#facts.changed();
    });
    stream.resume();
    stream.end(message);
  }

  #open(): { request(headers: OutgoingHttpHeaders): ClientHttp2Stream } {
    if (this.#upstream === undefined || this.#upstream.destroyed || this.#upstream.closed) {
      const { host, port } = this.#destination;
      this.#upstream = connect(`http://${host}:${String(port)}`);
      this.#upstream.on('error', () => undefined);
      // It must not keep a process from ending.
      this.#upstream.unref();
    }
    return this.#upstream;
  }

  /** mulberry32. */
  #next(): number {
    this.#random = (this.#random + 0x6d2b79f5) >>> 0;
    let mixed = this.#random;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }
}
