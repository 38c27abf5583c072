import { ConclaveError } from '../errors/conclave-error.js';
import type { ClientRpc } from '../proto/rpc.js';
import type { Endpoint } from './endpoint.js';
import type { Failure } from './status.js';

/**
 * What may be done when an answer is lost. A `read` is asked again; so is a `guarded` write, which a compare keeps from
 * being applied twice. A plain `write` is sent again only when it provably did not leave.
 */
export type CallKind = 'read' | 'guarded' | 'write';

/** Limits of one call. */
export interface CallOptions {
  /** Milliseconds until the call fails. @default the client's `timeoutMs` */
  readonly timeoutMs?: number | undefined;
  /** Gives the call up: it rejects with the signal's reason. A write may have been applied. */
  readonly signal?: AbortSignal | undefined;
}

/** What a call is for. */
export interface Purpose {
  readonly kind: CallKind;
  /** The operation and its key, for error messages. */
  readonly what: string;
}

/** One unary call. */
export interface Call<Request, Reply> extends CallOptions, Purpose {
  readonly rpc: ClientRpc<Request, Reply>;
  readonly request: NoInfer<Request>;
  /** Ask this member and no other. */
  readonly endpoint?: Endpoint | undefined;
  /** Told when the call is made again after a try that may have been carried out. */
  readonly onRepeat?: (() => void) | undefined;
}

/** What came of one try. */
export type Answer<Reply> = { readonly reply: Reply } | { readonly failure: Failure };

/** The write's answer was lost. */
export function unknownOutcome({ what }: Purpose, { error }: Failure): ConclaveError {
  const text = `${what}: the answer was lost, so this write may or may not have been applied; read before you repeat it (${error.message})`;
  return new ConclaveError('UNKNOWN_OUTCOME', text, { cause: error, etcd: error.etcd });
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
  return last?.error ?? new ConclaveError('DEADLINE_EXCEEDED', text);
}

/** No member could be connected to in time. */
export function nobodyAnswers(what: string, urls: string): Failure {
  const text = `${what}: nothing answers at ${urls}; is etcd running there?`;
  return { ambiguous: false, error: new ConclaveError('UNAVAILABLE', text), transient: true };
}
