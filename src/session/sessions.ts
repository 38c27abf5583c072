/**
 * A session that renews itself: one after the other, each on a lease of its own, for as long as nobody closes it.
 *
 * Invariant: at most one session is alive at any time, and a new one is opened only once the one before is lost; what that
 * still had in etcd is removed first, so that it cannot stand in the way of what comes back. A session in jeopardy, whose
 * lease is still provably there, is kept.
 *
 * Not guaranteed: that what was held outlives the session it was held on. Its signals say so, as early as ever.
 */
import type { InspectOptions } from 'node:util';

import { ConclaveError, hasCode } from '../errors/conclave-error.js';
import { passesByItself } from '../errors/transient.js';
import type { Client } from '../etcd/client.js';
import { untilAnswered } from '../etcd/transport/until-answered.js';
import { limitWait, onAbort, orAborted, sleep, waitAtMost, type WaitOptions } from '../util/abort.js';
import { backoffMs } from '../util/backoff.js';
import { goingClock } from '../util/clock.js';
import { Deferred } from '../util/deferred.js';
import { promised } from '../util/promised.js';
import { asJson, asText, INSPECT } from '../util/shown.js';
import { thrownText, warn } from '../util/warn.js';
import { Session, type SessionOptions } from './session.js';

/** How each of the sessions is opened. */
export type RenewalOptions = Pick<SessionOptions, 'label' | 'marginMs' | 'ttlSeconds'>;

/** How long it waits after a failed try to open the next session. */
const PAUSE = { baseMs: 50, maxMs: 2000 } as const;

/** What is kept of the time for closing, for handing back what was not done, and for giving back the lease. */
const LAST_MS = 2000;

/** How something is ended that goes on from session to session. */
export interface Farewell {
  /** Ends it within so many milliseconds. */
  readonly end: (graceMs: number) => Promise<unknown>;
  /** Whether the caller was called by it, and has not ended. */
  readonly isInside: () => boolean;
}

/** Made by `connect()`, which says what it is for. Wherever a `Session` is taken, this may be given. */
export abstract class Sessions {
  readonly client: Client;
  readonly #options: RenewalOptions;
  readonly #closed = new AbortController();
  readonly #farewells = new Set<Farewell>();
  #session: Session;
  /** Resolves with the next session; undefined while the one of the moment is not lost. */
  #next: Deferred<Session> | undefined;
  #count = 1;
  #lastFailure: unknown;
  #hasWarned = false;

  protected constructor(first: Session, options: RenewalOptions) {
    this.client = first.client;
    this.#options = options;
    this.#session = first;
    this.#follow(first);
  }

  /** The session of the moment. It may be lost already: then the next one is being opened. */
  get session(): Session {
    return this.#session;
  }

  /** How many sessions there have been. */
  get sessionCount(): number {
    return this.#count;
  }

  /** Why the last try to open a session failed; undefined when it did not. */
  get lastFailure(): unknown {
    return this.#lastFailure;
  }

  /** @internal For the rooms built on sessions: aborts when nothing may be acquired any more. */
  get closed(): AbortSignal {
    return this.#closed.signal;
  }

