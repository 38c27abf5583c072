/** The library's own warnings, for what nobody would hear of else: one line each, with a code to find or filter it by. */
import { inspect } from 'node:util';

import { isConclaveError } from '../errors/conclave-error.js';

export type WarningCode =
  | 'CONCLAVE_ETCD_KEEPALIVE'
  | 'CONCLAVE_KEY_MISSING'
  | 'CONCLAVE_NO_SESSION'
  | 'CONCLAVE_ON_ERROR_THREW'
  | 'CONCLAVE_SLOW_LINK'
  | 'CONCLAVE_WORKER_ENDED';

/** What was thrown, by anybody, in words; whatever it is, this does not throw. */
export function thrownText(thrown: unknown): string {
  try {
    if (isConclaveError(thrown)) return `${thrown.code}: ${thrown.message}`;
    return thrown instanceof Error ? String(thrown) : inspect(thrown);
  } catch {
    return 'something that cannot be shown';
  }
}

export function warn(code: WarningCode, text: string): void {
  process.emitWarning(text.replaceAll(/\s*\n\s*/g, ' '), { code, type: 'ConclaveWarning' });
}
