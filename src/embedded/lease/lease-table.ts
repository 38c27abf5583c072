import type { KeyText } from '../store/key-range.js';
import type { LeaseKeys } from '../store/lease-keys.js';

/** A lease that has been granted and has not ended. */
export interface Lease {
  readonly id: bigint;
  /** Granted time to live, in seconds. */
  readonly ttlSeconds: bigint;
  /** The clock's time at which the lease ends unless it is renewed. */
  deadlineMs: number;
  /** The keys that end with it. */
  readonly keys: Set<KeyText>;
}

/** Which leases there are and which keys are attached to them. */
export class LeaseTable implements LeaseKeys {
  readonly #leases = new Map<bigint, Lease>();

  get size(): number {
    return this.#leases.size;
  }

  get(id: bigint): Lease | undefined {
    return this.#leases.get(id);
  }

  has(id: bigint): boolean {
    return this.#leases.has(id);
  }

  add(lease: Lease): void {
    this.#leases.set(lease.id, lease);
  }

  /** Takes a lease out and returns it. Its keys are the caller's to delete. */
  remove(id: bigint): Lease | undefined {
    const lease = this.#leases.get(id);
    this.#leases.delete(id);
    return lease;
  }

  /** All leases, the one that ends first in front. */
  byDeadline(): Lease[] {
    return [...this.#leases.values()].sort((a, b) => a.deadlineMs - b.deadlineMs);
  }

  attach(lease: bigint, key: KeyText): void {
    this.#leases.get(lease)?.keys.add(key);
  }

  detach(lease: bigint, key: KeyText): void {
    this.#leases.get(lease)?.keys.delete(key);
  }
}
