import { type ChannelCredentials, Client as Channel, connectivityState, credentials } from '@grpc/grpc-js';

import { ConclaveError } from '../errors/conclave-error.js';
import { onAbort } from '../util/abort.js';
import type { Clock } from '../util/clock.js';
import { Deferred } from '../util/deferred.js';

/** How to speak TLS. Each is the content of a PEM file, not its path. */
export interface TlsOptions {
  /** The authorities to trust. @default those Node trusts */
  readonly ca?: Uint8Array | string | undefined;
  /** Our certificate, when the server asks for one. */
  readonly cert?: Uint8Array | string | undefined;
  /** The key of our certificate. */
  readonly key?: Uint8Array | string | undefined;
  /** The name to expect in the server's certificate, when it differs from the endpoint's host. */
  readonly serverName?: string | undefined;
}

/** An endpoint's address in the form gRPC takes, and whether to speak TLS. */
export interface Address {
  readonly target: string;
  readonly secure: boolean;
}

const HOST_AND_PORT = /^(\[[0-9a-fA-F:.%]+\]|[^:/?#\s[\]]+):(\d{1,5})$/;

/** Reads `http://host:port`, `https://host:port`, `host:port`, `unix:///path` and `unixs:///path`. Throws TypeError. */
export function parseEndpoint(endpoint: unknown, tls: boolean): Address {
  if (typeof endpoint !== 'string')
    throw new TypeError(`an endpoint must be a string, not ${String(endpoint)}`);
  const socket = /^(unixs?):(?:\/\/)?(.+)$/.exec(endpoint);
  if (socket !== null) return { secure: socket[1] === 'unixs', target: `unix:${socket[2] ?? ''}` };
  const parts = /^(?:(https?):\/\/)?(.*?)\/?$/.exec(endpoint);
  const place = HOST_AND_PORT.exec(parts?.[2] ?? '');
  const port = Number(place?.[2]);
  if (parts === null || place === null || port < 1 || port > 65_535) {
    throw new TypeError(
      `endpoint ${JSON.stringify(endpoint)} is not one: give http://HOST:PORT, https://HOST:PORT, HOST:PORT or unix:///PATH`,
    );
  }
  return { secure: parts[1] === undefined ? tls : parts[1] === 'https', target: parts[2] ?? '' };
}

function pem(text: Uint8Array | string | undefined): Buffer | null {
  return text === undefined ? null : Buffer.from(text);
}

function tlsCredentials(tls: TlsOptions | undefined): ChannelCredentials {
  try {
    return credentials.createSsl(pem(tls?.ca), pem(tls?.key), pem(tls?.cert));
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    const text = `tls.ca, tls.cert and tls.key must be the content of PEM files, cert and key given together: ${why}`;
    throw new TypeError(text, { cause: error });
  }
}

/** How far a connection attempt has come. */
export type Readiness = 'ready' | 'failed' | 'connecting';

/**
 * etcd closes connections that are pinged more often than every 5 s. A dead peer is so noticed within 8 s.
 * https://github.com/etcd-io/etcd/issues/8905
 */
const PING_EVERY_MS = 6000;
const PING_TIMEOUT_MS = 2000;

/** One member of the cluster: its channel, and what is known of its health. */
export class Endpoint {
  readonly url: string;
  readonly secure: boolean;
  /** Monotonic time until which others are preferred; 0 when nothing speaks against it. */
  suspectUntil = 0;
  /** Monotonic time of the last reply of any kind. */
  lastReplyAt = 0;
  /** How long the last reply took, in milliseconds; 0 before the first. */
  replyMs = 0;
  readonly #target: string;
  readonly #credentials: ChannelCredentials;
  readonly #clock: Clock;
  readonly #serverName: string | undefined;
  #channel: Channel | undefined;
  #closed = false;
  #changed: Deferred<void> | undefined;

  constructor(url: string, tls: TlsOptions | undefined, clock: Clock) {
    const address = parseEndpoint(url, tls !== undefined);
    this.url = url;
    this.secure = address.secure;
    this.#target = address.target;
    this.#clock = clock;
    this.#serverName = tls?.serverName;
    this.#credentials = address.secure ? tlsCredentials(tls) : credentials.createInsecure();
  }

  get channel(): Channel {
    if (this.#closed) throw new ConclaveError('CLOSED', `the client of ${this.url} is closed`);
    this.#channel ??= new Channel(this.#target, this.#credentials, {
      'grpc.enable_http_proxy': 0,
      'grpc.initial_reconnect_backoff_ms': 50,
      'grpc.keepalive_permit_without_calls': 0,
      'grpc.keepalive_time_ms': PING_EVERY_MS,
      'grpc.keepalive_timeout_ms': PING_TIMEOUT_MS,
      'grpc.max_receive_message_length': -1,
      'grpc.max_reconnect_backoff_ms': 1000,
      'grpc.max_send_message_length': -1,
      'grpc.service_config_disable_resolution': 1,
      'grpc.use_local_subchannel_pool': 1,
      ...(this.#serverName === undefined
        ? {}
        : { 'grpc.default_authority': this.#serverName, 'grpc.ssl_target_name_override': this.#serverName }),
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
    return this.suspectUntil > this.#clock.now();
  }

  /** A reply to what was sent at `sentAt` has come. */
  replied(now: number, sentAt: number): void {
    this.lastReplyAt = now;
    this.replyMs = now - sentAt;
  }

  /** Resolves once the connection is up or has failed, or `signal` aborts: then with how far it came. */
  async connect(signal: AbortSignal): Promise<Readiness> {
    for (;;) {
      if (signal.aborted) return 'connecting';
      if (this.#closed) return 'failed';
      const state = this.channel.getChannel().getConnectivityState(true);
      const now = readiness(state);
      if (now !== 'connecting') return now;
      const stopped = new Deferred<void>();
      const stop = onAbort(signal, () => stopped.resolve());
      await Promise.race([this.#stateChange(state), stopped.promise]);
      stop();
    }
  }

  /** Ends the channel for good. */
  close(): void {
    this.#closed = true;
    this.#channel?.close();
    this.#channel = undefined;
    this.#changed?.resolve();
    this.#changed = undefined;
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
