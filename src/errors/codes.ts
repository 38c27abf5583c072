/**
 * The stable codes of every error Conclave throws. docs/errors.md has a row for each: what happened and what to do.
 *
 * Bad arguments are not among them: they throw TypeError or RangeError before any request. An abort rejects with the
 * signal's own reason.
 */
export type ErrorCode = LocalCode | EtcdCode;

/** What Conclave itself finds. */
export type LocalCode =
  /** No endpoint could be reached or answered; nothing was sent that could have changed the store. */
  | 'UNAVAILABLE'
  /** A read got no answer within its deadline. */
  | 'DEADLINE_EXCEEDED'
  /** A write was sent, and its answer never came or does not tell: it may or may not have been applied. */
  | 'UNKNOWN_OUTCOME'
  /** What answers at the endpoint does not speak etcd v3's gRPC, or not with the endpoint's scheme. */
  | 'NOT_ETCD'
  /** The TLS handshake failed: wrong CA, name, or client certificate. */
  | 'TLS_FAILED'
  /** Etcd's history is not the one that was followed: it was restored or emptied, or another cluster answers. */
  | 'HISTORY_REVERTED'
  /** The client, watch or session was closed by its owner. */
  | 'CLOSED'
  /** A wait's own `timeoutMs` ran out; what it had put in line was removed. */
  | 'TIMEOUT'
  /** The session's lease is gone, or could not be proven alive in time. */
  | 'SESSION_LOST'
  /** What was held (lock, leadership, permit, job) is no longer held, so nothing was written. */
  | 'NOT_HELD'
  /** Our key in a line was removed by somebody else while we waited or held. */
  | 'TICKET_LOST'
  /** Members of a group disagree on an agreed setting, such as a semaphore's limit. */
  | 'MISMATCH'
  /** An upgrade that could only wait for itself was refused. */
  | 'DEADLOCK'
  /** A transaction kept losing its race and ran out of attempts. */
  | 'CONFLICT'
  /** Somebody holds the barrier already, this object has entered already, or a leased key is somebody else's. */
  | 'ALREADY_HELD'
  /** What was waited for cannot come: a barrier's holder died without releasing it, or a latch was deleted. */
  | 'BROKEN'
  /** More than what was set may be kept in memory: by a cache, or for who reads its changes too slowly. */
  | 'OVER_LIMIT'
  /** A value that was read is not as the schema given to `json()` says. */
  | 'INVALID_VALUE';

/** What etcd itself answers. */
export type EtcdCode = (typeof ETCD_ERRORS)[number]['code'] | 'ETCD';

/** The gRPC status names etcd uses. */
export type StatusName =
  | 'INVALID_ARGUMENT'
  | 'OUT_OF_RANGE'
  | 'NOT_FOUND'
  | 'FAILED_PRECONDITION'
  | 'RESOURCE_EXHAUSTED'
  | 'PERMISSION_DENIED'
  | 'UNAUTHENTICATED'
  | 'UNAVAILABLE'
  | 'UNKNOWN'
  | 'CANCELLED'
  | 'UNIMPLEMENTED'
  | 'DEADLINE_EXCEEDED'
  | 'ABORTED'
  | 'ALREADY_EXISTS'
  | 'INTERNAL'
  | 'DATA_LOSS';

/**
 * etcd's errors word for word: our code, the gRPC status that carries it, the message. etcd identifies an error by its
 * message alone, and so do we. The embedded server answers with the same rows.
 */
