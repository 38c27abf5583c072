/**
 * One rpc: its path, whether its sides stream, and the codecs of both sides. `In` types go into an encoder, `Out` types
 * come out of a decoder. The shape is the one `@grpc/proto-loader` makes and `@grpc/grpc-js` takes.
 */
export interface Rpc<RequestIn, RequestOut, ResponseIn, ResponseOut> {
  /** For instance `/etcdserverpb.KV/Range`. */
  readonly path: string;
  readonly requestStream: boolean;
  readonly responseStream: boolean;
  readonly requestSerialize: (value: RequestIn) => Buffer;
  readonly requestDeserialize: (bytes: Buffer) => RequestOut;
  readonly responseSerialize: (value: ResponseIn) => Buffer;
  readonly responseDeserialize: (bytes: Buffer) => ResponseOut;
}

/** One rpc seen from the client's side: what it sends and what it gets. */
export type ClientRpc<Request, Reply> = Rpc<Request, unknown, never, Reply>;
