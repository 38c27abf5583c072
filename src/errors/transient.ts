/** Which errors pass by themselves. */
import { type ConclaveError, hasCode, isConclaveError } from './conclave-error.js';
import { FATES, fateOfEtcd } from './fates.js';

/**
 * Whether the same request, if it is safe to repeat, can be expected to go through later: nobody could be reached, or the
 * cluster was overloaded or without a leader.
 */
export function isTransient(error: unknown): error is ConclaveError {
  if (!isConclaveError(error)) return false;
  switch (error.code) {
    case 'UNAVAILABLE':
    case 'DEADLINE_EXCEEDED':
      return true;
    case 'UNKNOWN_OUTCOME':
      return !isOutOfSpace(error);
    default:
      return FATES[fateOfEtcd(error.code, error.etcd)].transient;
  }
}

/** Whether etcd is out of space, until somebody makes some. A write it answers so may have been applied: `UNKNOWN_OUTCOME` then. */
export function isOutOfSpace(error: unknown): error is ConclaveError {
  if (!isConclaveError(error)) return false;
  if (error.code === 'UNKNOWN_OUTCOME') return isOutOfSpace(error.cause);
  return error.code === 'NO_SPACE';
}

/** Whether what was followed is gone, so that it must be read anew: compacted, or of a history that is no more. */
export function isHistoryGone(error: unknown): error is ConclaveError {
  return hasCode(error, 'COMPACTED', 'HISTORY_REVERTED');
}

/** Whether what waits can go on by itself later: as `isTransient`, and where etcd is out of space. */
export function passesByItself(error: unknown): error is ConclaveError {
  return isTransient(error) || isOutOfSpace(error);
}
