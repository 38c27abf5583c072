/**
 * Keeps a key where it is to be: writes it when it is missing, or has another value, and leaves alone what is not ours.
 *
 * What the key holds is known by its watch alone; each write compares what the watch has told, so that nothing that
 * somebody else has written is overwritten unseen. Ours is what is bound to the lease of our session.
 */
import { hasCode } from '../errors/conclave-error.js';
import { passesByItself } from '../errors/transient.js';
import { compare } from '../etcd/kv/compare.js';
import type { KeyValue } from '../etcd/kv/key-value.js';
import { op, type TxnSpec } from '../etcd/kv/op.js';
import { Session } from '../session/session.js';
import type { AnySession } from '../session/sessions.js';
import { removalsOf } from '../ticket/removals.js';
import { limitWait, sleep } from '../util/abort.js';
import { backoffMs } from '../util/backoff.js';
import { thrownText, warn } from '../util/warn.js';
import { claimKey, isClaimed } from './claimed-keys.js';
import { WatchedKey } from './watched-key.js';

/** How the key is: `taken` by somebody else. */
export type KeyPlace =
  | { readonly is: 'there'; readonly kv: KeyValue }
  | { readonly is: 'missing' }
  | { readonly is: 'taken'; readonly kv: KeyValue };

/** What is kept, and who is told. */
export interface Kept {
  readonly key: string;
  /** What the key is to hold now. */
  readonly value: () => Uint8Array;
  /** Whether what somebody else has put there is replaced, where it was there when our session began. */
  readonly overwrites: boolean;
  /** Told how the key is, whenever that has changed; what it throws ends the keeping. */
  readonly placed: (place: KeyPlace) => void;
}

/** One request to write the key, of which a copy may come late. */
interface Sent {
  readonly number: number;
  readonly value: Uint8Array;
}

const PAUSE = { baseMs: 50, maxMs: 2000 } as const;
/** So many requests are remembered, for what comes late of them. */
const MOST_SENT = 16;

export class Keeper {
  readonly #source: AnySession;
  readonly #kept: Kept;
  readonly #signal: AbortSignal;
  #session: Session | undefined;
  #watched: WatchedKey | undefined;
  #unclaim: () => void = () => undefined;
  /** What was sent on the session of the moment. */
  #sent: Sent[] = [];
  #hasBeenThere = false;
  #hasWarned = false;

  /** `signal` ends it. */
  constructor(source: AnySession, kept: Kept, signal: AbortSignal) {
    this.#source = source;
    this.#kept = kept;
    this.#signal = signal;
  }

