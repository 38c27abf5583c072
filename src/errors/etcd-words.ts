/**
 * Tells etcd's own words from those of what stands between, and which error they mean. etcd names its errors in words alone.
 * Some calls answer with the error of the part that found it, without the prefix that others have.
 */
import { ETCD_ERRORS, type EtcdCode } from './codes.js';

/** Without the prefix. */
const PLAIN: readonly (readonly [string, EtcdCode])[] = [
  // As the store of users and roles says it.
  ['auth: authentication failed, invalid user ID or password', 'AUTH_FAILED'],
  ['auth: authentication failed, password was given for no password user', 'AUTH_FAILED'],
  ['auth: authentication is not enabled', 'AUTH_NOT_ENABLED'],
  ['auth: invalid auth management', 'INVALID_AUTH_MGMT'],
  ['auth: invalid auth token', 'INVALID_AUTH_TOKEN'],
  ['auth: permission denied', 'PERMISSION_DENIED'],
  ['auth: permission is not granted to the role', 'PERMISSION_NOT_GRANTED'],
  ['auth: revision in header is old', 'AUTH_OLD_REVISION'],
  ['auth: role already exists', 'ROLE_EXISTS'],
  ['auth: role is not granted to the user', 'ROLE_NOT_GRANTED'],
  ['auth: role name is empty', 'ROLE_EMPTY'],
  ['auth: role not found', 'ROLE_NOT_FOUND'],
  ['auth: root user does not exist', 'ROOT_USER_MISSING'],
  ['auth: root user does not have root role', 'ROOT_ROLE_MISSING'],
  ['auth: user already exists', 'USER_EXISTS'],
  ['auth: user name is empty', 'USER_EMPTY'],
  ['auth: user not found', 'USER_NOT_FOUND'],
  // As the lessor says it.
  ['lease already exists', 'LEASE_EXISTS'],
  ['lease not found', 'LEASE_NOT_FOUND'],
  ['too large lease TTL', 'LEASE_TTL_TOO_LARGE'],
  // As the store of keys says it.
  ['mvcc: required revision has been compacted', 'COMPACTED'],
  ['mvcc: required revision is a future revision', 'FUTURE_REVISION'],
  ['mvcc: database space exceeded', 'NO_SPACE'],
  ['raft: stopped', 'SERVER_STOPPED'],
];

/** What etcd says in words without its prefix, in calls that do not translate them. */
export const PLAIN_WORDS: readonly string[] = PLAIN.map(([words]) => words);

const BY_WORDS: ReadonlyMap<string, EtcdCode> = new Map<string, EtcdCode>([
  ...ETCD_ERRORS.map(({ code, message }) => [message, code] as const),
  ...PLAIN,
]);

/** How etcd begins what it says. */
const PREFIXES = /^(?:etcdserver|auth|mvcc|lease|raft): |^raft proposal dropped$/;

/** The code of what etcd says in these words, `ETCD` where it has none of its own; undefined when they are not etcd's. */
export function etcdCode(words: string): EtcdCode | undefined {
  return BY_WORDS.get(words) ?? (PREFIXES.test(words) ? 'ETCD' : undefined);
}
