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
}

/** Whether `error` is a ConclaveError with one of `codes` (any code when none is given). */
export function hasCode(error: unknown, ...codes: ErrorCode[]): error is ConclaveError {
  return error instanceof ConclaveError && (codes.length === 0 || codes.includes(error.code));
}
