/** etcd's lease calls. */

import { ConclaveError, hasCode, madeHere } from '../../errors/conclave-error.js';
import { isTransient } from '../../errors/transient.js';
import { services } from '../../proto/services.js';
import { checkInt64, checkLimits, checkOptions, checkTtlSeconds } from '../../util/validate.js';
import type { CallOptions, MemberCallOptions } from '../transport/call.js';
import { type Link, memberOf } from '../transport/link.js';
import { renewOn, renewOnce, type Renewing } from './keep-alive.js';
import type { LeaseListener } from './lease-listener.js';
import type { LeaseStream } from './lease-stream.js';
import { leaseHex, leaseNotFound, type LeaseTerm } from './lease-term.js';
import type { WriteGate } from '../kv/write-gate.js';
import { inJson } from '../../util/shown.js';
import { chance } from '../../util/chance.js';

export { leaseHex, type LeaseTerm } from './lease-term.js';

/** How much of a lease is left. */
export interface LeaseLife {
  readonly id: bigint;
  /** Seconds left; -1 when the server does not know the lease. */
  readonly ttlSeconds: number;
  /** Seconds it was granted for; 0 when the server does not know the lease. */
  readonly grantedTtlSeconds: number;
  /** The keys bound to it; only with `keys`. */
  readonly keys: readonly Buffer[];
}

/** A random lease id: 63 bits, never 0. */
function newLeaseId(): bigint {
  return chance.int63();
}

/** etcd's lease calls. Those that take an `endpoint` are made to that member, and no other is asked beside it or after it. */
export class Lease {
  readonly #connection: Link;
  readonly #stream: LeaseStream;
  readonly #gate: WriteGate;

  /** `stream`: what keeps leases alive. */
  constructor(connection: Link, gate: WriteGate, stream: LeaseStream) {
    this.#connection = connection;
    this.#gate = gate;
    this.#stream = stream;
  }

  /**
   * Grants a lease of `ttlSeconds` (whole seconds, at least 1; the server may give more). The id is chosen here, so the
   * request can be repeated: "lease already exists" after a lost answer means that it is ours. With `id` given by the
   * caller, a lease that exists already rejects with `LEASE_EXISTS`, unless an answer was lost.
   */
  async grant(
    ttlSeconds: number,
    options: MemberCallOptions & { readonly id?: bigint | undefined } = {},
  ): Promise<LeaseTerm> {
    checkTtlSeconds(ttlSeconds);
    checkOptions(options, ['id', 'timeoutMs', 'signal', 'endpoint'], 'grant');
    const endpoint = memberOf(this.#connection, options);
    if (options.id !== undefined) checkInt64(options.id, 'id', 1n);
    const id = options.id ?? newLeaseId();
    const { signal } = options;
    const { clock } = this.#connection;
    const startedAt = clock.now();
    let sentAt = startedAt;
    const left = (): CallOptions => {
      const { timeoutMs = sentAt - startedAt + this.#connection.timeoutMs } = options;
      return { signal, timeoutMs: Math.max(0, startedAt + timeoutMs - clock.now()) };
    };
    const what = `grant lease ${leaseHex(id)}`;
    const fate = { repeated: false };
    try {
      const reply = await this.#connection.unary({
        endpoint,
        kind: 'guarded',
        onAdmitted: () => {
          sentAt = clock.now();
        },
        onRepeat: () => {
          fate.repeated = true;
        },
        request: { ID: id, TTL: BigInt(ttlSeconds) },
        rpc: services.Lease.LeaseGrant,
        settledBy: ['LEASE_EXISTS'],
        signal,
        timeoutMs: options.timeoutMs,
        what,
      });
      return inJson({ id: reply.ID, sentAt, ttlSeconds: Number(reply.TTL) });
    } catch (error) {
      if (!fate.repeated || !hasCode(error, 'LEASE_EXISTS')) throw error;
      return inJson({
        id,
        sentAt,
        ttlSeconds: await this.#grantedSeconds(id, what, { ...left(), endpoint: options.endpoint }),
      });
    }
  }

