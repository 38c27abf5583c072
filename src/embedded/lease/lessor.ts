import type { Clock, Timer } from '../../util/clock.js';
import { DeadlineHeap } from './deadline-heap.js';
import type { LeaseIds } from './lease-ids.js';
import type { Lease, LeaseTable } from './lease-table.js';
import { etcdError } from '../rpc/rpc-error.js';
import type { Store } from '../store/store.js';

/** etcd raises a shorter time to live to this: one and a half election timeouts, in whole seconds. */
const LEAST_TTL_SECONDS = 2n;
const GREATEST_TTL_SECONDS = 9_000_000_000n;
/** How many entries of ended leases the heap may carry beyond those of living ones. */
const DEAD_ENTRIES = 64;

/** What a lessor works with. */
export interface LessorParts {
  readonly clock: Clock;
  readonly table: LeaseTable;
  /** Holds the keys that end with leases. */
  readonly store: Store;
  /** Of leases that are granted without one. */
  readonly ids: LeaseIds;
  /**
   * Calls `then` when all requests are in that had arrived when it was called: a renewal that waited in a socket while the
   * event loop was busy was in time. Undefined: none ever waits there.
   */
  readonly letIn?: ((then: () => void) => void) | undefined;
}

/**
 * Grants, renews and ends leases. A lease ends at the clock's first tick at or after its deadline, never before: one
 * timer waits for the earliest deadline, and there is none while no lease lives.
 */
export class Lessor {
  readonly #clock: Clock;
  readonly #table: LeaseTable;
  readonly #store: Store;
  readonly #ids: LeaseIds;
  readonly #letIn: LessorParts['letIn'];
  /** A renewal only moves the lease's own deadline; its entry here is put right when it comes to the top. */
  readonly #due = new DeadlineHeap<Lease>();
  #timer: Timer | undefined;
  #timerMs = Infinity;

  constructor({ clock, ids, letIn, store, table }: LessorParts) {
    this.#clock = clock;
    this.#ids = ids;
    this.#letIn = letIn;
    this.#table = table;
    this.#store = store;
  }

  /** Grants a lease; an `id` of 0 leaves the choice to the server. */
  grant(id: bigint, ttlSeconds: bigint): Lease {
    if (ttlSeconds > GREATEST_TTL_SECONDS) throw etcdError('LEASE_TTL_TOO_LARGE');
    if (id !== 0n && this.#table.has(id)) throw etcdError('LEASE_EXISTS');
    const granted = ttlSeconds < LEAST_TTL_SECONDS ? LEAST_TTL_SECONDS : ttlSeconds;
    const lease: Lease = {
      id: id === 0n ? this.#freeId() : id,
      ttlSeconds: granted,
      deadlineMs: this.#clock.now() + Number(granted) * 1000,
      keys: new Set(),
    };
    this.#table.add(lease);
    this.#due.push(lease.deadlineMs, lease);
    this.#arm();
    return lease;
  }

  /**
   * Gives a lease its full time again, from now. A lease past its deadline is not found, even if the timer is late; but where
   * renewals may wait unread it is there until they have been let in.
   */
  renew(id: bigint): Lease | undefined {
    const lease = this.#table.get(id);
    if (lease === undefined) return undefined;
    const nowMs = this.#clock.now();
    if (lease.deadlineMs <= nowMs && this.#letIn === undefined) {
      this.#end(lease);
      return undefined;
    }
    lease.deadlineMs = nowMs + Number(lease.ttlSeconds) * 1000;
    return lease;
  }

  /** Gives every lease its full time again, even one that is past its deadline: what etcd does when a leader is elected. */
  promote(): void {
    const nowMs = this.#clock.now();
    for (const lease of this.#table.byDeadline()) lease.deadlineMs = nowMs + Number(lease.ttlSeconds) * 1000;
  }

  /** Ends a lease and deletes its keys in one revision. */
  revoke(id: bigint): void {
    const lease = this.#table.get(id);
    if (lease === undefined) throw etcdError('LEASE_NOT_FOUND');
    this.#end(lease);
    if (this.#due.size > 2 * this.#table.size + DEAD_ENTRIES) this.#due.filter((each) => this.#lives(each));
    if (this.#table.size === 0) this.#disarm();
  }

  /** Whole seconds that `lease` has left. */
  remainingSeconds(lease: Lease): bigint {
    return BigInt(Math.max(0, Math.trunc((lease.deadlineMs - this.#clock.now()) / 1000)));
  }

  /** Stops the timer. Leases do not end any more. */
  close(): void {
    this.#disarm();
  }

  #lives(lease: Lease): boolean {
    return this.#table.get(lease.id) === lease;
  }

  #end(lease: Lease): void {
    this.#table.remove(lease.id);
    if (lease.keys.size > 0) this.#store.deleteKeys(lease.keys);
  }

  /** Ends what was due at `nowMs` and has not been renewed since. */
  #expire(nowMs: number): void {
    for (let lease = this.#due.popDue(nowMs); lease !== undefined; lease = this.#due.popDue(nowMs)) {
      if (!this.#lives(lease)) continue;
      if (lease.deadlineMs > nowMs) this.#due.push(lease.deadlineMs, lease);
      else this.#end(lease);
    }
    this.#arm();
  }

  #arm(): void {
    const firstMs = this.#table.size === 0 ? undefined : this.#due.firstDueMs;
    if (firstMs === undefined || firstMs >= this.#timerMs) return;
    this.#disarm();
    this.#timerMs = firstMs;
    const timer = this.#clock.setTimer(firstMs - this.#clock.now(), () => {
      const nowMs = this.#clock.now();
      const end = (): void => {
        if (this.#timer !== timer) return;
        this.#disarm();
        this.#expire(nowMs);
      };
      if (this.#letIn === undefined) end();
      else this.#letIn(end);
    });
    this.#timer = timer;
  }

  #disarm(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#timerMs = Infinity;
  }

  #freeId(): bigint {
    for (;;) {
      const id = this.#ids();
      if (id !== 0n && !this.#table.has(id)) return id;
    }
  }
}
