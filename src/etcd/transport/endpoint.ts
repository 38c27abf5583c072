/** One member of the cluster: its channel, and what is known of its health. */
import { Client as Channel, connectivityState } from '@grpc/grpc-js';

import { ConclaveError } from '../../errors/conclave-error.js';
import { onAbort } from '../../util/abort.js';
import type { Clock } from '../../util/clock.js';
import { Deferred } from '../../util/deferred.js';
import { type Address, parseEndpoint } from './address.js';
import { findMisfit } from './probe.js';
import { Pulse } from './pulse.js';
import { security, type TlsOptions } from './tls.js';

/** How far a connection attempt has come. */
export type Readiness = 'ready' | 'failed' | 'connecting';

/**
 * etcd closes connections that are pinged more often than every 5 s. A dead peer is so noticed within 8 s.
 * https://github.com/etcd-io/etcd/issues/8905
 */
const PING_EVERY_MS = 6000;
const PING_TIMEOUT_MS = 2000;
/** How long the finding of a probe is believed. */
const PROBE_EVERY_MS = 5000;

/** One member of the cluster: its channel, and what is known of its health. */
export class Endpoint {
  readonly url: string;
  /** Drawn once: a client is at home with the member of the highest, so that a fleet is spread, and moves little when members come or go. */
  readonly lot = Math.random();
  /** Monotonic time until which others are preferred; 0 when nothing speaks against it. */
  suspectUntil = 0;
  /** It has turned out not to be etcd, or we are not let in: it is used only when there is no other. */
  unfit = false;
  /** How long the last reply took, in milliseconds; 0 before the first. */
  replyMs = 0;
  /** Whether it is alive, beyond what is asked of it. */
  readonly pulse: Pulse;
  readonly #address: Address;
  readonly #security: ReturnType<typeof security>;
  readonly #clock: Clock;
  readonly #closing = new AbortController();
  #lastReplyAt = 0;
  #probe: { readonly at: number; readonly done: Promise<void> } | undefined;
  #misfit: string | undefined;
  #channel: Channel | undefined;
  #changed: Deferred<void> | undefined;
  #underWay = 0;
  /** Told when the last call of an endpoint that is left has ended. */
  #whenLeft: (() => void) | undefined;

  constructor(url: string, tls: TlsOptions | undefined, clock: Clock) {
    this.url = url;
    this.#address = parseEndpoint(url, tls !== undefined);
    this.#security = security(this.#address, tls);
    this.#clock = clock;
    this.pulse = new Pulse(() => this.channel, clock);
  }

  get channel(): Channel {
    if (this.#closing.signal.aborted)
      throw new ConclaveError('CLOSED', `the client of ${this.url} is closed`);
    this.#channel ??= new Channel(this.#address.target, this.#security.credentials, {
      'grpc.enable_http_proxy': 0,
      // A name is looked up whenever a connection fails: what moves is found when it is there.
      'grpc.dns_min_time_between_resolutions_ms': 500,
      // What may be sent again is decided here, by what a call does.
      'grpc.enable_retries': 0,
      'grpc.initial_reconnect_backoff_ms': 50,
      'grpc.keepalive_permit_without_calls': 0,
      'grpc.keepalive_time_ms': PING_EVERY_MS,
      'grpc.keepalive_timeout_ms': PING_TIMEOUT_MS,
      'grpc.max_receive_message_length': -1,
      'grpc.max_reconnect_backoff_ms': 1000,
      'grpc.max_send_message_length': -1,
      'grpc.service_config_disable_resolution': 1,
      'grpc.use_local_subchannel_pool': 1,
      ...this.#security.options,
    });
    return this.#channel;
  }

  /** Whether a call would be sent at once. */
  get ready(): boolean {
    return (
      this.#channel !== undefined &&
      readiness(this.#channel.getChannel().getConnectivityState(false)) === 'ready'
    );
  }

  /** What gRPC calls the peer of a call that has not been given a connection. */
  get noPeer(): string {
    return this.channel.getChannel().getTarget();
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
        const state = this.channel.getChannel().getConnectivityState(true);
        const now = readiness(state);
        if (now === 'failed') await Promise.race([this.#examine(), stopped.promise]);
        if (now !== 'connecting') return now;
        await Promise.race([this.#stateChange(state), stopped.promise]);
      }
    } finally {
      stop();
    }
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

  /** It is not to be asked any more. Its channel is closed as soon as nothing is under way on it; then `whenLeft` is told. */
  retire(whenLeft: () => void): void {
    this.#whenLeft = whenLeft;
    this.#leaveIfIdle();
  }

  /** Ends the channel for good. */
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
    this.#channel?.close();
    this.#channel = undefined;
    this.#changed?.resolve();
    this.#changed = undefined;
  }

  /** Looks for what is wrong, after a connection has failed. What has answered once is etcd: then it passes by itself. */
  #examine(): Promise<void> {
    const now = this.#clock.now();
    if (this.#lastReplyAt > 0) return Promise.resolve();
    if (this.#probe === undefined || now - this.#probe.at >= PROBE_EVERY_MS) {
      const limits = { clock: this.#clock, signal: this.#closing.signal };
      const done = findMisfit(this.#address, limits).then((misfit) => {
        this.#misfit = misfit;
        this.unfit = misfit !== undefined;
      });
      this.#probe = { at: now, done };
    }
    return this.#probe.done;
  }

  /** Resolves when the channel leaves `state`. All who wait share one watcher, since gRPC cannot take one back. */
  #stateChange(state: connectivityState): Promise<void> {
    if (this.#changed === undefined) {
      const changed = new Deferred<void>();
      this.#changed = changed;
      this.channel.getChannel().watchConnectivityState(state, Infinity, () => {
        if (this.#changed === changed) this.#changed = undefined;
        changed.resolve();
      });
    }
    return this.#changed.promise;
  }
}

function readiness(state: connectivityState): Readiness {
  if (state === connectivityState.READY) return 'ready';
  return state === connectivityState.TRANSIENT_FAILURE || state === connectivityState.SHUTDOWN
    ? 'failed'
    : 'connecting';
}
