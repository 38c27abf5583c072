import { randomBytes } from 'node:crypto';

import { ConclaveError, hasCode } from '../errors/conclave-error.js';
import { services } from '../proto/services.js';
import { onAbort } from '../util/abort.js';
import { AsyncQueue } from '../util/async-queue.js';
import { Deferred } from '../util/deferred.js';
import { checkInt64, checkLimits, checkOptions, checkTtlSeconds } from '../util/validate.js';
import type { CallOptions } from './call.js';
import type { Connection } from './connection.js';
import { type LeaseListener, LeaseStream } from './lease-stream.js';
import { afterWatches, type WriteGate } from './write-gate.js';

/** A lease as granted or renewed. */
export interface LeaseTerm {
  readonly id: bigint;
  /** What the server gives, which may be more than was asked: etcd's default minimum is 2 s. */
  readonly ttlSeconds: number;
  /** Monotonic time, by the client's clock, at which the request was sent; the lease lasts `ttlSeconds` from then at least. */
  readonly sentAt: number;
}

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

/** The lease id as locks and elections write it into their keys: signed lower-case hex, as Go prints an int64. */
export function leaseHex(id: bigint): string {
  return id.toString(16);
}

/** A random lease id: 63 bits, never 0. */
function newLeaseId(): bigint {
  return (randomBytes(8).readBigUInt64BE() & 0x7fff_ffff_ffff_ffffn) | 1n;
}

/** etcd's lease calls. */
export class Lease {
  readonly #connection: Connection;
  readonly #stream: LeaseStream;
  readonly #gate: WriteGate;

  constructor(connection: Connection, gate: WriteGate) {
    this.#connection = connection;
    this.#gate = gate;
    this.#stream = new LeaseStream(connection);
  }

