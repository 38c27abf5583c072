/** What an error answer says of the call that it ends: whether anything was done, and whether it passes. */
import type { ErrorCode, StatusName } from './codes.js';
import { type EtcdDetail, isConclaveError } from './conclave-error.js';

/** What an error answer says of its call, whatever the call was. */
export interface Fate {
  /** Whether a write may have been carried out all the same. */
  readonly ambiguous: boolean;
  /** Whether another try, on this member or another, can be expected to do better. */
  readonly transient: boolean;
}

/** The four fates that a call can meet with an error. */
export const FATES = {
  /** Nothing was done, but it may be later. */
  notNow: { ambiguous: false, transient: true },
  /** Nothing was done, nor would it be if it were sent again. */
  refused: { ambiguous: false, transient: false },
  /** It may have been done; asking again may tell. */
  unknown: { ambiguous: true, transient: true },
  /** It may have been done, and asking again would be answered alike. */
  unsettled: { ambiguous: true, transient: false },
} as const satisfies Record<string, Fate>;

export type FateName = keyof typeof FATES;

/** The errors of etcd by which it does not refuse for good, before it has done anything. All others are refusals. */
const OF_CODE: Partial<Record<ErrorCode, FateName>> = {
  LEADER_CHANGED: 'unknown',
  NOT_CAPABLE: 'notNow',
  NO_LEADER: 'notNow',
  // The quota is checked once more when a write is applied: then it is applied, and answered with this error.
  NO_SPACE: 'unsettled',
  SERVER_STOPPED: 'unknown',
  SERVER_TIMEOUT: 'unknown',
  SERVER_TIMEOUT_APPLIED_INDEX: 'unknown',
  SERVER_TIMEOUT_CONNECTION_LOST: 'unknown',
  SERVER_TIMEOUT_LEADER_FAIL: 'unknown',
  TOO_MANY_REQUESTS: 'notNow',
  UNHEALTHY: 'notNow',
};

/** Errors of etcd that have no code of their own, told by their words. */
const OF_WORDS: readonly (readonly [RegExp, FateName])[] = [
  // Raft has not taken it up: there is no leader, or leadership is being handed over.
  [/^raft proposal dropped$/, 'notNow'],
  [/^raft: /, 'unknown'],
  [/^etcdserver: request cancell?ed$/, 'unknown'],
  // The store of users and roles answers before anything is done.
  [/^auth: /, 'refused'],
];

/** What the statuses say of etcd's errors that are not known by their words. */
const OF_STATUS: Partial<Record<StatusName, FateName>> = {
  ABORTED: 'unknown',
  ALREADY_EXISTS: 'refused',
  CANCELLED: 'unknown',
  DEADLINE_EXCEEDED: 'unknown',
  FAILED_PRECONDITION: 'refused',
  INVALID_ARGUMENT: 'refused',
  NOT_FOUND: 'refused',
  OUT_OF_RANGE: 'refused',
  PERMISSION_DENIED: 'refused',
  UNAUTHENTICATED: 'refused',
  UNAVAILABLE: 'unknown',
  UNIMPLEMENTED: 'refused',
};

/** The fate of a call that etcd itself has answered with the error `code`, in these words. */
export function fateOfEtcd(code: ErrorCode, etcd: EtcdDetail | undefined): FateName {
  if (code !== 'ETCD' || etcd === undefined) return OF_CODE[code] ?? 'refused';
  const byWords = OF_WORDS.find(([words]) => words.test(etcd.message));
  return byWords?.[1] ?? OF_STATUS[etcd.status] ?? 'unsettled';
}

/** Codes of Conclave's own with which a write is rejected only when it was not sent, or provably refused. */
const NOT_SENT: ReadonlySet<ErrorCode> = new Set([
  'UNAVAILABLE',
  'DEADLINE_EXCEEDED',
  'NOT_ETCD',
  'TLS_FAILED',
]);
/** Codes of Conclave's own that leave it open. */
const OPEN: ReadonlySet<ErrorCode> = new Set(['UNKNOWN_OUTCOME', 'CLOSED']);

/**
 * Whether `error`, with which a write of the client (`kv.put`, `kv.delete`, `kv.txn` and the like) was rejected, proves that
 * nothing was written, nor will be by a request that is still on its way. An abort proves nothing, nor does `CLOSED`.
 */
export function provesNothingWritten(error: unknown): boolean {
  if (!isConclaveError(error) || OPEN.has(error.code)) return false;
  if (NOT_SENT.has(error.code)) return true;
  return error.etcd !== undefined && !FATES[fateOfEtcd(error.code, error.etcd)].ambiguous;
}
