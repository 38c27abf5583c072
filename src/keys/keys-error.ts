/** etcd v2's own errors, by its own numbers. */
import { hasCode } from '../errors/conclave-error.js';

/** v2's words for each number. */
const MESSAGES = {
  100: 'Key not found',
  101: 'Compare failed',
  102: 'Not a file',
  104: 'Not a directory',
  105: 'Key already exists',
  107: 'Root is read only',
  108: 'Directory not empty',
  401: 'The event in requested index is outdated and cleared',
} as const;

/** v2's numbers for what can go wrong with a key. */
export type KeysErrorCode = keyof typeof MESSAGES;

/**
 * What etcd v2 would have answered: the key is missing, the comparison failed, and so on. Whatever v2 had no number for
 * (no answer, a closed client) is a ConclaveError, and bad arguments are a TypeError or RangeError.
 */
export class KeysError extends Error {
  override readonly name = 'KeysError';
  /** v2's number, as in 100: key not found. */
  readonly errorCode: KeysErrorCode;
  /** v2's cause: the key that is in the way or missing, or what did not compare, as in `[old != new]`. */
  override readonly cause: string;
  /** The store's index (etcd's revision) when it was found out. */
  readonly index: bigint;

  constructor(errorCode: KeysErrorCode, cause: string, index: bigint) {
    super(`${String(errorCode)}: ${MESSAGES[errorCode]} (${cause}) [${String(index)}]`);
    this.errorCode = errorCode;
    this.cause = cause;
    this.index = index;
  }

  /** What v2 sent as the body of its answer; the index is a decimal string. */
  toJSON(): Record<string, unknown> {
    const { cause, errorCode, index } = this;
    return { errorCode, message: MESSAGES[errorCode], cause, index: index.toString() };
  }
}

/** A watch's end, as v2 told it: history before the index is gone. Anything else is passed on as it is. */
export function asKeysError(error: unknown, index: bigint): unknown {
  if (!hasCode(error, 'COMPACTED')) return error;
  const oldest = error.compactRevision ?? 0n;
  return new KeysError(401, `the requested history has been cleared [${oldest}/${index}]`, oldest);
}
