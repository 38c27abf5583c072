/** What a call is, and how its kind turns what is known of it into what the caller is told. */
import type { ErrorCode } from '../../errors/codes.js';
import { ConclaveError } from '../../errors/conclave-error.js';
import { FATES } from '../../errors/fates.js';
import type { ClientRpc } from '../../proto/rpc.js';
import { timersAreFaked } from '../../util/clock.js';
import type { Endpoint } from './endpoint.js';
import type { Failure } from './status.js';

/**
 * What may be done when an answer is lost. A `read` is asked again; so is a `guarded` write, which a compare keeps from
 * being applied twice. A plain `write` is sent again only when it provably did not leave, or was refused for the moment.
 */
export type CallKind = 'read' | 'guarded' | 'write';

/** Limits of one call. */
export interface CallOptions {
  /** Milliseconds until the call fails. @default the client's `timeoutMs` */
  readonly timeoutMs?: number | undefined;
  /** Gives the call up: it rejects with the signal's reason. A write may have been applied. */
  readonly signal?: AbortSignal | undefined;
}

/** Limits of a call that may be made to one member. */
export interface MemberCallOptions extends CallOptions {
  /**
   * Asks this member, by its endpoint as the client was given it, and no other, whether it answers or not.
   * @default the member that the client stays with, or another one
   */
  readonly endpoint?: string | undefined;
}

/** What a call is for. */
export interface Purpose {
  readonly kind: CallKind;
  /** The operation and its key, for error messages. */
  readonly what: string;
  /** The key alone, for `error.key`. */
  readonly key?: string | undefined;
  /**
   * Whether it may take long, or be much to send: then it is left with its member for as long as that is alive, and no
   * other is asked beside it.
   */
  readonly heavy?: boolean | undefined;
  /** Roughly what the request takes, in bytes, if that may be much. */
  readonly bytes?: number | undefined;
  /** Whether `timeoutMs` counts from when it is sent, as the client's own limit does. */
  readonly waits?: boolean | undefined;
  /** Errors that are true whether or not an earlier try of the same write was applied. */
  readonly settledBy?: readonly ErrorCode[] | undefined;
}

/** One unary call. */
export interface Call<Request, Reply> extends CallOptions, Purpose {
  readonly rpc: ClientRpc<Request, Reply>;
  readonly request: NoInfer<Request>;
  /** Ask this member and no other. */
  readonly endpoint?: Endpoint | undefined;
  /** Told when it need not wait any longer, just before it is sent for the first time. */
  readonly onAdmitted?: (() => void) | undefined;
  /** Told when the call is made again after a try that may have been carried out. */
  readonly onRepeat?: (() => void) | undefined;
}

/** What came of one try. */
export type Answer<Reply> = { readonly reply: Reply } | { readonly failure: Failure };

/** The write's answer was lost, or does not tell whether it was applied. */
export function unknownOutcome(
  { key, what }: Purpose,
  { ambiguous, error, transient }: Failure,
): ConclaveError {
  const why = ambiguous && !transient ? 'the answer does not tell' : 'the answer was lost';
  const text = `${what}: ${why}, so this write may or may not have been applied; read before you repeat it (${error.message})`;
  return new ConclaveError('UNKNOWN_OUTCOME', text, { cause: error, etcd: error.etcd, key });
}

/**
 * The error of a call that is not made again after `failure`; undefined when it is. `ambiguous`: this try or an earlier one
 * may have been carried out.
 */
export function finalError(call: Purpose, failure: Failure, ambiguous: boolean): ConclaveError | undefined {
  if (call.kind === 'read') return failure.transient ? undefined : failure.error;
  if (call.kind === 'write' && failure.ambiguous) return unknownOutcome(call, failure);
  if (failure.transient) return undefined;
  const settled = call.settledBy?.includes(failure.error.code) === true;
  return ambiguous && !settled ? unknownOutcome(call, failure) : failure.error;
}

/** The call's time is over: what its tries have come to, of which any may have been `ambiguous`. */
export function outOfTime(
  call: Purpose,
  timeoutMs: number,
  last: Failure | undefined,
  ambiguous: boolean,
): ConclaveError {
  if (ambiguous && call.kind !== 'read' && last !== undefined) return unknownOutcome(call, last);
  const text = `${call.what}: no time left (timeoutMs ${String(timeoutMs)})`;
  return last?.error ?? new ConclaveError('DEADLINE_EXCEEDED', text, { key: call.key });
}

/** The call's time was over before it could be sent; `cause`: why the last of those under way was not answered. */
export function notSent(call: Purpose & CallOptions, usualMs: number, cause?: Error): ConclaveError {
  const { key, timeoutMs = usualMs, what } = call;
  if (cause === undefined) return outOfTime(call, timeoutMs, undefined, false);
  const text = `${what}: not sent: nothing was answered for ${String(timeoutMs)} ms (the last that failed: ${cause.message})`;
  return new ConclaveError('UNAVAILABLE', text, { cause, key });
}

/** No member could be connected to in time. */
export function nobodyAnswers({ key, what }: Purpose, urls: string): Failure {
  const faked = 'fake timers are in place of the real ones in this process, with which gRPC cannot connect';
  const text = `${what}: nothing answers at ${urls}; ${timersAreFaked() ? faked : 'is etcd running there?'}`;
  return { ...FATES.notNow, error: new ConclaveError('UNAVAILABLE', text, { key }) };
}
