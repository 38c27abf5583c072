/**
 * Removes the keys of one session's tickets, until it is confirmed or the session ends. A newer attempt on the same key
 * waits for a removal under way, so that none can hit it.
 *
 * A request whose answer was lost may still reach the store until the server has given it up. So the key of an attempt
 * that was given up is looked for several times; a key that a newer attempt has taken up is left alone.
 */
import { hasCode } from '../errors/conclave-error.js';
import { isTransient } from '../errors/transient.js';
import { compare } from '../etcd/compare.js';
import type { KeyValue } from '../etcd/key-value.js';
import type { TxnResult } from '../etcd/kv.js';
import { type Op, op, type TxnSpec } from '../etcd/op.js';
import type { Session } from '../session/session.js';
import { orAborted, sleep } from '../util/abort.js';
import { Deferred } from '../util/deferred.js';

/** When to look for what a lost request may still write: etcd gives a request up after 7 s by default. */
export const LOOK_AGAIN_AFTER_MS = [500, 2000, 6000] as const;

/** A removal under way. */
export interface Removal {
  /** The first try: resolves when it was confirmed, rejects when it could not be. */
  readonly firstTry: Promise<void>;
  /** All tries: resolves once it is confirmed, rejects when the session ends before. */
  readonly confirmed: Promise<void>;
}

/** A key that an attempt which was given up may have written. */
export interface Abandoned {
  readonly key: string;
  /** Whether the key found is that attempt's. @default whether it is bound to our lease */
  readonly isOurs?: ((kv: KeyValue) => boolean) | undefined;
  /** What removes it. @default a deletion of the key */
  readonly removal?: readonly Op[] | undefined;
  /** What to do once it has been removed. Safe to repeat. */
  readonly tidy?: (() => Promise<void>) | undefined;
}

/** One session's keys. */
export class Sweeper {
  readonly #session: Session;
  readonly #inUse = new Set<string>();
  readonly #removals = new Map<string, Promise<void>>();
  readonly #suspects = new Map<string, Abandoned>();

  constructor(session: Session) {
    this.#session = session;
  }

  /** Marks the key as taken up by an attempt, once no removal of it is under way. */
  async takeUp(key: string, signal: AbortSignal): Promise<void> {
    for (;;) {
      const removal = this.#removals.get(key);
      if (removal === undefined) break;
      await orAborted(
        removal.catch(() => undefined),
        signal,
      );
    }
    this.#inUse.add(key);
  }

  /** Marks the key as nobody's. */
  putDown(key: string): void {
    this.#inUse.delete(key);
    const suspect = this.#suspects.get(key);
    if (suspect === undefined) return;
    this.#suspects.delete(key);
    void this.#lookAgain(suspect).catch(() => undefined); // The session ended, and the key with it.
  }

  /** A request that writes the key was sent twice: once the key is nobody's, what arrives late is removed. */
  suspect(abandoned: Abandoned): void {
    this.#suspects.set(abandoned.key, abandoned);
  }

  /**
   * Runs the transaction that removes the key, and then `after`, until both are confirmed; marks the key as nobody's.
   * Both are safe to repeat.
   */
  remove(key: string, removal: TxnSpec, after?: (result: TxnResult) => Promise<void>): Removal {
    const firstTry = new Deferred<void>();
    const confirmed = this.#underWay(
      key,
      this.#untilConfirmed(async () => {
        const result = await this.#run(removal);
        await after?.(result);
      }, firstTry),
    );
    return { confirmed, firstTry: firstTry.promise };
  }

  /**
   * Removes what the attempt `taking`, which was given up, writes until it is settled. Resolves when the first removal is
   * confirmed; if nobody can tell what came of the attempt, it looks again for some seconds, in the background.
   */
  async sweep(abandoned: Abandoned, taking: Promise<unknown>): Promise<void> {
    const { key } = abandoned;
    const outcome = taking.then(
      () => 'known',
      (error: unknown) => (hasCode(error, 'UNKNOWN_OUTCOME') ? 'unknown' : 'known'),
    );
    // Under way from now on: a newer attempt must not find, and keep, what is about to be removed.
    await this.#underWay(
      key,
      outcome.then(() => this.#clear(abandoned)),
    );
    if ((await outcome) === 'unknown') void this.#lookAgain(abandoned).catch(() => undefined); // The session ended, and the key with it.
  }

  #underWay(key: string, removal: Promise<void>): Promise<void> {
    this.putDown(key);
    const confirmed = removal.finally(() => {
      if (this.#removals.get(key) === confirmed) this.#removals.delete(key);
    });
    confirmed.catch(() => undefined);
    this.#removals.set(key, confirmed);
    return confirmed;
  }

  async #lookAgain(abandoned: Abandoned): Promise<void> {
    const { key } = abandoned;
    for (const delayMs of LOOK_AGAIN_AFTER_MS) {
      await sleep(this.#session.client.clock, delayMs, this.#session.signal);
      if (!this.#inUse.has(key) && !this.#removals.has(key))
        await this.#underWay(key, this.#clear(abandoned));
    }
  }

  /**
   * Removes the key if it is that attempt's. It is read first, and deleted by its create revision: a deletion by its lease
   * alone could arrive late, and hit the key of a newer attempt.
   */
  async #clear({ key, isOurs, removal, tidy }: Abandoned): Promise<void> {
    const { client, leaseId } = this.#session;
    await this.#untilConfirmed(async () => {
      const kv = await client.kv.get(key);
      if (kv === undefined || !(isOurs?.(kv) ?? kv.leaseId === leaseId)) return;
      const same = compare.createRevision(key, '=', kv.createRevision);
      await this.#run({ if: [same], then: removal ?? [op.delete(key)] });
    });
    if (tidy !== undefined) await this.#untilConfirmed(tidy);
  }

  #run(removal: TxnSpec): Promise<TxnResult> {
    return this.#session.client.kv.txn(removal, { idempotent: true });
  }

  async #untilConfirmed(work: () => Promise<void>, firstTry?: Deferred<void>): Promise<void> {
    const { client, signal } = this.#session;
    for (let attempt = 0; ; attempt++) {
      try {
        await work();
        firstTry?.resolve();
        return;
      } catch (error) {
        firstTry?.reject(error);
        if (!isTransient(error)) throw error;
        await sleep(client.clock, Math.min(100 * 2 ** attempt, 2000), signal);
      }
    }
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
