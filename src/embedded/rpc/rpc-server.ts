import {
  type sendUnaryData,
  type Server,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  status,
} from '@grpc/grpc-js';

import type { Rpc } from '../../proto/rpc.js';
import { RpcError } from './rpc-error.js';
import { Turns } from './turns.js';

/** A decoded request and how many bytes it took on the wire. */
interface Sized<Request> {
  readonly request: Request;
  readonly bytes: number;
}

/** What rpcs are registered with: a gRPC server, or a simulated one. */
export interface Rpcs {
  /** One request, one answer. What `handle` throws becomes the call's status. */
  unary<Request, Response>(
    rpc: Rpc<never, Request, Response, unknown>,
    handle: (request: Request, bytes: number) => Response,
  ): void;
  /** One request, many answers. */
  parts<Request, Response>(
    rpc: Rpc<never, Request, Response, unknown>,
    handle: (call: ServerWritableStream<Request, Response>) => void,
  ): void;
  /** Requests and answers as they come. */
  bidi<Request, Response>(
    rpc: Rpc<never, Request, Response, unknown>,
    handle: (call: ServerDuplexStream<Request, Response>) => void,
  ): void;
}

/** Registers rpcs on a gRPC server, one typed handler each. An rpc without a handler answers UNIMPLEMENTED. */
export class RpcServer implements Rpcs {
  readonly #server: Server;
  readonly #turns = new Turns();

  constructor(server: Server) {
    this.#server = server;
  }

  unary<Request, Response>(
    rpc: Rpc<never, Request, Response, unknown>,
    handle: (request: Request, bytes: number) => Response,
  ): void {
    this.#server.register<Sized<Request>, Response>(
      rpc.path,
      (call: ServerUnaryCall<Sized<Request>, Response>, answer: sendUnaryData<Response>) =>
        this.#turns.run(() => {
          let response: Response;
          try {
            response = handle(call.request.request, call.request.bytes);
          } catch (error) {
            answer(statusOf(error));
            return;
          }
          answer(null, response);
        }),
      rpc.responseSerialize,
      (bytes) => ({ request: rpc.requestDeserialize(bytes), bytes: bytes.length }),
      'unary',
    );
  }

  parts<Request, Response>(
    rpc: Rpc<never, Request, Response, unknown>,
    handle: (call: ServerWritableStream<Request, Response>) => void,
  ): void {
    this.#server.register<Request, Response>(
      rpc.path,
      handle,
      rpc.responseSerialize,
      rpc.requestDeserialize,
      'serverStream',
    );
  }

  bidi<Request, Response>(
    rpc: Rpc<never, Request, Response, unknown>,
    handle: (call: ServerDuplexStream<Request, Response>) => void,
  ): void {
    this.#server.register<Request, Response>(
      rpc.path,
      handle,
      rpc.responseSerialize,
      rpc.requestDeserialize,
      'bidi',
    );
  }
}

export function statusOf(error: unknown): { code: status; details: string } {
  if (error instanceof RpcError) return { code: error.code, details: error.message };
  return {
    code: status.INTERNAL,
    details: error instanceof Error ? (error.stack ?? error.message) : String(error),
  };
}