export const ETCD_ERRORS = [
  row('EMPTY_KEY', 'INVALID_ARGUMENT', 'etcdserver: key is not provided'),
  row('KEY_NOT_FOUND', 'INVALID_ARGUMENT', 'etcdserver: key not found'),
  row('VALUE_PROVIDED', 'INVALID_ARGUMENT', 'etcdserver: value is provided'),
  row('LEASE_PROVIDED', 'INVALID_ARGUMENT', 'etcdserver: lease is provided'),
  row('TOO_MANY_OPS', 'INVALID_ARGUMENT', 'etcdserver: too many operations in txn request'),
  row('DUPLICATE_KEY', 'INVALID_ARGUMENT', 'etcdserver: duplicate key given in txn request'),
  row('INVALID_SORT_OPTION', 'INVALID_ARGUMENT', 'etcdserver: invalid sort option'),
  row('REQUEST_TOO_LARGE', 'INVALID_ARGUMENT', 'etcdserver: request is too large'),
  row('AUTH_FAILED', 'INVALID_ARGUMENT', 'etcdserver: authentication failed, invalid user ID or password'),
  row('AUTH_OLD_REVISION', 'INVALID_ARGUMENT', 'etcdserver: revision of auth store is old'),
  row('USER_EMPTY', 'INVALID_ARGUMENT', 'etcdserver: user name is empty'),
  row('ROLE_EMPTY', 'INVALID_ARGUMENT', 'etcdserver: role name is empty'),
  row('INVALID_AUTH_MGMT', 'INVALID_ARGUMENT', 'etcdserver: invalid auth management'),
  row('MEMBER_BAD_URLS', 'INVALID_ARGUMENT', 'etcdserver: given member URLs are invalid'),
  row('COMPACTED', 'OUT_OF_RANGE', 'etcdserver: mvcc: required revision has been compacted'),
  row('FUTURE_REVISION', 'OUT_OF_RANGE', 'etcdserver: mvcc: required revision is a future revision'),
  row('LEASE_TTL_TOO_LARGE', 'OUT_OF_RANGE', 'etcdserver: too large lease TTL'),
  row('LEASE_NOT_FOUND', 'NOT_FOUND', 'etcdserver: requested lease not found'),
  row('MEMBER_NOT_FOUND', 'NOT_FOUND', 'etcdserver: member not found'),
  row('LEASE_EXISTS', 'FAILED_PRECONDITION', 'etcdserver: lease already exists'),
  row('MEMBER_EXISTS', 'FAILED_PRECONDITION', 'etcdserver: member ID already exist'),
  row('PEER_URL_EXISTS', 'FAILED_PRECONDITION', 'etcdserver: Peer URLs already exists'),
  row(
    'MEMBER_NOT_ENOUGH_STARTED',
    'FAILED_PRECONDITION',
    'etcdserver: re-configuration failed due to not enough started members',
  ),
  row(
    'LEARNER_NOT_READY',
    'FAILED_PRECONDITION',
    'etcdserver: can only promote a learner member which is in sync with leader',
  ),
  row('MEMBER_NOT_LEARNER', 'FAILED_PRECONDITION', 'etcdserver: can only promote a learner member'),
  row('TOO_MANY_LEARNERS', 'FAILED_PRECONDITION', 'etcdserver: too many learner members in cluster'),
  row('ROOT_USER_MISSING', 'FAILED_PRECONDITION', 'etcdserver: root user does not exist'),
  row('ROOT_ROLE_MISSING', 'FAILED_PRECONDITION', 'etcdserver: root user does not have root role'),
  row('USER_EXISTS', 'FAILED_PRECONDITION', 'etcdserver: user name already exists'),
  row('USER_NOT_FOUND', 'FAILED_PRECONDITION', 'etcdserver: user name not found'),
  row('ROLE_EXISTS', 'FAILED_PRECONDITION', 'etcdserver: role name already exists'),
  row('ROLE_NOT_FOUND', 'FAILED_PRECONDITION', 'etcdserver: role name not found'),
  row('ROLE_NOT_GRANTED', 'FAILED_PRECONDITION', 'etcdserver: role is not granted to the user'),
  row('PERMISSION_NOT_GRANTED', 'FAILED_PRECONDITION', 'etcdserver: permission is not granted to the role'),
  row('AUTH_NOT_ENABLED', 'FAILED_PRECONDITION', 'etcdserver: authentication is not enabled'),
  row('NOT_LEADER', 'FAILED_PRECONDITION', 'etcdserver: not leader'),
  row('BAD_LEADER_TRANSFEREE', 'FAILED_PRECONDITION', 'etcdserver: bad leader transferee'),
  row('CLUSTER_ID_MISMATCH', 'FAILED_PRECONDITION', 'etcdserver: cluster ID mismatch'),
  row('NOT_CAPABLE', 'UNAVAILABLE', 'etcdserver: not capable'),
  row('NOT_SUPPORTED_FOR_LEARNER', 'FAILED_PRECONDITION', 'etcdserver: rpc not supported for learner'),
  row('NO_SPACE', 'RESOURCE_EXHAUSTED', 'etcdserver: mvcc: database space exceeded'),
  row('TOO_MANY_REQUESTS', 'RESOURCE_EXHAUSTED', 'etcdserver: too many requests'),
  row('PERMISSION_DENIED', 'PERMISSION_DENIED', 'etcdserver: permission denied'),
  row('INVALID_AUTH_TOKEN', 'UNAUTHENTICATED', 'etcdserver: invalid auth token'),
  row('NO_LEADER', 'UNAVAILABLE', 'etcdserver: no leader'),
  row('LEADER_CHANGED', 'UNAVAILABLE', 'etcdserver: leader changed'),
  row('SERVER_STOPPED', 'UNAVAILABLE', 'etcdserver: server stopped'),
  row('SERVER_TIMEOUT', 'UNAVAILABLE', 'etcdserver: request timed out'),
  row(
    'SERVER_TIMEOUT_LEADER_FAIL',
    'UNAVAILABLE',
    'etcdserver: request timed out, possibly due to previous leader failure',
  ),
  row(
    'SERVER_TIMEOUT_CONNECTION_LOST',
    'UNAVAILABLE',
    'etcdserver: request timed out, possibly due to connection lost',
  ),
  row(
    'SERVER_TIMEOUT_APPLIED_INDEX',
    'UNAVAILABLE',
    'etcdserver: request timed out, waiting for the applied index took too long',
  ),
  row('UNHEALTHY', 'UNAVAILABLE', 'etcdserver: unhealthy cluster'),
  row('CORRUPT', 'DATA_LOSS', 'etcdserver: corrupt cluster'),
] as const;

function row<Code extends string>(
  code: Code,
  status: StatusName,
  message: string,
): { readonly code: Code; readonly status: StatusName; readonly message: string } {
  return { code, message, status };
}
