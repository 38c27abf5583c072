/** One member of the cluster: its wire, and what is known of its health. */
import { ConclaveError } from '../../errors/conclave-error.js';
import { onAbort } from '../../util/abort.js';
import type { Clock } from '../../util/clock.js';
import { Deferred } from '../../util/deferred.js';
import { Pulse } from './pulse.js';
import type { Place, Readiness, Transport, Wire } from './wire.js';
import { chance } from '../../util/chance.js';

/** How long the finding of a probe is believed. */
const PROBE_EVERY_MS = 5000;

/** One member of the cluster: its wire, and what is known of its health. */
export class Endpoint {
  readonly url: string;
  /** Drawn once: a client is at home with the member of the highest, so that a fleet is spread, and moves little when members come or go. */
  readonly lot = chance.fraction();
  /** Monotonic time until which others are preferred; 0 when nothing speaks against it. */
  suspectUntil = 0;
  /** It has turned out not to be etcd, or we are not let in: it is used only when there is no other. */
  unfit = false;
  /** How long the last reply took, in milliseconds; 0 before the first. */
  replyMs = 0;
  /** Whether it is alive, beyond what is asked of it. */
  readonly pulse: Pulse;
  readonly #place: Place;
  readonly #clock: Clock;
  readonly #closing = new AbortController();
  #lastReplyAt = 0;
  #probe: { readonly at: number; readonly done: Promise<void> } | undefined;
  #misfit: string | undefined;
  #wire: Wire | undefined;
  #underWay = 0;
  /** The paths of calls that it does not know. */
  readonly #unknown = new Set<string>();
  /** Told when the last call of an endpoint that is left has ended. */
  #whenLeft: (() => void) | undefined;

  constructor(url: string, transport: Transport, clock: Clock) {
    this.url = url;
    this.#place = transport(url);
    this.#clock = clock;
    this.pulse = new Pulse(() => this.wire, clock);
  }

  /** What carries messages to it. Throws `CLOSED` when the client is closed. */
  get wire(): Wire {
    if (this.#closing.signal.aborted)
      throw new ConclaveError('CLOSED', `the client of ${this.url} is closed`);
    this.#wire ??= this.#place.open();
    return this.#wire;
  }

  /** Whether a call would be sent at once. */
  get ready(): boolean {
    return this.#wire?.readiness(false) === 'ready';
  }

  get suspect(): boolean {
    return this.unfit || this.suspectUntil > this.#clock.now();
  }

  /** Monotonic time of the last reply of any kind; 0 before the first. */
  get lastReplyAt(): number {
    return this.#lastReplyAt;
  }

  /** What speaks there instead of etcd, as a sentence; undefined as long as nothing is known against it. */
  get misfit(): string | undefined {
    return this.#misfit;
  }

  /** It has said something. */
  heard(now: number): void {
    this.#lastReplyAt = now;
    this.pulse.felt(now);
    this.unfit = false;
    this.#misfit = undefined;
  }

  /** A reply to what was sent at `sentAt` has come. */
  replied(now: number, sentAt: number): void {
    this.heard(now);
    this.replyMs = now - sentAt;
  }

  /** Resolves once the connection is up or has failed, or `signal` aborts: then with how far it came. */
  async connect(signal: AbortSignal): Promise<Readiness> {
    const stopped = new Deferred<void>();
    const stop = onAbort(signal, () => stopped.resolve());
    try {
      for (;;) {
        if (signal.aborted) return 'connecting';
        if (this.#closing.signal.aborted) return 'failed';
        const { wire } = this;
        const now = wire.readiness(true);
        if (now === 'failed') await Promise.race([this.#examine(), stopped.promise]);
        if (now !== 'connecting') return now;
        await Promise.race([wire.changed(), stopped.promise]);
      }
    } finally {
      stop();
    }
  }

  /** It has said that it does not know a call. That is believed until its connection is another one. */
  lacks(path: string): void {
    if (this.#unknown.size === 0) void this.wire.changed().then(() => this.#unknown.clear());
    this.#unknown.add(path);
  }

  /** Whether a call is worth asking it for. */
  mayKnow(path: string): boolean {
    return !this.#unknown.has(path);
  }

  /** A call or stream begins; it says when it has `ended`. */
  began(): void {
    this.#underWay += 1;
  }

  ended(): void {
    this.#underWay -= 1;
    this.#leaveIfIdle();
  }

  /** Whether it is none of the client's endpoints any more. */
  get retired(): boolean {
    return this.#whenLeft !== undefined;
  }

  /** It is not to be asked any more. Its wire is closed as soon as nothing is under way on it; then `whenLeft` is told. */
  retire(whenLeft: () => void): void {
    this.#whenLeft = whenLeft;
    this.#leaveIfIdle();
  }

  /** Ends the wire for good. */
  close(): void {
    this.#closing.abort();
    this.#shut();
  }

  #leaveIfIdle(): void {
    if (this.#whenLeft === undefined || this.#underWay > 0) return;
    // A call that had chosen it just before opens it once more, for that call.
    this.#shut();
    this.#whenLeft();
  }

  #shut(): void {
    this.pulse.stop();
    this.#wire?.close();
    this.#wire = undefined;
  }

  /** Looks for what is wrong, after a connection has failed. What has answered once is etcd: then it passes by itself. */
  #examine(): Promise<void> {
    const now = this.#clock.now();
    if (this.#lastReplyAt > 0) return Promise.resolve();
    if (this.#probe === undefined || now - this.#probe.at >= PROBE_EVERY_MS) {
      const limits = { clock: this.#clock, signal: this.#closing.signal };
      const done = this.#place.findMisfit(limits).then((misfit) => {
        this.#misfit = misfit;
        this.unfit = misfit !== undefined;
      });
      this.#probe = { at: now, done };
    }
    return this.#probe.done;
  }
}
