/**
 * Keeps all leases of a client alive on one gRPC stream, which is open only while there are leases.
 *
 * The server works on one request of a stream at a time, and on that for a lease which it is just ending for as long as
 * that takes. So a lease whose answer is overdue while others wait behind it is left alone with its stream, the others
 * go on on a new one, and it joins them again when it has been answered.
 *
 * A lease is asked for once and then owed an answer; what waits longer is not asked for again but waited for, or its
 * stream is given up. So the work of a renewal does not grow with the number of leases, nor with how slow the server is.
 */
import { ConclaveError } from '../../errors/conclave-error.js';
import { onAbort } from '../../util/abort.js';
import { tell } from '../../util/channels.js';
import type { Timer } from '../../util/clock.js';
import type { Connection } from '../transport/connection.js';
import type { Endpoint } from '../transport/endpoint.js';
import { type KeptLease, LeaseGroup } from './lease-group.js';
import { LeaseLane } from './lease-lane.js';
import type { LeaseListener } from './lease-listener.js';

/** After this long an answer is overdue, unless the link is known to be slower; the others behind it wait no longer. */
const OVERDUE_MS = 500;
/** After this long without any answer, at the latest, a stream is given up for one on another member. */
const SILENCE_MS = 1600;
/** So late, the event loop was kept busy or the process frozen; told of, since it eats into every lease. */
const STALL_MS = 50;
/** How long a member whose stream was given up is used only when there is no other. */
const SUSPECT_MS = 2000;

export class LeaseStream {
  readonly #connection: Connection;
  readonly #leases = new Map<bigint, KeptLease>();
  readonly #groups = new Set<LeaseGroup>();
  /** The group that new leases are put in. */
  #shared: LeaseGroup | undefined;
  #timer: { readonly timer: Timer; readonly at: number } | undefined;

  constructor(connection: Connection) {
    this.#connection = connection;
    onAbort(connection.closed, () => this.#schedule());
    connection.history.onBegin(() => this.#askAll());
  }

  /**
   * Keeps lease `id` alive, asking a third of its life after the last renewal, which was sent at `sentAt`. Returns how
   * to stop. Several listeners on one lease share its requests.
   */
  maintain(id: bigint, ttlSeconds: number, sentAt: number, listener: LeaseListener): () => void {
    const ttlMs = ttlSeconds * 1000;
    const dueAt = sentAt + ttlMs / 3;
    const lease = this.#leases.get(id) ?? this.#add(id, ttlMs, dueAt);
    // While an answer is owed, that one will do.
    if (dueAt < lease.dueAt && lease.dueAt < Infinity) lease.group.setDue(lease, dueAt);
    lease.listeners.add(listener);
    this.#schedule();
    return () => {
      lease.listeners.delete(listener);
      if (lease.listeners.size === 0 && this.#leases.get(id) === lease) this.#remove(lease);
    };
  }

  get #now(): number {
    return this.#connection.clock.now();
  }

  #add(id: bigint, ttlMs: number, dueAt: number): KeptLease {
    const group = this.#sharedGroup();
    const lease: KeptLease = { answeredAt: 0, dueAt, group, id, listeners: new Set(), place: 0, ttlMs };
    group.add(lease);
    this.#leases.set(id, lease);
    return lease;
  }

  #remove(lease: KeptLease): void {
    this.#leases.delete(lease.id);
    lease.group.remove(lease);
    this.#closeUnused(lease.group);
    this.#schedule();
  }

