/** The leases that share one stream of keepalives: which is due next, and which has the shortest life. */
import type { LeaseLane } from './lease-lane.js';
import { type Due, DueHeap } from './due-heap.js';
import type { LeaseListener } from './lease-listener.js';

/** A lease that is kept alive. `dueAt` is Infinity while its group's stream owes an answer about it. */
export interface KeptLease extends Due {
  readonly id: bigint;
  readonly listeners: Set<LeaseListener>;
  group: LeaseGroup;
  ttlMs: number;
  /** When the last answer about it came; 0: never. */
  answeredAt: number;
}

export class LeaseGroup {
  readonly lane: LeaseLane;
  readonly #leases = new DueHeap<KeptLease>();
  /** How many leases have each time to live; there are few different ones. */
  readonly #ttls = new Map<number, number>();

  /** `open` makes the stream of this group. */
  constructor(open: (group: LeaseGroup) => LeaseLane) {
    this.lane = open(this);
  }

  get size(): number {
    return this.#leases.size;
  }

  /** When the next request is due; Infinity: not before an answer comes. */
  get nextDueAt(): number {
    return this.#leases.first?.dueAt ?? Infinity;
  }

  get shortestTtlMs(): number {
    return Math.min(...this.#ttls.keys());
  }

  /** Its leases, in no order. Not to be changed meanwhile. */
  [Symbol.iterator](): Iterator<KeptLease> {
    return this.#leases[Symbol.iterator]();
  }

  add(lease: KeptLease): void {
    lease.group = this;
    this.#leases.add(lease);
    this.#count(lease.ttlMs, 1);
  }

  remove(lease: KeptLease): void {
    this.#leases.remove(lease);
    this.#count(lease.ttlMs, -1);
  }

  setDue(lease: KeptLease, dueAt: number): void {
    this.#leases.move(lease, dueAt);
  }

  setTtl(lease: KeptLease, ttlMs: number): void {
    if (ttlMs === lease.ttlMs) return;
    this.#count(lease.ttlMs, -1);
    lease.ttlMs = ttlMs;
    this.#count(ttlMs, 1);
  }

  /** Asks for all that are due at `now`. */
  askDue(now: number): void {
    const due: KeptLease[] = [];
    for (let first = this.#leases.first; first !== undefined && first.dueAt <= now;) {
      due.push(first);
      this.#leases.move(first, Infinity);
      first = this.#leases.first;
    }
    // Those that were answered lately first: the server may be ending one of the others.
    due.sort((a, b) => b.answeredAt - a.answeredAt);
    for (const { id } of due) this.lane.ask(id);
  }

  #count(ttlMs: number, change: number): void {
    const count = (this.#ttls.get(ttlMs) ?? 0) + change;
    if (count === 0) this.#ttls.delete(ttlMs);
    else this.#ttls.set(ttlMs, count);
  }
}
