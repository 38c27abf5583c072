/**
 * What carries messages to a member: gRPC (grpc-wire.ts), or a simulated network (src/testing/sim). What is above it decides
 * whom to ask, how long to wait and what an answer means; what is below it only carries.
 */
import type { ClientReadableStream, Metadata, ServiceError } from '@grpc/grpc-js';

import type { ClientRpc } from '../../proto/rpc.js';
import type { Clock } from '../../util/clock.js';

/** How far a connection attempt has come. */
export type Readiness = 'ready' | 'failed' | 'connecting';

/** What came of a call: its reply, or the status it ended with. */
export type Outcome<Reply> =
  | { readonly reply: Reply }
  | {
      readonly error: ServiceError;
      /** HTTP/2 has refused the request: no part of the server has seen it, and these are not the server's words. */
      readonly refused: boolean;
    };

/** What is sent. */
export interface Message<Request, Reply> {
  readonly rpc: Pick<ClientRpc<Request, Reply>, 'path' | 'requestSerialize' | 'responseDeserialize'>;
  readonly request: NoInfer<Request>;
  readonly metadata: Metadata;
  /** Called when the answer begins to come. */
  readonly onBegun?: (() => void) | undefined;
}

/** A call that is under way. */
export interface Sent {
  /** Ends it; nothing is told of it any more. */
  readonly cancel: () => void;
  /** Whether it was given a connection; until then it has not left. */
  readonly hasLeft: () => boolean;
}

/** A stream in both directions. Its status always comes, after an error or the end; its close need not. */
export interface WireStream<Request, Reply> {
  write(request: Request): unknown;
  cancel(): void;
  on(event: 'data', listener: (reply: Reply) => void): unknown;
  on(event: 'end', listener: () => void): unknown;
  on(event: 'error', listener: (error: ServiceError) => void): unknown;
  once(event: 'status', listener: () => void): unknown;
}

/** A channel to one member, which connects, and connects again, by itself. */
export interface Wire {
  /** How far the connection has come; with `connect`, one is made if there is none. */
  readiness(connect: boolean): Readiness;
  /** Resolves when that is, or may be, different. */
  changed(): Promise<void>;
  /** Makes one call, and tells `done` once what came of it, unless it is cancelled before. */
  unary<Request, Reply>(message: Message<Request, Reply>, done: (outcome: Outcome<Reply>) => void): Sent;
  duplex<Request, Reply>(rpc: ClientRpc<Request, Reply>, metadata: Metadata): WireStream<Request, Reply>;
  download<Request, Reply>(
    rpc: ClientRpc<Request, Reply>,
    request: Request,
    metadata: Metadata,
  ): ClientReadableStream<Reply>;
  /** Ends it for good. What is under way ends by itself. */
  close(): void;
}

/** A place where a member is. */
export interface Place {
  open(): Wire;
  /** What speaks there instead of etcd, as a sentence; undefined when nothing is proven. */
  findMisfit(limits: { readonly clock: Clock; readonly signal: AbortSignal }): Promise<string | undefined>;
}

/** Reads the URL of a member. Throws TypeError for what is none. */
export type Transport = (url: string) => Place;
