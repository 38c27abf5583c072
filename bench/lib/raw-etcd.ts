import { Client, credentials, Metadata, type ClientDuplexStream } from '@grpc/grpc-js';
import type { Event, WatchRequestInput, WatchResponse } from '#conclave/proto/messages.gen.js';
import type { ClientRpc } from '#conclave/proto/rpc.js';
import { services } from '#conclave/proto/services.js';

/** What a watch of `RawEtcd` calls for each batch of events. */
type Listener = (events: readonly Event[]) => void;

/**
 * etcd's calls over grpc-js and nothing else: no deadline, no retry, no failover. What a comparison stands on that must
 * not pay for what our client does. All watches share one stream, as in Go's client.
 */
export class RawEtcd {
  readonly #client: Client;
  readonly #metadata = new Metadata();
  #stream: ClientDuplexStream<WatchRequestInput, WatchResponse> | undefined;
  readonly #creating: ((id: bigint) => void)[] = [];
  readonly #listeners = new Map<bigint, Listener>();

  constructor(endpoint: string) {
    this.#client = new Client(endpoint.replace(/^http:\/\//, ''), credentials.createInsecure(), {
      'grpc.use_local_subchannel_pool': 1,
    });
  }

  /** One unary call. */
  call<Request, Reply>(rpc: ClientRpc<Request, Reply>, request: NoInfer<Request>): Promise<Reply> {
    return new Promise((resolve, reject) => {
      this.#client.makeUnaryRequest(
        rpc.path,
        rpc.requestSerialize,
        rpc.responseDeserialize,
        request,
        this.#metadata,
        (error, reply) => {
          if (error !== null || reply === undefined) reject(error ?? new Error('no reply'));
          else resolve(reply);
        },
      );
    });
  }

  /** Opens a watch; resolves, once the server has created it, with how to cancel it. */
  watch(
    key: Uint8Array,
    startRevision: bigint,
    listener: Listener,
    rangeEnd?: Uint8Array,
  ): Promise<() => void> {
    const stream = this.#watchStream();
    return new Promise((resolve) => {
      this.#creating.push((id) => {
        this.#listeners.set(id, listener);
        resolve(() => {
          this.#listeners.delete(id);
          stream.write({ cancelRequest: { watchId: id } });
        });
      });
      stream.write({ createRequest: { key, rangeEnd, startRevision } });
    });
  }

  close(): void {
    this.#stream?.cancel();
    this.#client.close();
  }

  #watchStream(): ClientDuplexStream<WatchRequestInput, WatchResponse> {
    if (this.#stream !== undefined) return this.#stream;
    const { path, requestSerialize, responseDeserialize } = services.Watch.Watch;
    const stream = this.#client.makeBidiStreamRequest(
      path,
      requestSerialize,
      responseDeserialize,
      this.#metadata,
    );
    // Only our own cancel ends it; a server that goes away fails the calls, and with them the run.
    stream.on('error', () => undefined);
    stream.on('data', (response: WatchResponse) => {
      if (response.created) this.#creating.shift()?.(response.watchId);
      else this.#listeners.get(response.watchId)?.(response.events);
    });
    this.#stream = stream;
    return stream;
  }
}
