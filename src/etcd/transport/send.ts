/** One request to one member, and what comes of it. */
import type { Metadata, ServiceError } from '@grpc/grpc-js';

import { ConclaveError } from '../../errors/conclave-error.js';
import { FATES } from '../../errors/fates.js';
import { onAbort } from '../../util/abort.js';
import type { Clock } from '../../util/clock.js';
import type { Answer, Call } from './call.js';
import type { Endpoint } from './endpoint.js';
import { type Circumstances, type Failure, readFailure } from './status.js';
import { Vigil } from './vigil.js';

/** How a call is made this time. */
export interface Try {
  readonly endpoint: Endpoint;
  readonly metadata: Metadata;
  readonly limitMs: number;
  /** Whether to look if the member is alive, because another one could be asked: it is told, again and again, that it is. */
  readonly onSlow?: (() => void) | undefined;
}

/** What a call that is under way can be ended by. */
export interface Cancellable {
  cancel(): void;
}

/** A request that is under way. */
export interface Sending<Reply> extends Cancellable {
  /** What came of it; rejects when the caller gives up or the connection is closed. Does not settle once it is cancelled. */
  readonly answer: Promise<Answer<Reply>>;
}

/** What a call needs of its connection. */
export interface Surroundings {
  readonly clock: Clock;
  readonly closed: AbortSignal;
  /** What is under way. */
  readonly open: Set<Cancellable>;
  readonly judge: (
    failed: ServiceError,
    what: string,
    endpoint: Endpoint,
    circumstances: Circumstances,
  ) => Failure;
}

/** How long a member is passed over after it kept silent. */
const SUSPECT_MS = 5000;

/** Sends a call to one member. */
export function send<Request, Reply>(
  call: Call<Request, Reply>,
  { endpoint, limitMs, metadata, onSlow }: Try,
  { clock, closed, judge, open }: Surroundings,
): Sending<Reply> {
  const { key, request, rpc, signal, what } = call;
  const sentAt = clock.now();
  const wasReady = endpoint.ready;
  let stopListening = (): void => undefined;
  let resolve: (answer: Answer<Reply>) => void = () => undefined;
  let reject: (reason: unknown) => void = () => undefined;
  const answer = new Promise<Answer<Reply>>((...ends) => {
    [resolve, reject] = ends;
  });
  const stop = (): void => {
    vigil.stop();
    stopListening();
    if (open.delete(closing)) endpoint.ended();
  };
  const cancel = (): void => {
    stop();
    sent.cancel();
  };
  const abandon = (reason: unknown): void => {
    cancel();
    reject(reason);
  };
  const closing = { cancel: (): void => abandon(closed.reason) };
  const giveUp = (kept: 'did not answer' | 'kept silent'): void => {
    if (endpoint.pulse.feltAt < sentAt) endpoint.suspectUntil = clock.now() + SUSPECT_MS;
    // A call waits for its connection; while there has been none it has not left.
    const left = wasReady || endpoint.ready;
    cancel();
    const ms = String(Math.round(clock.now() - sentAt));
    const text = `${what}: ${endpoint.url} ${left ? kept : 'could not be connected to'} within ${ms} ms`;
    const error = new ConclaveError(left ? 'DEADLINE_EXCEEDED' : 'UNAVAILABLE', text, { key });
    resolve({ failure: { ...FATES[left ? 'unknown' : 'notNow'], error } });
  };
  const message = { metadata, onBegun: () => vigil.begun(), request, rpc };
  const sent = endpoint.wire.unary<Request, Reply>(message, (outcome) => {
    stop();
    if ('reply' in outcome) {
      endpoint.replied(clock.now(), sentAt);
      endpoint.suspectUntil = 0;
      resolve(outcome);
      return;
    }
    // A connection that says goodbye names the last request that it has taken. There are servers that take later ones, too.
    const left = (!outcome.refused || !endpoint.ready) && sent.hasLeft();
    const read = call.endpoint === undefined ? judge : readFailure;
    resolve({ failure: read(outcome.error, what, endpoint, { key, left }) });
  });
  open.add(closing);
  endpoint.began();
  const limits = { limitMs, watchful: onSlow !== undefined };
  const vigil = new Vigil(endpoint, clock, limits, {
    late: () => giveUp('did not answer'),
    silent: () => giveUp('kept silent'),
    slow: () => onSlow?.(),
  });
  stopListening = onAbort(signal, abandon);
  return { answer, cancel };
}
