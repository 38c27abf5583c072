import { ConclaveError } from '../errors/conclave-error.js';
import type { Timer } from '../util/clock.js';
import type { Connection } from './connection.js';
import type { Endpoint } from './endpoint.js';
import { LeaseLane } from './lease-lane.js';

/** What happens to a lease that is kept alive. Called synchronously; must not throw. */
export interface LeaseListener {
  /** The server renewed the lease when asked at monotonic time `sentAt`; it now lasts `ttlSeconds` from then at least. */
  renewed(sentAt: number, ttlSeconds: number): void;
  /** The server does not know the lease: it expired or was revoked. Nothing follows. */
  expired(): void;
  /** Renewing does not work at the moment; it goes on being tried. */
  failing(error: ConclaveError): void;
}

interface Entry {
  readonly id: bigint;
  readonly listeners: Set<LeaseListener>;
  lane: LeaseLane;
  ttlMs: number;
  dueAt: number;
  /** When the last answer about it came; 0: never. */
  answeredAt: number;
}

/** An unanswered request is repeated this often; the first of those that wait may keep the others waiting this long. */
const REPEAT_MS = 500;
/** After this long without any answer, at the latest, a stream is given up for one on another member. */
const SILENCE_MS = 1600;

/**
 * Keeps all leases of a client alive on one gRPC stream, which is open only while there are leases.
 *
 * The server works on one request of a stream at a time, and on that for a lease which it is just ending for as long as
 * that takes. So a lease whose answer is overdue while others wait behind it is left alone with its stream, the others
 * go on on a new one, and it joins them again when it has been answered.
 */
export class LeaseStream {
  readonly #connection: Connection;
  readonly #entries = new Map<bigint, Entry>();
  readonly #lanes = new Set<LeaseLane>();
  /** The lane that new leases are put on. */
  #shared: LeaseLane | undefined;
  #timer: Timer | undefined;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  /**
   * Keeps lease `id` alive, asking a third of its life after the last renewal, which was sent at `sentAt`. Returns how
   * to stop. Several listeners on one lease share its requests.
   */
  maintain(id: bigint, ttlSeconds: number, sentAt: number, listener: LeaseListener): () => void {
    const ttlMs = ttlSeconds * 1000;
    const entry = this.#entries.get(id) ?? {
      answeredAt: 0,
      dueAt: sentAt + ttlMs / 3,
      id,
      lane: this.#sharedLane(),
      listeners: new Set(),
      ttlMs,
    };
    entry.dueAt = Math.min(entry.dueAt, sentAt + ttlMs / 3);
    this.#entries.set(id, entry);
    entry.listeners.add(listener);
    this.#schedule();
    return () => {
      entry.listeners.delete(listener);
      if (entry.listeners.size === 0 && this.#entries.get(id) === entry) this.#remove(entry);
    };
  }

