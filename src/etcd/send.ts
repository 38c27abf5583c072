import type { Metadata, ServiceError } from '@grpc/grpc-js';

import { ConclaveError } from '../errors/conclave-error.js';
import { onAbort } from '../util/abort.js';
import type { Clock } from '../util/clock.js';
import type { Answer, Call } from './call.js';
import type { Endpoint } from './endpoint.js';
import { type Failure, readFailure } from './status.js';
import { startUnary } from './unary.js';

/** How a call is made this time. */
export interface Try {
  readonly endpoint: Endpoint;
  readonly metadata: Metadata;
  readonly limitMs: number;
}

/** What a call that is under way can be ended by. */
export interface Cancellable {
  cancel(): void;
}

/** What a call needs of its connection. */
export interface Surroundings {
  readonly clock: Clock;
  readonly closed: AbortSignal;
  /** What is under way. */
  readonly open: Set<Cancellable>;
  readonly judge: (failed: ServiceError, what: string, endpoint: Endpoint) => Failure;
}

/** How long a member that kept silent is used only when there is no other. */
const SUSPECT_MS = 5000;

/** Makes a call once. Resolves with what came of it; rejects when the caller gives up or the connection is closed. */
export function send<Request, Reply>(
  call: Call<Request, Reply>,
  { endpoint, limitMs, metadata }: Try,
  { clock, closed, judge, open }: Surroundings,
): Promise<Answer<Reply>> {
  return new Promise((resolve, reject) => {
    const { request, rpc, signal, what } = call;
    const sentAt = clock.now();
    const wasReady = endpoint.ready;
    let stopListening = (): void => undefined;
    const finish = (): void => {
      timer.cancel();
      stopListening();
      open.delete(sent);
    };
    const message = { channel: endpoint.channel, metadata, request, rpc };
    const sent = startUnary<Request, Reply>(message, (outcome) => {
      finish();
      if ('reply' in outcome) {
        endpoint.replied(clock.now(), sentAt);
        endpoint.suspectUntil = 0;
        resolve(outcome);
      } else if (closed.aborted) {
        reject(closed.reason);
      } else {
        const read = call.endpoint === undefined ? judge : readFailure;
        resolve({ failure: read(outcome.error, what, endpoint) });
      }
    });
    open.add(sent);
    const timer = clock.setTimer(limitMs, () => {
      if (endpoint.lastReplyAt < sentAt) endpoint.suspectUntil = clock.now() + SUSPECT_MS;
      finish();
      sent.cancel();
      // A call waits for its connection; until it has been given one it has no peer, and has not left.
      const ambiguous = wasReady || endpoint.ready || sent.getPeer() !== endpoint.noPeer;
      const did = ambiguous ? 'did not answer' : 'could not be connected to';
      const text = `${what}: ${endpoint.url} ${did} within ${String(Math.round(limitMs))} ms`;
      const error = new ConclaveError(ambiguous ? 'DEADLINE_EXCEEDED' : 'UNAVAILABLE', text);
      resolve({ failure: { ambiguous, error, transient: true } });
    });
    stopListening = onAbort(signal, (reason) => {
      finish();
      sent.cancel();
      reject(reason);
    });
  });
}
