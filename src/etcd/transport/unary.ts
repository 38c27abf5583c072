/** One unary call on a channel, without what gRPC's own client puts on top. */
import { type Client, type Metadata, type ServiceError, status, type StatusObject } from '@grpc/grpc-js';

import type { ClientRpc } from '../../proto/rpc.js';
import { soon } from '../../util/clock.js';

/** What came of a call: its reply, or gRPC's error. */
export type Outcome<Reply> =
  | { readonly reply: Reply }
  | {
      readonly error: ServiceError;
      /** HTTP/2 has refused the request: no part of the server has seen it, and these are not the server's words. */
      readonly refused: boolean;
    };

/** What is sent, and where. */
export interface Message<Request, Reply> {
  readonly channel: Client;
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
  /** The address of the connection it was given; the channel's target while it waits for one. */
  readonly getPeer: () => string;
}

/** gRPC's words for RST_STREAM with code 7, and for a stream above the last one that a GOAWAY names. */
const REFUSED = 'Stream refused by server';

/**
 * Makes one unary call and calls `done` once, unless it is cancelled before. It goes to the channel itself: what `makeUnaryRequest` puts on top
 * (interceptors, an event emitter, an Error to keep the caller's stack) takes a fifth of a call's time.
 */
export function startUnary<Request, Reply>(
  { channel, metadata, onBegun, request, rpc }: Message<Request, Reply>,
  done: (outcome: Outcome<Reply>) => void,
): Sent {
  const bytes = rpc.requestSerialize(request);
  const call = channel.getChannel().createCall(rpc.path, Infinity, null, null, null);
  let begun = false;
  let cancelled = false;
  let outcome: Outcome<Reply> | undefined;
  const failed = (end: StatusObject): Outcome<Reply> => {
    // A status of the server's comes with headers, if only its content type; one that was found here comes with none.
    const isLocal = !begun && Object.keys(end.metadata.getMap()).length === 0;
    const refused = isLocal && end.code === status.UNAVAILABLE && end.details === REFUSED;
    return { error: serviceError(end), refused };
  };
  call.start(metadata, {
    onReceiveMessage(message: Buffer | null) {
      if (message === null) return;
      try {
        outcome = { reply: rpc.responseDeserialize(message) };
      } catch (error) {
        const details = `Response message parsing error: ${String(error)}`;
        outcome = failed({ code: status.INTERNAL, details, metadata });
      }
    },
    onReceiveMetadata() {
      if (cancelled) return;
      begun = true;
      onBegun?.();
    },
    onReceiveStatus(end) {
      if (cancelled) return;
      if (end.code !== status.OK) done(failed(end));
      else done(outcome ?? failed({ ...end, code: status.INTERNAL, details: 'No reply' }));
    },
  });
  call.sendMessageWithContext({}, bytes);
  call.startRead();
  call.halfClose();
  return {
    cancel() {
      cancelled = true;
      // Not before gRPC has passed the message on: it would keep account of that for ever (grpc-js 1.14, MessageBufferTracker).
      soon(() => call.cancelWithStatus(status.CANCELLED, 'Cancelled on client'));
    },
    getPeer: () => call.getPeer(),
  };
}

function serviceError(end: StatusObject): ServiceError {
  return Object.assign(new Error(`${String(end.code)} ${status[end.code]}: ${end.details}`), end);
}
