import { Client, credentials, type ServiceError } from '@grpc/grpc-js';

import type { ClientRpc } from '#conclave/proto/rpc.js';

/** gRPC to a server and nothing in between: what it says is what the test sees. */
export class BareChannel implements Disposable {
  readonly grpc: Client;

  constructor(endpoint: string) {
    this.grpc = new Client(new URL(endpoint).host, credentials.createInsecure());
  }

  /** Rejects with gRPC's own error. */
  call<Request, Reply>(rpc: ClientRpc<Request, Reply>, request: NoInfer<Request>): Promise<Reply> {
    const { path, requestSerialize, responseDeserialize } = rpc;
    const options = { deadline: Date.now() + 30_000 };
    return new Promise((resolve, reject) => {
      const done = (error: ServiceError | null, reply?: Reply): void => {
        if (error !== null) reject(error);
        else resolve(reply as Reply);
      };
      this.grpc.makeUnaryRequest(path, requestSerialize, responseDeserialize, request, options, done);
    });
  }

  [Symbol.dispose](): void {
    this.grpc.close();
  }
}
