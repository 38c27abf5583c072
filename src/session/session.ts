/**
 * A session is a lease that this process keeps alive, with a deadline of our own that ends it before etcd can.
 *
 * Invariant: while `session.alive` is true, the lease exists on the server, because the last answered keepalive was sent
 * less than TTL - margin ago, by the monotonic clock, and the server renewed the lease after it was sent.
 *
 * Not guaranteed: that the monotonic clock runs while the machine is suspended (Linux stops it), and that an operator
 * does not revoke the lease from outside; that is noticed with the next keepalive at the latest.
 */
import type { InspectOptions } from 'node:util';

import { ConclaveError } from '../errors/conclave-error.js';
import { Client } from '../etcd/client.js';
import { leaseHex, type LeaseTerm } from '../etcd/lease/lease.js';
import type { CallOptions } from '../etcd/transport/call.js';
import { onAbort, waitAtMost } from '../util/abort.js';
import { isTold, tell } from '../util/channels.js';
import type { Clock, Timer } from '../util/clock.js';
import { asJson, asText, INSPECT } from '../util/shown.js';
import { checkInstance, checkInt64, checkMs, checkOptions, checkTtlSeconds } from '../util/validate.js';
import { removeKeysOfOneUse } from './earlier-life.js';
import { beginLife, Floor } from './floor.js';
import { checkMargin, grantUnlessAborted, leftOf, UNDO_MS } from './opening.js';
import { answersForRevokedLeases, warnAboutServer } from './server-faults.js';

/** Options of `Session.open`. */
export interface SessionOptions {
  /** Whole seconds after which etcd ends the session of a process that died; at least 1, etcd gives 2 or more. @default 10 */
  readonly ttlSeconds?: number | undefined;
  /**
   * Resume the session that has this lease, of an earlier life of this process or one that was orphaned. Its mutexes and
   * candidacies are taken up by whoever asks for them again; all else that it held or waited for is given back.
   */
  readonly leaseId?: bigint | undefined;
  /** How long before the server could end the lease we end it ourselves. @default a tenth of the TTL, 200 ms to 2 s */
  readonly marginMs?: number | undefined;
  /** Says who we are, where people look at who holds and who waits. */
  readonly label?: string | undefined;
  /** Gives up opening. */
  readonly signal?: AbortSignal | undefined;
  /** Deadline of opening, in milliseconds. @default the client's */
  readonly timeoutMs?: number | undefined;
}

/**
 * `active`: keepalives are answered. `jeopardy`: the last answer is old (half the TTL) but the lease is still provably
 * there. `lost`: it is not, and will never be again. `closed`: ended by `close()` or `orphan()`.
 */
export type SessionState = 'active' | 'jeopardy' | 'lost' | 'closed';

type Phase =
  | { readonly is: 'alive'; readonly deadline: Timer; readonly stopKeepAlive: () => void }
  | { readonly is: 'lost'; readonly leaseMayLive: boolean }
  | { readonly is: 'closed'; readonly done: Promise<void> };

const OPTIONS = ['ttlSeconds', 'leaseId', 'marginMs', 'label', 'signal', 'timeoutMs'] as const;

const GONE = 'its lease expired or was revoked on the server';

/**
 * What locks, elections and queues stand on: it ends, and with it all that is held on it, when this process dies.
 *
 * @example
 * await using session = await Session.open(client, { ttlSeconds: 10 });
 */
export class Session {
  readonly client: Client;
  readonly leaseId: bigint;
  readonly label: string | undefined;
  /** @internal For the rooms built on sessions: numbers their attempts, so that nothing of them comes late. */
  readonly floor: Floor;
  readonly #clock: Clock;
  readonly #controller = new AbortController();
  readonly #marginMs: number | undefined;
  #ttlMs: number;
  #renewedAt: number;
  /** Whether listeners were told that it is in jeopardy. */
  #toldJeopardy = false;
  #lastFailure: ConclaveError | undefined;
  #verifies = false;
  #roundTripMs: number | undefined;
  #phase: Phase;

  /**
   * Grants a lease, or takes over `leaseId`, and keeps it alive. Rejects with `LEASE_NOT_FOUND` when the lease to resume
   * is gone, `UNAVAILABLE` when no endpoint answers, and with the signal's reason after what was granted has been revoked;
   * if that cannot be confirmed within a second, the lease runs out by itself.
   */
  static async open(client: Client, options: SessionOptions = {}): Promise<Session> {
    checkInstance(client, { Client }, "a session's client");
    checkOptions(options, OPTIONS, 'Session.open');
    const ttlSeconds = checkTtlSeconds(options.ttlSeconds ?? 10);
    if (options.marginMs !== undefined) checkMs(options.marginMs, 'marginMs');
    if (options.leaseId === undefined) checkMargin(options.marginMs, ttlSeconds);
    else checkInt64(options.leaseId, 'leaseId', 1n);
    if (options.label !== undefined && typeof options.label !== 'string')
      throw new TypeError(`label must be a string, not ${typeof options.label}`);
    const limits = { signal: options.signal, timeoutMs: options.timeoutMs };
    const from = client.clock.now();
    const left = (): CallOptions => leftOf(limits, client.clock.now() - from);
    const term =
      options.leaseId === undefined
        ? await grantUnlessAborted(client, ttlSeconds, limits)
        : await client.lease.keepAliveOnce(options.leaseId, limits);
    checkMargin(options.marginMs, term.ttlSeconds);
    const session = new Session(client, term, options);
    try {
      const isNew = options.leaseId === undefined;
      session.floor.begin(await beginLife(client, { isNew, leaseId: term.id }, left()));
      if (!isNew) await removeKeysOfOneUse(client, term.id, left());
    } catch (error) {
      if (options.leaseId === undefined) await waitAtMost(client.clock, UNDO_MS, session.close());
      session.orphan();
      throw error;
    }
    void session.#checkServer();
    session.#tell('active');
    return session;
  }