  get #now(): number {
    return this.#connection.clock.now();
  }

  #sharedLane(): LeaseLane {
    if (this.#shared === undefined) {
      this.#shared = new LeaseLane(this.#connection, {
        answered: (lane, answer) => this.#answered(lane, answer),
        failing: (lane, error, unanswered) => this.#failing(lane, error, unanswered),
        opened: () => this.#tick(),
      });
      this.#lanes.add(this.#shared);
    }
    return this.#shared;
  }

  #remove(entry: Entry): void {
    this.#entries.delete(entry.id);
    this.#closeUnused(entry.lane);
    this.#schedule();
  }

  #closeUnused(lane: LeaseLane): void {
    for (const entry of this.#entries.values()) if (entry.lane === lane) return;
    this.#lanes.delete(lane);
    if (this.#shared === lane) this.#shared = undefined;
    lane.close();
  }

  /** Sets the timer to the moment the next request is due. Lanes that are being opened call by themselves. */
  #schedule(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    if (this.#connection.closed.aborted) return;
    let next = Infinity;
    for (const { dueAt, lane } of this.#entries.values()) {
      if (lane.phase !== 'opening') next = Math.min(next, dueAt);
    }
    if (next < Infinity) this.#timer = this.#connection.clock.setTimer(next - this.#now, () => this.#tick());
  }

  #tick(): void {
    for (const lane of [...this.#lanes]) this.#check(lane);
    const now = this.#now;
    const due = [...this.#entries.values()].filter((entry) => entry.dueAt <= now);
    // Those that were answered lately first: the server may be ending one of the others.
    due.sort((a, b) => b.answeredAt - a.answeredAt);
    for (const entry of due) {
      if (entry.lane.phase === 'idle') entry.lane.open();
      if (entry.lane.phase !== 'open') continue;
      entry.dueAt = now + REPEAT_MS;
      entry.lane.ask(entry.id);
    }
    this.#schedule();
  }

  #check(lane: LeaseLane): void {
    const { endpoint, headId, stuckMs } = lane;
    if (endpoint === undefined || headId === undefined) return;
    if (stuckMs >= this.#patienceMs(lane)) {
      if (endpoint.lastReplyAt <= this.#now - stuckMs) endpoint.suspectUntil = this.#now + REPEAT_MS * 4;
      lane.fail(new ConclaveError('UNAVAILABLE', `keepalive: ${endpoint.url} does not answer`));
    } else if (stuckMs >= this.#overdueMs && lane === this.#shared && lane.unanswered.size > 1) {
      this.#leaveAlone(lane, headId, endpoint);
    }
  }

  /** When an answer is overdue: a slow link is no fault. */
  get #overdueMs(): number {
    return Math.min(SILENCE_MS, Math.max(REPEAT_MS, 2 * this.#connection.replyMs));
  }

  /** How long a lane may be silent: less when a short lease needs what time is left for another member. */
  #patienceMs(lane: LeaseLane): number {
    if (this.#connection.endpoints.length === 1) return SILENCE_MS;
    let shortestMs = Infinity;
    for (const id of lane.unanswered)
      shortestMs = Math.min(shortestMs, this.#entries.get(id)?.ttlMs ?? Infinity);
    return Math.min(SILENCE_MS, Math.max(this.#overdueMs, shortestMs / 4));
  }

  /** Leaves lease `id`, which holds up the others on its lane, alone there. */
  #leaveAlone(lane: LeaseLane, id: bigint, endpoint: Endpoint): void {
    const { unanswered } = lane;
    this.#shared = undefined;
    const others = this.#sharedLane();
    for (const entry of this.#entries.values()) {
      if (entry.lane !== lane || entry.id === id) continue;
      entry.lane = others;
      if (unanswered.has(entry.id)) entry.dueAt = this.#now;
    }
    this.#closeUnused(lane);
    // Perhaps it is the member that is slow.
    others.open(endpoint);
  }

  #answered(lane: LeaseLane, answer: { id: bigint; sentAt: number; ttlSeconds: number }): void {
    const { id, sentAt, ttlSeconds } = answer;
    const entry = this.#entries.get(id);
    if (entry === undefined) return;
    if (ttlSeconds <= 0) {
      this.#remove(entry);
      for (const listener of [...entry.listeners]) listener.expired();
      return;
    }
    entry.answeredAt = this.#now;
    entry.ttlMs = ttlSeconds * 1000;
    entry.dueAt = sentAt + entry.ttlMs / 3;
    if (entry.lane === lane && lane !== this.#shared) {
      entry.lane = this.#sharedLane();
      this.#closeUnused(lane);
    }
    this.#schedule();
    for (const listener of [...entry.listeners]) listener.renewed(sentAt, ttlSeconds);
  }

  #failing(lane: LeaseLane, error: ConclaveError, unanswered: ReadonlySet<bigint>): void {
    for (const entry of [...this.#entries.values()]) {
      if (entry.lane !== lane) continue;
      if (unanswered.has(entry.id)) entry.dueAt = this.#now;
      for (const listener of [...entry.listeners]) listener.failing(error);
    }
  }
}
