import type { ErrorCode, StatusName } from './codes.js';

/** What etcd itself said, where an error came from etcd. */
export interface EtcdDetail {
  /** etcd's own words, for instance `etcdserver: requested lease not found`. */
  readonly message: string;
  /** The gRPC status it came with. */
  readonly status: StatusName;
}

/** What an error carries beside its code and message. */
export interface ConclaveErrorOptions {
  readonly cause?: unknown;
  /** The key or name the error is about. */
  readonly key?: string | undefined;
  readonly etcd?: EtcdDetail | undefined;
  /** With `COMPACTED`: the oldest revision that can still be read. */
  readonly compactRevision?: bigint | undefined;
}

/** By which the errors of another copy of this package, as bundlers and test tools make, are known. */
const BRAND = Symbol.for('conclave.ConclaveError');

/**
 * Every error Conclave throws, but for bad arguments (TypeError, RangeError) and aborts (the signal's reason).
 * Tell them apart by `code`, which is stable; the message is for people.
 */
export class ConclaveError extends Error {
  override readonly name = 'ConclaveError';
  readonly code: ErrorCode;
  readonly key: string | undefined;
  readonly etcd: EtcdDetail | undefined;
  readonly compactRevision: bigint | undefined;

  constructor(code: ErrorCode, message: string, options: ConclaveErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.key = options.key;
    this.etcd = options.etcd;
    this.compactRevision = options.compactRevision;
  }

  /** @internal */
  get [BRAND](): true {
    return true;
  }

  /** What a log needs, without the stack; a revision is a decimal string. */
  toJSON(): Record<string, unknown> {
    const { cause, code, compactRevision, etcd, key, message, name } = this;
    const because = cause instanceof Error ? cause.message : undefined;
    return { name, code, message, key, etcd, compactRevision: compactRevision?.toString(), cause: because };
  }
}

/** The same error, made anew where somebody awaits it: its stack then names who does, and not the callback that brought it. */
export function madeHere(error: ConclaveError): ConclaveError {
  const { cause, code, compactRevision, etcd, key, message } = error;
  const made = new ConclaveError(code, message, { cause, compactRevision, etcd, key });
  Error.captureStackTrace(made, madeHere);
  return made;
}

/** Whether it is an error of ours, or of another copy of this package. */
export function isConclaveError(error: unknown): error is ConclaveError {
  return error instanceof ConclaveError || (typeof error === 'object' && error !== null && BRAND in error);
}

/**
 * Whether `error` is a ConclaveError with one of `codes` (any code when none is given), also one of another copy of this
 * package.
 */
export function hasCode<Code extends ErrorCode = ErrorCode>(
  error: unknown,
  ...codes: Code[]
): error is ConclaveError & { readonly code: Code } {
  return isConclaveError(error) && (codes.length === 0 || (codes as ErrorCode[]).includes(error.code));
}