  #sharedGroup(): LeaseGroup {
    if (this.#shared === undefined) {
      this.#shared = new LeaseGroup((group) => {
        const owed = (id: bigint): void => this.#owe(group, id);
        return new LeaseLane(this.#connection, {
          answered: (_, answer) => this.#answered(group, answer),
          doubted: () => this.#askAll(),
          failing: (_, error, unanswered) => {
            unanswered.forEach(owed);
            this.#askOne(group);
            this.#failing(group, error);
          },
          opened: () => this.#tick(),
          passedOver: (_, id) => owed(id),
        });
      });
      this.#groups.add(this.#shared);
    }
    return this.#shared;
  }

  #closeUnused(group: LeaseGroup): void {
    if (group.size > 0) return;
    this.#groups.delete(group);
    if (this.#shared === group) this.#shared = undefined;
    group.lane.close();
  }

  /** Sees to it that something is done when the next thing is due. A timer that is early enough already is left alone. */
  #schedule(): void {
    let next = Infinity;
    if (!this.#connection.closed.aborted)
      for (const group of this.#groups) next = Math.min(next, this.#nextAt(group));
    if (this.#timer !== undefined && next < Infinity && this.#timer.at <= next) return;
    this.#timer?.timer.cancel();
    this.#timer = undefined;
    if (next === Infinity) return;
    // Whole milliseconds: now plus a fraction can round to just before `next`, where nothing is due yet.
    const timer = this.#connection.clock.setTimer(Math.ceil(next - this.#now), () => {
      this.#timer = undefined;
      const lateMs = this.#now - next;
      if (lateMs > STALL_MS) tell('stall', () => ({ lateMs }));
      this.#tick();
    });
    this.#timer = { at: next, timer };
  }

  /** When the next request of a group is due, or its stream is to be looked at. A lane that is being opened calls by itself. */
  #nextAt(group: LeaseGroup): number {
    const { lane, nextDueAt } = group;
    if (lane.phase === 'opening') return Infinity;
    const { busySince } = lane;
    if (busySince === undefined) return nextDueAt;
    const overdueAt = busySince + this.#overdueMs;
    const looksAt = overdueAt > this.#now ? overdueAt : busySince + this.#patienceMs(group);
    return Math.min(nextDueAt, looksAt);
  }

  #tick(): void {
    for (const group of [...this.#groups]) this.#check(group);
    const now = this.#now;
    for (const group of [...this.#groups]) {
      if (group.nextDueAt > now) continue;
      if (group.lane.phase === 'idle') group.lane.open();
      if (group.lane.phase !== 'open') continue;
      group.askDue(now);
      this.#check(group);
    }
    this.#schedule();
  }

  /** Gives up a stream that is silent, and takes the others out from behind a lease whose answer is overdue. */
  #check(group: LeaseGroup): void {
    const { lane } = group;
    const { busySince, endpoint, headId } = lane;
    if (endpoint === undefined || headId === undefined || busySince === undefined) return;
    // The same sums as in #nextAt: a difference can round otherwise, and the timer would come again and again.
    const now = this.#now;
    if (now >= busySince + this.#patienceMs(group)) {
      if (endpoint.lastReplyAt <= busySince) endpoint.suspectUntil = now + SUSPECT_MS;
      lane.fail(new ConclaveError('UNAVAILABLE', `keepalive: ${endpoint.url} does not answer`));
    } else if (now >= busySince + this.#overdueMs && group === this.#shared && lane.waiting > 1) {
      this.#leaveAlone(group, headId, endpoint);
    }
  }

  /** When an answer is overdue: a slow link is no fault. */
  get #overdueMs(): number {
    return Math.min(SILENCE_MS, Math.max(OVERDUE_MS, 2 * this.#connection.replyMs));
  }

  /** How long a stream may be silent: less when a short lease needs what time is left for another member. */
  #patienceMs(group: LeaseGroup): number {
    if (this.#connection.endpoints.length === 1) return SILENCE_MS;
    return Math.min(SILENCE_MS, Math.max(this.#overdueMs, group.shortestTtlMs / 4));
  }

  /** Leaves lease `id`, which holds up the others of its group, alone there. */
  #leaveAlone(group: LeaseGroup, id: bigint, endpoint: Endpoint): void {
    this.#shared = undefined;
    const others = this.#sharedGroup();
    for (const lease of [...group]) {
      if (lease.id === id) continue;
      group.remove(lease);
      // What is owed to them may never come.
      if (lease.dueAt === Infinity) lease.dueAt = this.#now;
      others.add(lease);
    }
    this.#closeUnused(group);
    this.#closeUnused(others);
    // Perhaps it is the member that is slow.
    if (others.size > 0) others.lane.open(endpoint);
  }

  #answered(group: LeaseGroup, answer: { id: bigint; sentAt: number; ttlSeconds: number }): void {
    const { id, sentAt, ttlSeconds } = answer;
    const lease = this.#leases.get(id);
    if (lease === undefined) return;
    if (ttlSeconds <= 0) {
      this.#remove(lease);
      for (const listener of [...lease.listeners]) listener.expired();
      return;
    }
    lease.answeredAt = this.#now;
    lease.group.setTtl(lease, ttlSeconds * 1000);
    if (lease.group === group && group !== this.#shared) {
      group.remove(lease);
      lease.dueAt = sentAt + lease.ttlMs / 3;
      this.#sharedGroup().add(lease);
      this.#closeUnused(group);
    } else if (lease.group === group || lease.dueAt < Infinity) {
      lease.group.setDue(lease, sentAt + lease.ttlMs / 3);
    }
    this.#schedule();
    for (const listener of [...lease.listeners]) listener.renewed(sentAt, ttlSeconds);
  }

  /** A stream has broken: one answer on the next tells whether history is the same there. */
  #askOne(group: LeaseGroup): void {
    if (group.nextDueAt <= this.#now) return;
    for (const lease of group) {
      if (lease.dueAt < Infinity) group.setDue(lease, this.#now);
      break;
    }
  }

  /** History may be another one: asks for every lease now, so that those which are not known there are lost at once. */
  #askAll(): void {
    for (const group of this.#groups)
      for (const lease of [...group]) if (lease.dueAt < Infinity) group.setDue(lease, this.#now);
    this.#schedule();
  }

  /** The answer that a group owed to a lease will not come. */
  #owe(group: LeaseGroup, id: bigint): void {
    const lease = this.#leases.get(id);
    if (lease?.group !== group || lease.dueAt < Infinity) return;
    group.setDue(lease, this.#now);
    this.#schedule();
  }

  #failing(group: LeaseGroup, error: ConclaveError): void {
    for (const lease of [...group]) for (const listener of [...lease.listeners]) listener.failing(error);
    this.#schedule();
  }
}