  /** What a lease that was granted, by a try whose answer was lost, was granted for. */
  async #grantedSeconds(id: bigint, what: string, limits: MemberCallOptions): Promise<number> {
    try {
      const { grantedTtlSeconds } = await this.timeToLive(id, limits);
      if (grantedTtlSeconds <= 0) throw leaseNotFound(what);
      return grantedTtlSeconds;
    } catch (error) {
      if (!isTransient(error)) throw error;
      const text = `${what}: it was granted, but for how long could not be asked in time (${error.message})`;
      throw new ConclaveError('UNKNOWN_OUTCOME', text, { cause: error, etcd: error.etcd });
    }
  }

  /** Ends a lease and deletes its keys. Resolves as well when the lease is gone already. Safe to repeat. */
  async revoke(id: bigint, options: MemberCallOptions = {}): Promise<void> {
    checkInt64(id, 'id');
    checkOptions(options, ['timeoutMs', 'signal', 'endpoint'], 'revoke');
    const endpoint = memberOf(this.#connection, options);
    const what = `revoke lease ${leaseHex(id)}`;
    try {
      await this.#gate.pass(what, options, ({ signal, timeoutMs }) =>
        this.#connection.unary({
          endpoint,
          kind: 'guarded',
          request: { ID: id },
          rpc: services.Lease.LeaseRevoke,
          settledBy: ['LEASE_NOT_FOUND'],
          signal,
          timeoutMs,
          what,
        }),
      );
    } catch (error) {
      if (!hasCode(error, 'LEASE_NOT_FOUND')) throw error;
    }
  }

  /** How much of a lease is left, and with `keys` what is bound to it. An unknown lease has `ttlSeconds` -1. */
  async timeToLive(
    id: bigint,
    options: MemberCallOptions & { readonly keys?: boolean | undefined } = {},
  ): Promise<LeaseLife> {
    checkInt64(id, 'id');
    checkOptions(options, ['keys', 'timeoutMs', 'signal', 'endpoint'], 'timeToLive');
    const reply = await this.#connection.unary({
      endpoint: memberOf(this.#connection, options),
      kind: 'read',
      request: { ID: id, keys: options.keys },
      rpc: services.Lease.LeaseTimeToLive,
      signal: options.signal,
      timeoutMs: options.timeoutMs,
      what: `time to live of lease ${leaseHex(id)}`,
    });
    return inJson({
      grantedTtlSeconds: Number(reply.grantedTTL),
      id: reply.ID,
      keys: reply.keys,
      ttlSeconds: Number(reply.TTL),
    });
  }

  /** The ids of all leases, as the member that answers knows them. */
  async list(options: MemberCallOptions = {}): Promise<readonly bigint[]> {
    checkOptions(options, ['timeoutMs', 'signal', 'endpoint'], 'list');
    const reply = await this.#connection.unary({
      endpoint: memberOf(this.#connection, options),
      kind: 'read',
      request: {},
      rpc: services.Lease.LeaseLeases,
      signal: options.signal,
      timeoutMs: options.timeoutMs,
      what: 'list leases',
    });
    return reply.leases.map((lease) => lease.ID);
  }

  /** Renews a lease once. Rejects with `LEASE_NOT_FOUND` when the server does not know it. */
  async keepAliveOnce(id: bigint, options: CallOptions = {}): Promise<LeaseTerm> {
    checkInt64(id, 'id');
    checkOptions(options, ['timeoutMs', 'signal'], 'keepAliveOnce');
    checkLimits(options);
    options.signal?.throwIfAborted();
    this.#connection.closed.throwIfAborted();
    try {
      return await renewOnce(this.#renewing, id, options);
    } catch (error) {
      const isTheCallers = options.signal?.aborted === true && error === options.signal.reason;
      throw error instanceof ConclaveError && !isTheCallers ? madeHere(error) : error;
    }
  }

  /**
   * Keeps a lease alive and yields every renewal; leaving the loop, or `signal`, stops it and leaves the lease to run
   * out. A slow reader does not stop the renewals. Throws `LEASE_NOT_FOUND` once the server does not know the lease;
   * what keeps it from being renewed, once its time to live has passed since the last renewal (before the first one: the
   * client's `timeoutMs`), so that it may be gone; and at once what does not pass, such as `AUTH_FAILED`.
   */
  keepAlive(
    id: bigint,
    options: { readonly signal?: AbortSignal | undefined } = {},
  ): AsyncIterableIterator<LeaseTerm, undefined> {
    checkInt64(id, 'id');
    checkOptions(options, ['signal'], 'keepAlive');
    checkLimits(options);
    options.signal?.throwIfAborted();
    this.#connection.closed.throwIfAborted();
    return renewOn(this.#renewing, id, options.signal);
  }

  /** Keeps a lease alive for as long as the returned function is not called, telling `listener` how it goes. */
  maintain(term: LeaseTerm, listener: LeaseListener): () => void {
    return this.#stream.maintain(term.id, term.ttlSeconds, term.sentAt, listener);
  }

  get #renewing(): Renewing {
    return { connection: this.#connection, stream: this.#stream };
  }
}
