import type { ErrorCode } from './codes.js';
import { ConclaveError } from './conclave-error.js';

/** What passes by itself: nobody could be reached, or the cluster was overloaded or without a leader. */
const PASSING: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'UNAVAILABLE',
  'DEADLINE_EXCEEDED',
  'UNKNOWN_OUTCOME',
  'NO_LEADER',
  'NOT_CAPABLE',
  'TOO_MANY_REQUESTS',
  'LEADER_CHANGED',
  'SERVER_STOPPED',
  'SERVER_TIMEOUT',
  'SERVER_TIMEOUT_APPLIED_INDEX',
  'SERVER_TIMEOUT_CONNECTION_LOST',
  'SERVER_TIMEOUT_LEADER_FAIL',
  'UNHEALTHY',
]);

/** Whether the same request, if it is safe to repeat, can be expected to go through later. */
export function isTransient(error: unknown): error is ConclaveError {
  return (
    error instanceof ConclaveError &&
    (PASSING.has(error.code) || (error.code === 'ETCD' && error.etcd?.status === 'UNAVAILABLE'))
  );
}