  private constructor(client: Client, term: LeaseTerm, options: SessionOptions) {
    this.client = client;
    this.leaseId = term.id;
    this.label = options.label;
    this.floor = new Floor(this);
    this.#clock = client.clock;
    this.#marginMs = options.marginMs;
    this.#ttlMs = term.ttlSeconds * 1000;
    this.#renewedAt = term.sentAt;
    const stopLease = client.lease.maintain(term, {
      expired: () => this.#lose(GONE),
      failing: (error) => {
        this.#lastFailure = error;
      },
      renewed: (sentAt, ttlSeconds) => this.#renewed(sentAt, ttlSeconds),
    });
    const stopClient = onAbort(client.closed, () => this.#lose('its client was closed'));
    const stopKeepAlive = (): void => {
      stopLease();
      stopClient();
    };
    this.#phase = { deadline: this.#setDeadline(), is: 'alive', stopKeepAlive };
  }

  /** How the session is doing at this very moment; right even when timers are late. */
  get state(): SessionState {
    if (!this.alive) return this.#phase.is === 'closed' ? 'closed' : 'lost';
    return this.#clock.now() - this.#renewedAt >= this.#ttlMs / 2 ? 'jeopardy' : 'active';
  }

  /** Whether the lease is provably there. A synchronous look at the clock: right after a freeze, too. */
  get alive(): boolean {
    if (this.#phase.is === 'alive' && this.#leftMs <= 0) this.#expire();
    return this.#phase.is === 'alive';
  }

  /** Aborts when the session is lost (code `SESSION_LOST`, saying why) or closed (code `CLOSED`). */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Milliseconds until the session ends unless a keepalive is answered before; 0 when it has ended. */
  get remainingMs(): number {
    return this.alive ? this.#leftMs : 0;
  }

  /** How long the last answered keepalive took; undefined before the first one. */
  get roundTripMs(): number | undefined {
    return this.#roundTripMs;
  }

  /** What etcd granted, in seconds. */
  get ttlSeconds(): number {
    return this.#ttlMs / 1000;
  }

  /** Why the session ended; undefined while it has not. */
  get reason(): ConclaveError | undefined {
    return this.alive ? undefined : (this.signal.reason as ConclaveError);
  }

  /** Throws the reason when the session has ended. */
  throwIfEnded(): void {
    if (!this.alive) throw this.signal.reason;
  }

  /** @internal For the rooms built on sessions: etcd said that it does not know our lease, so the session is lost now. */
  leaseIsGone(): void {
    this.#lose(GONE);
  }

  /**
   * For the rooms built on sessions: a key of our lease is gone. Asks etcd whether the lease is; if so, the session is lost
   * once this resolves. Rejects when nobody answers.
   * @internal
   */
  async checkLease(why = GONE): Promise<void> {
    const life = await this.client.lease.timeToLive(this.leaseId, { signal: this.signal });
    if (life.ttlSeconds < 0) this.#lose(why);
  }

  /**
   * For what replaces a lost session: ends its lease, if that may live on because only we have heard nothing of it, and
   * with it all that the session still holds in etcd. Rejects when nobody answers.
   * @internal
   */
  async buryLease(): Promise<void> {
    if (this.#phase.is !== 'lost' || !this.#phase.leaseMayLive) return;
    const timeoutMs = Math.min(this.#ttlMs, 5000);
    await this.client.lease.revoke(this.leaseId, { timeoutMs });
  }

  /** @internal For the rooms built on sessions: `key`, which we had, now belongs to another session on the same lease. */
  takenOver(key: string): void {
    this.#lose(`another session resumed its lease and took ${key} over`);
  }

  /**
   * Ends the session and revokes its lease, which deletes every key bound to it. Rejects when the revocation cannot be
   * confirmed; the lease then runs out by itself within its TTL. Closing twice gives the first call's promise.
   */
  close(): Promise<void> {
    if (this.#phase.is === 'closed') return this.#phase.done;
    if (!this.alive) return Promise.resolve();
    const timeoutMs = Math.min(this.#ttlMs, 5000);
    return this.#end(() => this.client.lease.revoke(this.leaseId, { timeoutMs }));
  }

  /** Ends the session here and leaves the lease to run out, or to be resumed by its id elsewhere. */
  orphan(): void {
    if (this.#phase.is === 'alive') void this.#end(() => Promise.resolve());
  }

  /** Its lease as a decimal string, its label and how it is doing. */
  toJSON(): Record<string, unknown> {
    return asJson(this.#shown);
  }

  /** @internal */
  [INSPECT](_depth: number, options: InspectOptions): string {
    return asText('Session', this.#shown, options);
  }

  /** As `close()`, but never throws: a lease that could not be revoked runs out by itself. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close().catch(() => undefined);
  }

  get #shown(): Readonly<Record<string, unknown>> {
    const { label, leaseId, state, ttlSeconds } = this;
    return { leaseId, label, state, ttlSeconds };
  }

  get #margin(): number {
    return this.#marginMs ?? Math.min(2000, Math.max(200, this.#ttlMs / 10));
  }

  get #leftMs(): number {
    return this.#renewedAt + this.#ttlMs - this.#margin - this.#clock.now();
  }

  #name(): string {
    return `session ${leaseHex(this.leaseId)}${this.label === undefined ? '' : ` (${this.label})`}`;
  }

  #tell(state: SessionState, error?: ConclaveError): void {
    const { label, leaseId } = this;
    tell('session', () => ({ error, label, leaseId, state }));
  }

  #setDeadline(): Timer {
    const leftMs = Math.max(0, this.#leftMs);
    // Whoever listens hears of jeopardy as it begins; for nobody, no timer fires.
    const untilJeopardyMs = this.#renewedAt + this.#ttlMs / 2 - this.#clock.now();
    const looks = isTold('session') && !this.#toldJeopardy;
    return this.#clock.setTimer(looks ? Math.min(leftMs, Math.max(0, untilJeopardyMs)) : leftMs, () => {
      if (this.#phase.is !== 'alive') return;
      if (this.#leftMs <= 0) {
        this.#expire();
        return;
      }
      if (this.state === 'jeopardy' && !this.#toldJeopardy) {
        this.#toldJeopardy = true;
        this.#tell('jeopardy');
      }
      this.#phase = { ...this.#phase, deadline: this.#setDeadline() };
    });
  }

  #renewed(sentAt: number, ttlSeconds: number): void {
    if (!this.alive || this.#phase.is !== 'alive' || sentAt < this.#renewedAt) return;
    this.#renewedAt = sentAt;
    this.#roundTripMs = this.#clock.now() - sentAt;
    this.#ttlMs = ttlSeconds * 1000;
    this.#lastFailure = undefined;
    if (this.#toldJeopardy) this.#tell('active');
    this.#toldJeopardy = false;
    this.#phase.deadline.cancel();
    this.#phase = { ...this.#phase, deadline: this.#setDeadline() };
    if (this.#verifies) void this.#verify();
  }

  #expire(): void {
    const agoMs = Math.round(this.#clock.now() - this.#renewedAt);
    this.#lose(
      `no keepalive sent in the last ${String(agoMs)} ms was answered, with a TTL of ${String(this.#ttlMs)} ms`,
      true,
    );
  }

  #lose(why: string, leaseMayLive = false): void {
    if (this.#phase.is !== 'alive') return;
    this.#phase.deadline.cancel();
    this.#phase.stopKeepAlive();
    this.#phase = { is: 'lost', leaseMayLive };
    const text = `${this.#name()} is lost: ${why}; whatever it held may be held by others now. Open a new session.`;
    const error = new ConclaveError('SESSION_LOST', text, { cause: this.#lastFailure });
    this.#controller.abort(error);
    this.#tell('lost', error);
  }

  #end(farewell: () => Promise<void>): Promise<void> {
    if (this.#phase.is !== 'alive') return Promise.resolve();
    this.#phase.deadline.cancel();
    this.#phase.stopKeepAlive();
    // Nothing may be believed to be held once the revocation is on its way, so the signal comes first.
    let finish = (): void => undefined;
    const started = new Promise<void>((resolve) => {
      finish = resolve;
    });
    const done = started.then(farewell);
    done.catch(() => undefined);
    this.#phase = { done, is: 'closed' };
    this.#controller.abort(new ConclaveError('CLOSED', `${this.#name()} was closed`));
    this.#tell('closed');
    finish();
    return done;
  }

  /** Says so when the server can answer keepalives for a lease it has revoked, and then looks for itself. */
  async #checkServer(): Promise<void> {
    try {
      const version = await this.client.maintenance.serverVersion();
      if (!answersForRevokedLeases(version)) return;
      warnAboutServer(version);
      this.#verifies = true;
    } catch {
      // Only a warning hangs on it; a server that does not tell its version is taken as it is.
    }
  }

  async #verify(): Promise<void> {
    try {
      await this.checkLease('its lease was revoked, although the server still answers its keepalives');
    } catch {
      // The next renewal looks again; the deadline holds meanwhile.
    }
  }
}
