/**
 * The removals of one session's keys that are under way. Each is tried until it is confirmed or the session ends; a newer
 * attempt on a key waits for them, so that it does not find, and keep, what is about to be removed.
 */
import { isTransient } from '../errors/transient.js';
import type { Session } from '../session/session.js';
import { orAborted, sleep } from '../util/abort.js';
import { Deferred } from '../util/deferred.js';

/** A removal under way. */
export interface Removal {
  /** The first try: resolves when it was confirmed, rejects when it could not be. */
  readonly firstTry: Promise<void>;
  /** All tries: resolves once it is confirmed, rejects when the session ends before. */
  readonly confirmed: Promise<void>;
}

/** One session's. */
export class Removals {
  readonly #session: Session;
  /** By key: settles when all removals of the key are. */
  readonly #underWay = new Map<string, Promise<unknown>>();

  constructor(session: Session) {
    this.#session = session;
  }

  /** Resolves once no removal of the key is under way. Rejects with the signal's reason. */
  async none(key: string, signal: AbortSignal): Promise<void> {
    for (;;) {
      const underWay = this.#underWay.get(key);
      if (underWay === undefined) return;
      await orAborted(underWay, signal);
    }
  }

  /** Runs `work`, which removes the keys and is safe to repeat, until it is confirmed. */
  run(keys: readonly string[], work: () => Promise<void>): Removal {
    const firstTry = new Deferred<void>();
    const confirmed = this.#untilConfirmed(work, firstTry);
    confirmed.catch(() => undefined);
    for (const key of keys) {
      const all = Promise.allSettled([confirmed, this.#underWay.get(key)]).then(() => {
        if (this.#underWay.get(key) === all) this.#underWay.delete(key);
      });
      this.#underWay.set(key, all);
    }
    return { confirmed, firstTry: firstTry.promise };
  }

  async #untilConfirmed(work: () => Promise<void>, firstTry: Deferred<void>): Promise<void> {
    const { client, signal } = this.#session;
    for (let tries = 0; ; tries++) {
      try {
        await work();
        firstTry.resolve();
        return;
      } catch (error) {
        firstTry.reject(error);
        if (!isTransient(error)) throw error;
        await sleep(client.clock, Math.min(100 * 2 ** tries, 2000), signal);
      }
    }
  }
}

const bySession = new WeakMap<Session, Removals>();

/** The session's removals. */
export function removalsOf(session: Session): Removals {
  let removals = bySession.get(session);
  if (removals === undefined) {
    removals = new Removals(session);
    bySession.set(session, removals);
  }
  return removals;
}