  /**
   * Keeps it, from session to session, until the signal aborts or the only session ends: rejects with why. What does not
   * pass rejects too until the key has been there for the first time; then it is said once, and tried on and on.
   */
  async keep(): Promise<never> {
    for (let failures = 0; ;) {
      try {
        const session = await this.#alive();
        await this.#keepOn(session, () => (failures = 0));
      } catch (error) {
        this.#signal.throwIfAborted();
        if (this.#source instanceof Session) this.#source.throwIfEnded();
        const isLost = this.#session?.alive === false;
        if (!isLost && !passesByItself(error)) {
          if (!this.#hasBeenThere) throw error;
          this.#warn(error);
        }
      }
      this.#kept.placed({ is: 'missing' });
      await sleep(this.#source.client.clock, backoffMs(failures++, PAUSE), this.#signal);
    }
  }

  /** The value is another one. */
  wake(): void {
    this.#watched?.wake();
  }

  /**
   * Removes the key if it is ours, and what may come late. For when `keep` has ended. Resolves when the removal is
   * confirmed; rejects when the first try is not, and goes on until it is or the session ends.
   */
  async remove(): Promise<void> {
    this.#unclaim();
    const session = this.#session;
    if (session?.alive !== true) return; // It goes, or has gone, with the lease.
    const { key } = this.#kept;
    const { kv } = session.client;
    const ours = { if: [compare.lease(key, '=', session.leaseId)], then: [op.delete(key)] };
    const removal = removalsOf(session).run([key], async () => {
      if (!isClaimed(session, key)) await kv.txn(ours, { idempotent: true });
    });
    this.#forgetSent(session);
    await removal.firstTry;
  }

  async #alive(): Promise<Session> {
    if (this.#source instanceof Session) {
      this.#source.throwIfEnded();
      return this.#source;
    }
    return this.#source.alive(this.#signal);
  }

  async #keepOn(session: Session, worked: () => void): Promise<void> {
    const { key } = this.#kept;
    if (session !== this.#session) {
      this.#unclaim();
      this.#unclaim = claimKey(session, key);
      this.#session = session;
      this.#sent = [];
    }
    using limit = limitWait(session.client.clock, {}, `leased key ${JSON.stringify(key)}`, [
      this.#signal,
      session.signal,
    ]);
    await removalsOf(session).none(key, limit.signal);
    using watched = await WatchedKey.open(session.client, key, limit.signal);
    this.#watched = watched;
    await this.#attend(session, watched, limit.signal, worked);
  }

  async #attend(
    session: Session,
    watched: WatchedKey,
    signal: AbortSignal,
    worked: () => void,
  ): Promise<void> {
    // What stands there when our session begins may be replaced, if we were told so; who comes later has replaced us.
    let mayReplace = this.#kept.overwrites;
    for (;;) {
      session.throwIfEnded();
      const { changes, kv } = watched;
      const isOurs = kv?.leaseId === session.leaseId;
      if (kv !== undefined && isOurs && kv.value.equals(this.#kept.value())) {
        mayReplace = false;
        this.#hasBeenThere = true;
        worked();
        this.#kept.placed({ is: 'there', kv });
      } else if (kv !== undefined && !isOurs && !mayReplace) this.#kept.placed({ is: 'taken', kv });
      else {
        this.#kept.placed({ is: 'missing' });
        const outcome = await this.#write(session, kv, signal);
        if (outcome === 'refused') continue;
        if (outcome === 'written') mayReplace = false;
      }
      await watched.changedSince(changes, signal);
    }
  }

  /**
   * Writes the key if it is still as the watch has told. `changed`: it is not, which the watch will tell. `refused`: it is,
   * but the session's floor was removed by somebody; it is there again.
   */
  async #write(
    session: Session,
    kv: KeyValue | undefined,
    signal: AbortSignal,
  ): Promise<'written' | 'changed' | 'refused'> {
    const { key } = this.#kept;
    const value = this.#kept.value();
    const { guards, isIntact, number, settled } = session.floor.next();
    this.#sent = [...this.#sent.slice(1 - MOST_SENT), { number, value }];
    const same = kv === undefined ? compare.missing(key) : compare.modRevision(key, '=', kv.modRevision);
    const spec = {
      else: [op.get(key)],
      if: [...guards, same],
      then: [op.put(key, value, { leaseId: session.leaseId })],
    };
    try {
      const { responses, succeeded } = await session.client.kv.txn(spec, { idempotent: true, signal });
      const [found] = responses;
      const foundAt = (found?.type === 'get' ? found.kvs[0]?.modRevision : undefined) ?? 0n;
      if (succeeded) return 'written';
      if (foundAt !== (kv?.modRevision ?? 0n)) return 'changed';
    } catch (error) {
      if (hasCode(error, 'LEASE_NOT_FOUND')) session.leaseIsGone();
      throw error;
    } finally {
      settled();
    }
    await isIntact(signal);
    return 'refused';
  }

  /** What comes late of what was sent is refused, or removed, from the next raise of the floor on. */
  #forgetSent(session: Session): void {
    const { key } = this.#kept;
    const last = this.#sent.at(-1);
    const sent = this.#sent.splice(0);
    if (last === undefined) return;
    const removal = ({ value }: Sent): TxnSpec => ({
      if: [compare.lease(key, '=', session.leaseId), compare.value(key, '=', value)],
      then: [op.delete(key)],
    });
    session.floor.end(last.number, () => ({ removals: isClaimed(session, key) ? [] : sent.map(removal) }));
  }

  #warn(error: unknown): void {
    if (this.#hasWarned) return;
    this.#hasWarned = true;
    const text = `leased key ${JSON.stringify(this.#kept.key)} cannot be put back, which is tried on and on: ${thrownText(error)}`;
    warn('CONCLAVE_KEY_MISSING', text);
  }
}
