/** The wire that real members are on: a channel of gRPC. */
import {
  type ChannelCredentials,
  type ChannelOptions,
  Client as Channel,
  type ClientReadableStream,
  connectivityState,
  type Metadata,
} from '@grpc/grpc-js';

import type { ClientRpc } from '../../proto/rpc.js';
import { Deferred } from '../../util/deferred.js';
import { parseEndpoint } from './address.js';
import { findMisfit } from './probe.js';
import { security, type TlsOptions } from './tls.js';
import { startUnary } from './unary.js';
import type { Message, Outcome, Readiness, Sent, Transport, Wire, WireStream } from './wire.js';

/**
 * etcd closes connections that are pinged more often than every 5 s. A dead peer is so noticed within 8 s.
 * https://github.com/etcd-io/etcd/issues/8905
 */
const PING_EVERY_MS = 6000;
const PING_TIMEOUT_MS = 2000;

/** Carries messages by gRPC, with this security. */
export function grpcTransport(tls: TlsOptions | undefined): Transport {
  return (url) => {
    const address = parseEndpoint(url, tls !== undefined);
    const { credentials, options } = security(address, tls);
    return {
      findMisfit: (limits) => findMisfit(address, limits),
      open: () => new GrpcWire(address.target, credentials, options),
    };
  };
}

class GrpcWire implements Wire {
  readonly #channel: Channel;
  #changed: Deferred<void> | undefined;

  constructor(target: string, credentials: ChannelCredentials, options: ChannelOptions) {
    this.#channel = new Channel(target, credentials, {
      'grpc.enable_http_proxy': 0,
      // A name is looked up whenever a connection fails: what moves is found when it is there.
      'grpc.dns_min_time_between_resolutions_ms': 500,
      // What may be sent again is decided above, by what a call does.
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
      ...options,
    });
  }

  readiness(connect: boolean): Readiness {
    return readinessOf(this.#channel.getChannel().getConnectivityState(connect));
  }

  /** All who wait share one watcher, since gRPC cannot take one back. */
  changed(): Promise<void> {
    if (this.#changed === undefined) {
      const changed = new Deferred<void>();
      this.#changed = changed;
      const channel = this.#channel.getChannel();
      channel.watchConnectivityState(channel.getConnectivityState(false), Infinity, () => {
        if (this.#changed === changed) this.#changed = undefined;
        changed.resolve();
      });
    }
    return this.#changed.promise;
  }

  unary<Request, Reply>(message: Message<Request, Reply>, done: (outcome: Outcome<Reply>) => void): Sent {
    return startUnary(this.#channel.getChannel(), message, done);
  }

  duplex<Request, Reply>(rpc: ClientRpc<Request, Reply>, metadata: Metadata): WireStream<Request, Reply> {
    const { path, requestSerialize, responseDeserialize } = rpc;
    return this.#channel.makeBidiStreamRequest(path, requestSerialize, responseDeserialize, metadata);
  }

  download<Request, Reply>(
    rpc: ClientRpc<Request, Reply>,
    request: Request,
    metadata: Metadata,
  ): ClientReadableStream<Reply> {
    const { path, requestSerialize, responseDeserialize } = rpc;
    return this.#channel.makeServerStreamRequest(
      path,
      requestSerialize,
      responseDeserialize,
      request,
      metadata,
    );
  }

  close(): void {
    this.#channel.close();
    this.#changed?.resolve();
    this.#changed = undefined;
  }
}

function readinessOf(state: connectivityState): Readiness {
  if (state === connectivityState.READY) return 'ready';
  return state === connectivityState.TRANSIENT_FAILURE || state === connectivityState.SHUTDOWN
    ? 'failed'
    : 'connecting';
}
