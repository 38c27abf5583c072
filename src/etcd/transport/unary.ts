/** One unary call on a channel, without what gRPC's own client puts on top. */
import { type Client, type ServiceError, status, type StatusObject } from '@grpc/grpc-js';

import { nextTurn } from '../../util/clock.js';
import type { Message, Outcome, Sent } from './wire.js';

/** gRPC's words for RST_STREAM with code 7, and for a stream above the last one that a GOAWAY names. */
const REFUSED = 'Stream refused by server';

/**
 * Makes one unary call and calls `done` once, unless it is cancelled before. It goes to the channel itself: what `makeUnaryRequest` puts on top
 * (interceptors, an event emitter, an Error to keep the caller's stack) takes a fifth of a call's time.
 */
export function startUnary<Request, Reply>(
  channel: ReturnType<Client['getChannel']>,
  { metadata, onBegun, request, rpc }: Message<Request, Reply>,
  done: (outcome: Outcome<Reply>) => void,
): Sent {
  const bytes = rpc.requestSerialize(request);
  const call = channel.createCall(rpc.path, Infinity, null, null, null);
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
      nextTurn(() => call.cancelWithStatus(status.CANCELLED, 'Cancelled on client'));
    },
    // Until a call has been given a connection, its peer is the one it wants.
    hasLeft: () => call.getPeer() !== channel.getTarget(),
  };
}

function serviceError(end: StatusObject): ServiceError {
  return Object.assign(new Error(`${String(end.code)} ${status[end.code]}: ${end.details}`), end);
}
