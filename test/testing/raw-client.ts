import {
  type ClientDuplexStream,
  type ClientReadableStream,
  Client,
  credentials,
  type ServiceError,
} from '@grpc/grpc-js';
import { type ClientRpc } from '#conclave/proto/rpc.js';
import { services } from '#conclave/proto/services.js';

/** Calls etcd with nothing of Conclave between: what the proxy does is seen as it is. */
export class RawClient implements Disposable {
  readonly #client: Client;

  constructor(endpoint: string) {
    this.#client = new Client(new URL(endpoint).host, credentials.createInsecure(), {
      'grpc.max_receive_message_length': -1,
      'grpc.use_local_subchannel_pool': 1,
      'grpc.initial_reconnect_backoff_ms': 20,
      'grpc.min_reconnect_backoff_ms': 20,
    });
  }

  call<Request, Reply>(rpc: ClientRpc<Request, Reply>, request: Request, timeoutMs = 5000): Promise<Reply> {
    return new Promise((resolve, reject) => {
      const done = (error: ServiceError | null, reply?: Reply): void => {
        if (error !== null) reject(error);
        else resolve(reply as Reply);
      };
      const options = { deadline: Date.now() + timeoutMs };
      this.#client.makeUnaryRequest(
        rpc.path,
        rpc.requestSerialize,
        rpc.responseDeserialize,
        request,
        options,
        done,
      );
    });
  }

  stream<Request, Reply>(rpc: ClientRpc<Request, Reply>): ClientDuplexStream<Request, Reply> {
    return this.#client.makeBidiStreamRequest(rpc.path, rpc.requestSerialize, rpc.responseDeserialize);
  }

  download<Request, Reply>(rpc: ClientRpc<Request, Reply>, request: Request): ClientReadableStream<Reply> {
    return this.#client.makeServerStreamRequest(
      rpc.path,
      rpc.requestSerialize,
      rpc.responseDeserialize,
      request,
    );
  }

  async put(key: string, value: string | Buffer): Promise<void> {
    await this.call(services.KV.Put, { key: Buffer.from(key), value: Buffer.from(value) });
  }

  async get(key: string): Promise<string | undefined> {
    const { kvs } = await this.call(services.KV.Range, { key: Buffer.from(key) });
    return kvs[0]?.value.toString();
  }

  [Symbol.dispose](): void {
    this.#client.close();
  }
}