  /**
   * Grants a lease of `ttlSeconds` (whole seconds, at least 1; the server may give more). The id is chosen here, so the
   * request can be repeated: "lease already exists" after a lost answer means that it is ours. With `id` given by the
   * caller, a lease that exists already rejects with `LEASE_EXISTS`, unless an answer was lost.
   */
  async grant(
    ttlSeconds: number,
    options: CallOptions & { readonly id?: bigint | undefined } = {},
  ): Promise<LeaseTerm> {
    checkTtlSeconds(ttlSeconds);
    checkOptions(options, ['id', 'timeoutMs', 'signal'], 'grant');
    if (options.id !== undefined) checkInt64(options.id, 'id', 1n);
    const id = options.id ?? newLeaseId();
    const sentAt = this.#connection.clock.now();
    const fate = { repeated: false };
    try {
      const reply = await this.#connection.unary({
        kind: 'guarded',
        onRepeat: () => {
          fate.repeated = true;
        },
        request: { ID: id, TTL: BigInt(ttlSeconds) },
        rpc: services.Lease.LeaseGrant,
        signal: options.signal,
        timeoutMs: options.timeoutMs,
        what: `grant lease ${leaseHex(id)}`,
      });
      return { id: reply.ID, sentAt, ttlSeconds: Number(reply.TTL) };
    } catch (error) {
      if (!fate.repeated || !hasCode(error, 'LEASE_EXISTS')) throw error;
      const life = await this.timeToLive(id, { signal: options.signal, timeoutMs: options.timeoutMs });
      return { id, sentAt, ttlSeconds: life.grantedTtlSeconds };
    }
  }

  /** Ends a lease and deletes its keys. Resolves as well when the lease is gone already. Safe to repeat. */
  async revoke(id: bigint, options: CallOptions = {}): Promise<void> {
    checkInt64(id, 'id');
    checkOptions(options, ['timeoutMs', 'signal'], 'revoke');
    if (this.#gate.settled !== undefined) await afterWatches(this.#gate, this.#connection, options);
    try {
      await this.#connection.unary({
        kind: 'guarded',
        request: { ID: id },
        rpc: services.Lease.LeaseRevoke,
        signal: options.signal,
        timeoutMs: options.timeoutMs,
        what: `revoke lease ${leaseHex(id)}`,
      });
    } catch (error) {
      if (!hasCode(error, 'LEASE_NOT_FOUND')) throw error;
    }
  }

  /** How much of a lease is left, and with `keys` what is bound to it. An unknown lease has `ttlSeconds` -1. */
  async timeToLive(
    id: bigint,
    options: CallOptions & { readonly keys?: boolean | undefined } = {},
  ): Promise<LeaseLife> {
    checkInt64(id, 'id');
    checkOptions(options, ['keys', 'timeoutMs', 'signal'], 'timeToLive');
    const reply = await this.#connection.unary({
      kind: 'read',
      request: { ID: id, keys: options.keys },
      rpc: services.Lease.LeaseTimeToLive,
      signal: options.signal,
      timeoutMs: options.timeoutMs,
      what: `time to live of lease ${leaseHex(id)}`,
    });
    return {
      grantedTtlSeconds: Number(reply.grantedTTL),
      id: reply.ID,
      keys: reply.keys,
      ttlSeconds: Number(reply.TTL),
    };
  }

  /** The ids of all leases, as the member that answers knows them. */
  async list(options: CallOptions = {}): Promise<readonly bigint[]> {
    const reply = await this.#connection.unary({
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
    const { clock, closed } = this.#connection;
    const timeoutMs = options.timeoutMs ?? this.#connection.timeoutMs;
    options.signal?.throwIfAborted();
    const what = `keep lease ${leaseHex(id)} alive`;
    const urls = this.#connection.endpoints.map(({ url }) => url).join(', ');
    const done = new Deferred<LeaseTerm>();
    const stop = new AbortController();
    const giveUp = (reason: unknown): void => {
      stop.abort(reason);
      done.reject(reason);
    };
    const stops = [onAbort(options.signal, giveUp), onAbort(closed, giveUp)];
    let last: ConclaveError | undefined;
    const timer = clock.setTimer(timeoutMs, () =>
      giveUp(
        last ??
          new ConclaveError(
            'DEADLINE_EXCEEDED',
            `${what}: no answer from ${urls} within ${String(timeoutMs)} ms`,
          ),
      ),
    );
    const listening = this.#stream.maintain(id, 0, clock.now(), {
      expired: () => giveUp(notFound(what)),
      failing: (error) => {
        last = error;
        if (hasCode(error, 'AUTH_FAILED', 'PERMISSION_DENIED', 'NOT_ETCD', 'TLS_FAILED')) giveUp(error);
      },
      renewed: (sentAt, ttlSeconds) => done.resolve({ id, sentAt, ttlSeconds }),
    });
    try {
      return await done.promise;
    } finally {
      listening();
      timer.cancel();
      for (const each of stops) each();
    }
  }

  /**
   * Keeps a lease alive and yields every renewal; leaving the loop, or `signal`, stops it and leaves the lease to run
   * out. Throws `LEASE_NOT_FOUND` once the server does not know the lease. A slow reader does not stop the renewals.
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
    let stop = (): void => undefined;
    const queue = new AsyncQueue<LeaseTerm>(() => stop());
    const fail = (reason: unknown): void => {
      stop();
      queue.fail(reason);
    };
    const listening = this.#stream.maintain(id, 0, this.#connection.clock.now(), {
      expired: () => fail(notFound(`keep lease ${leaseHex(id)} alive`)),
      failing: () => undefined,
      renewed: (sentAt, ttlSeconds) => {
        if (queue.size < 16) queue.push({ id, sentAt, ttlSeconds });
      },
    });
    const stops = [onAbort(options.signal, fail), onAbort(this.#connection.closed, fail)];
    stop = () => {
      listening();
      for (const each of stops) each();
    };
    return queue;
  }

  /** Keeps a lease alive for as long as the returned function is not called, telling `listener` how it goes. */
  maintain(term: LeaseTerm, listener: LeaseListener): () => void {
    return this.#stream.maintain(term.id, term.ttlSeconds, term.sentAt, listener);
  }
}

function notFound(what: string): ConclaveError {
  const message = 'etcdserver: requested lease not found';
  return new ConclaveError(
    'LEASE_NOT_FOUND',
    `${what}: the server does not know this lease: it expired or was revoked`,
    {
      etcd: { message, status: 'NOT_FOUND' },
    },
  );
}
