import type { ErrorCode } from './codes.js';
import { ConclaveError } from './conclave-error.js';

/** etcd's answers that say "not now" without having applied anything. */
export const NOT_NOW: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'NO_LEADER',
  'NOT_CAPABLE',
  'TOO_MANY_REQUESTS',
]);

/** etcd's answers after which nobody knows whether a write was applied. */
export const NOBODY_KNOWS: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'LEADER_CHANGED',
  'SERVER_STOPPED',
  'SERVER_TIMEOUT',
  'SERVER_TIMEOUT_APPLIED_INDEX',
  'SERVER_TIMEOUT_CONNECTION_LOST',
  'SERVER_TIMEOUT_LEADER_FAIL',
  'UNHEALTHY',
]);

/** What passes by itself: nobody could be reached, or the cluster was overloaded or without a leader. */
const PASSING: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'UNAVAILABLE',
  'DEADLINE_EXCEEDED',
  'UNKNOWN_OUTCOME',
  ...NOT_NOW,
  ...NOBODY_KNOWS,
]);

/** Whether the same request, if it is safe to repeat, can be expected to go through later. */
export function isTransient(error: unknown): error is ConclaveError {
  return (
    error instanceof ConclaveError &&
    (PASSING.has(error.code) || (error.code === 'ETCD' && error.etcd?.status === 'UNAVAILABLE'))
  );
}
