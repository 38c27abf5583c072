/** A lease as callers have it: its term, its name in keys, and the error when it is gone. */
import { ConclaveError } from '../../errors/conclave-error.js';

/** A lease as granted or renewed. */
export interface LeaseTerm {
  readonly id: bigint;
  /** What the server gives, which may be more than was asked: etcd's default minimum is 2 s. */
  readonly ttlSeconds: number;
  /** Monotonic time, by the client's clock, at which the request was sent; the lease lasts `ttlSeconds` from then at least. */
  readonly sentAt: number;
}

/** The lease id as locks and elections write it into their keys: signed lower-case hex, as Go prints an int64. */
export function leaseHex(id: bigint): string {
  return id.toString(16);
}

/** The server does not know the lease that `what` is about. */
export function leaseNotFound(what: string): ConclaveError {
  const etcd = { message: 'etcdserver: requested lease not found', status: 'NOT_FOUND' } as const;
  const text = `${what}: the server does not know this lease: it expired or was revoked`;
  return new ConclaveError('LEASE_NOT_FOUND', text, { etcd });
}