  /**
   * A session that is alive: the one of the moment, or the next one. Rejects with the signal's reason.
   * @internal
   */
  async alive(signal: AbortSignal): Promise<Session> {
    for (;;) {
      signal.throwIfAborted();
      this.#closed.signal.throwIfAborted();
      if (this.#session.alive) return this.#session;
      await orAborted(orAborted(this.#replaced().promise, this.#closed.signal), signal);
    }
  }

  /**
   * For the rooms built on sessions: what goes on from session to session says how to end it. Returns how to take that back,
   * which whoever ends by himself must call.
   * @internal
   */
  beforeClose(farewell: Farewell): () => void {
    this.#farewells.add(farewell);
    return () => this.#farewells.delete(farewell);
  }

  /** What it is, for logs. */
  toJSON(): Record<string, unknown> {
    return asJson({ session: this.#session, sessionCount: this.#count });
  }

  /** @internal */
  [INSPECT](_depth: number, options: InspectOptions): string {
    return asText('Conclave', { session: this.#session, sessionCount: this.#count }, options);
  }

  /** Whether the caller is part of what would have to end first, such as a handler of a queue: it would wait for itself. */
  protected get waitsForItself(): boolean {
    return [...this.#farewells].some((farewell) => farewell.isInside());
  }

  /** Ends what goes on from session to session, then the session, all within `graceMs`. For `Conclave.close`. */
  protected async endSessions(graceMs: number): Promise<void> {
    // What does not end in time is handed back; and after that there must be time to give back the lease.
    const lastMs = Math.min(graceMs / 2, LAST_MS);
    const clock = goingClock(this.client.clock);
    const farewells = [...this.#farewells].map((farewell) => farewell.end(graceMs - lastMs));
    await waitAtMost(clock, graceMs - lastMs / 2, Promise.allSettled(farewells));
    this.#stopRenewing();
    await waitAtMost(clock, lastMs / 2, this.#session.close());
    this.#session.orphan();
  }

  /** No session follows any more, and what waits for one is told. */
  #stopRenewing(): void {
    this.#closed.abort(new ConclaveError('CLOSED', 'this Conclave was closed'));
  }

  #follow(session: Session): void {
    onAbort(session.signal, () => void this.#replaced());
  }

  /** The session of the moment has ended: the next one is on its way. */
  #replaced(): Deferred<Session> {
    if (this.#next !== undefined) return this.#next;
    const next = new Deferred<Session>();
    next.promise.catch(() => undefined);
    this.#next = next;
    void this.#renew(this.#session).then(
      (session) => {
        this.#session = session;
        if (this.#closed.signal.aborted) void session.close().catch(() => undefined);
        this.#count += 1;
        this.#next = undefined;
        this.#lastFailure = undefined;
        this.#follow(session);
        next.resolve(session);
      },
      (error: unknown) => next.reject(error),
    );
    return next;
  }

  /** Opens the next session, however long that takes. Rejects when we are closed. */
  async #renew(lost: Session): Promise<Session> {
    const { client } = this;
    using limit = limitWait(client.clock, {}, 'open the next session', [this.#closed.signal, client.closed]);
    const { signal } = limit;
    for (let attempt = 0; ; attempt++) {
      // A fleet whose sessions were lost together must not come back in one moment.
      await sleep(client.clock, backoffMs(attempt, PAUSE), signal);
      try {
        await orAborted(lost.buryLease(), signal);
        return await Session.open(client, { ...this.#options, signal });
      } catch (error) {
        signal.throwIfAborted();
        this.#lastFailure = error;
        // Whose lease was revoked before it was open gets another one.
        if (!passesByItself(error) && !hasCode(error, 'LEASE_NOT_FOUND')) this.#warn(error);
      }
    }
  }

  /** What does not pass by itself somebody has to mend. It is said once. */
  #warn(error: unknown): void {
    if (this.#hasWarned) return;
    this.#hasWarned = true;
    const text = `the session was lost and no new one can be opened, which is tried on and on: ${thrownText(error)}`;
    warn('CONCLAVE_NO_SESSION', text);
  }
}

/** What primitives take: a session, or one that renews itself. */
export type AnySession = Session | Sessions;

/** The classes of `AnySession`, by the names that their users know. */
export const ANY_SESSION = { Session, Conclave: Sessions } as const;

type Work<R> = (session: Session, signal: AbortSignal) => Promise<R>;

/**
 * Does `work` on a session that is alive, within the limits of a wait. With a plain session that has ended, or that ends
 * meanwhile, it rejects with why. With one that renews itself it waits for the next session within the same limits, and,
 * unless `again` says no, does the work anew when the session was lost under it.
 */
export function onSession<R>(
  source: AnySession,
  options: WaitOptions,
  what: string,
  work: Work<R>,
  how: { readonly again?: false | ((error: unknown) => boolean) } = {},
): Promise<R> {
  return source instanceof Session
    ? promised(() => onThisOne(source, options, what, work))
    : onLiveOne(source, options, what, work, how);
}

function onThisOne<R>(session: Session, options: WaitOptions, what: string, work: Work<R>): Promise<R> {
  session.throwIfEnded();
  const limit = limitWait(session.client.clock, options, what, [session.signal]);
  const working = promised(() => work(session, limit.signal));
  // Many may wait without limits of their own: each is then no more than its work.
  return limit.signal === session.signal ? working : working.finally(() => limit[Symbol.dispose]());
}

async function onLiveOne<R>(
  source: Sessions,
  options: WaitOptions,
  what: string,
  work: Work<R>,
  { again = () => true }: { readonly again?: false | ((error: unknown) => boolean) },
): Promise<R> {
  const { clock } = source.client;
  using all = limitWait(clock, options, what, [source.closed]);
  for (;;) {
    const session = await source.alive(all.signal);
    using limit = limitWait(clock, {}, what, [all.signal, session.signal]);
    try {
      return await work(session, limit.signal);
    } catch (error) {
      if (hasCode(error, 'TICKET_LOST', 'LEASE_NOT_FOUND')) await untilKnown(session, all.signal);
      if (all.signal.aborted || session.state !== 'lost' || again === false || !again(error)) throw error;
    }
  }
}

/** Resolves when it is known whether the session's lease, of which a key is gone, is gone itself. */
export async function untilKnown(session: Session, signal: AbortSignal): Promise<void> {
  const { client } = session;
  const asking = untilAnswered(client.clock, session.signal, () => session.checkLease());
  await orAborted(asking, signal).catch(() => undefined);
}

/** Aborts when nothing can be asked for any more. Throws why when that is so already. */
export function endOf(source: AnySession): AbortSignal {
  if (source instanceof Session) source.throwIfEnded();
  const end = source instanceof Session ? source.signal : source.closed;
  end.throwIfAborted();
  return end;
}
