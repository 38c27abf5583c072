/**
 * Removes the keys of attempts that were given up while nobody could tell what came of them. A request whose answer was
 * lost may still reach the store until the server has given it up, so the sweeper looks several times. It never touches
 * a key that a newer attempt of the same session has taken up, and a newer attempt waits for a removal under way.
 */
import { hasCode } from '../errors/conclave-error.js';
import { type Compare, compare } from '../etcd/compare.js';
import { op } from '../etcd/op.js';
import type { Session } from '../session/session.js';
import { orAborted, sleep } from '../util/abort.js';

/** etcd gives a request up after 7 s by default. */
const LOOK_AGAIN_AFTER_MS = [500, 2000, 6000] as const;

/** One session's keys. */
export class Sweeper {
  readonly #session: Session;
  readonly #inUse = new Set<string>();
  /** Removals under way. They resolve when nothing of them can happen any more. */
  readonly #removals = new Map<string, Promise<unknown>>();

  constructor(session: Session) {
    this.#session = session;
  }

  /**
   * Marks the key as taken up by an attempt, once no removal of it is under way: one that is tried again could else take
   * away what the attempt finds. Rejects with the signal's reason when that lasts too long.
   */
  async takeUp(key: string, signal: AbortSignal): Promise<void> {
    for (;;) {
      const removal = this.#removals.get(key);
      if (removal === undefined) break;
      await orAborted(removal, signal);
    }
    this.#inUse.add(key);
  }

  /** Marks the key as nobody's. */
  putDown(key: string): void {
    this.#inUse.delete(key);
  }

  /**
   * Removes the key of an abandoned attempt, if it is bound to our lease. Resolves when the first removal is confirmed;
   * with `lateArrivals` it looks again for some seconds, in the background.
   */
  async sweep(key: string, lateArrivals: boolean): Promise<void> {
    await this.#remove(key);
    if (lateArrivals) void this.#lookAgain(key).catch(() => undefined); // The session ended, and the key with it.
  }

  async #lookAgain(key: string): Promise<void> {
    for (const delayMs of LOOK_AGAIN_AFTER_MS) {
      await sleep(this.#session.client.clock, delayMs, this.#session.signal);
      if (!this.#inUse.has(key) && !this.#removals.has(key)) await this.#remove(key);
    }
  }

  /**
   * Removes a ticket while `there` holds. Rejects when the first try could not be confirmed; `whole` is then tried until
   * it is, or the session ends.
   */
  removeTicket(
    key: string,
    there: Compare,
  ): { readonly first: Promise<void>; readonly whole: Promise<void> } {
    const first = removeIf(this.#session, key, there);
    const whole = first.catch(() => removeUntilConfirmed(this.#session, key, there));
    this.#track(key, whole);
    return { first, whole };
  }

  async #remove(key: string): Promise<void> {
    const ours = compare.lease(key, '=', this.#session.leaseId);
    const removal = removeUntilConfirmed(this.#session, key, ours);
    this.#track(key, removal);
    await removal;
  }

  #track(key: string, removal: Promise<void>): void {
    this.putDown(key);
    const settled = Promise.allSettled([this.#removals.get(key), removal]).then(() => {
      if (this.#removals.get(key) === settled) this.#removals.delete(key);
    });
    this.#removals.set(key, settled);
  }
}

const sweepers = new WeakMap<Session, Sweeper>();

/** The session's sweeper. */
export function sweeperOf(session: Session): Sweeper {
  let sweeper = sweepers.get(session);
  if (sweeper === undefined) {
    sweeper = new Sweeper(session);
    sweepers.set(session, sweeper);
  }
  return sweeper;
}

/** Deletes the key if `guard` holds. Safe to repeat: a newer key has another create revision. */
export async function removeIf(session: Session, key: string, guard: Compare): Promise<void> {
  await session.client.kv.txn({ if: [guard], then: [op.delete(key)] }, { idempotent: true });
}

/** As `removeIf`, tried until it is confirmed; rejects when the session ends before. */
export async function removeUntilConfirmed(session: Session, key: string, guard: Compare): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    session.throwIfEnded();
    try {
      await removeIf(session, key, guard);
      return;
    } catch (error) {
      if (!hasCode(error, 'UNKNOWN_OUTCOME', 'UNAVAILABLE', 'DEADLINE_EXCEEDED')) throw error;
      await sleep(session.client.clock, Math.min(100 * 2 ** attempt, 2000), session.signal);
    }
  }
}
