/** Who is told what of a line: those who wait, those who follow one key, and those who look at all of it. */
import { ConclaveError } from '../errors/conclave-error.js';
import type { KeyValue } from '../etcd/kv/key-value.js';
import { type Deferred } from '../util/deferred.js';
import { idOf, type KeyId, type LineKeys } from './line-keys.js';

/**
 * Says who of a line may go ahead: always the first so many, since every line is first come, first served. Yields the
 * admitted from the front on. `beside` is the key beside the line, if the line has one and it exists.
 */
export type Policy = (line: Iterable<KeyValue>, beside: KeyValue | undefined) => Iterable<KeyValue>;

/** One holder at a time: the first. */
export const firstOnly: Policy = function* firstOnly(line) {
  for (const kv of line) {
    yield kv;
    return;
  }
};

/** One who waits for the turn of a key. */
export interface Waiter {
  readonly key: string;
  readonly id: KeyId;
  readonly createRevision: bigint;
  readonly policy: Policy;
  readonly turn: Deferred<bigint>;
}

/** One who follows a key that was created at `createRevision`. */
export interface Follower {
  readonly key: KeyValue | string;
  readonly createRevision: bigint;
  /** The key is there no more. */
  readonly gone: () => void;
  /** The key was written, or the line read anew, and it is there. */
  readonly changed?: () => void;
  /** The line cannot be followed any more. */
  readonly failed?: () => void;
}

/** Who was there at some moment. */
export interface Present {
  readonly followers: readonly { readonly follower: Follower; readonly id: KeyId }[];
  readonly waiters: readonly Waiter[];
}

/** Who waits for a line, follows keys of it, or listens to it: each hears of what concerns it, and of nothing else. */
export class LineAudience {
  readonly #keys: LineKeys;
  readonly #waiters = new Map<KeyId, Waiter>();
  /** The create revisions of those who wait, by their policy: most of the admitted wait no more, and are passed over. */
  readonly #policies = new Map<Policy, Map<bigint, number>>();
  readonly #followers = new Map<KeyId, Set<Follower>>();
  readonly #listeners = new Set<() => void>();

  constructor(keys: LineKeys) {
    this.#keys = keys;
  }

  /** Adds one who waits. Returns how to stop. An earlier life that waits for the same key has lost it. */
  wait(waiter: Waiter): () => void {
    const { id, key } = waiter;
    this.#waiters.get(id)?.turn.reject(ticketLost(key));
    this.#waiters.set(id, waiter);
    this.#count(waiter, 1);
    return () => {
      if (this.#waiters.get(id) === waiter) this.#waiters.delete(id);
      this.#count(waiter, -1);
    };
  }

  /** Tells a follower what becomes of its key. Returns how to stop. */
  follow(follower: Follower): () => void {
    const id = idOf(follower.key);
    const followers = this.#followers.get(id) ?? new Set();
    this.#followers.set(id, followers.add(follower));
    return () => {
      followers.delete(follower);
      if (followers.size === 0 && this.#followers.get(id) === followers) this.#followers.delete(id);
    };
  }

  /** Calls `listener` after every change. Returns how to stop. */
  listen(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Who waits or follows now. */
  present(): Present {
    return {
      followers: [...this.#followers].flatMap(([id, all]) => [...all].map((follower) => ({ follower, id }))),
      waiters: [...this.#waiters.values()],
    };
  }

  /**
   * The line was read anew, after these were `present`: everyone is concerned. Whose key was there before the read and is not
   * in it has lost it, whatever the revisions say: history may have gone back.
   */
  reloaded({ followers, waiters }: Present): void {
    for (const { follower, id } of followers)
      if (!this.#keys.has(id, follower.createRevision) && this.#followers.get(id)?.has(follower) === true)
        follower.gone();
    for (const { createRevision, id, key, turn } of waiters)
      if (!this.#keys.has(id, createRevision)) turn.reject(ticketLost(key));
    this.changed(new Set([...this.#followers.keys(), ...this.#waiters.keys()]));
  }

  /** Wakes those whom a change of these keys admits, and those whom it is about. */
  changed(ids: ReadonlySet<KeyId>): void {
    for (const id of ids) this.#followers.get(id)?.forEach((follower) => this.checkFollower(follower, id));
    for (const policy of this.#policies.keys()) this.#admit(policy);
    for (const id of ids) {
      const waiter = this.#waiters.get(id);
      if (waiter !== undefined) this.check(waiter);
    }
    this.tell();
  }

  /** Tells those who listen. */
  tell(): void {
    for (const listener of [...this.#listeners]) listener();
  }

  /** Looks whether a waiter is admitted already, or its key gone. */
  check(waiter: Waiter): void {
    if (this.#keys.isGone(waiter.id, waiter.createRevision)) waiter.turn.reject(ticketLost(waiter.key));
    else this.#admit(waiter.policy);
  }

  /** Looks whether the key of a follower is gone, and tells it. */
  checkFollower({ changed, createRevision, gone, key }: Follower, id = idOf(key)): void {
    if (this.#keys.isGone(id, createRevision)) gone();
    else changed?.();
  }

  /** The line cannot be followed: nobody waits or follows any more. */
  failed(error: ConclaveError): void {
    for (const followers of [...this.#followers.values()]) {
      for (const { failed } of [...followers]) failed?.();
    }
    for (const waiter of [...this.#waiters.values()]) waiter.turn.reject(error);
    this.tell();
  }

  #count({ createRevision, policy }: Waiter, by: 1 | -1): void {
    const waiting = this.#policies.get(policy) ?? new Map<bigint, number>();
    const count = (waiting.get(createRevision) ?? 0) + by;
    if (count === 0) waiting.delete(createRevision);
    else waiting.set(createRevision, count);
    if (waiting.size === 0) this.#policies.delete(policy);
    else this.#policies.set(policy, waiting);
  }

  #admit(policy: Policy): void {
    const { inOrder, beside, revision } = this.#keys;
    const waiting = this.#policies.get(policy);
    if (waiting === undefined) return;
    for (const kv of policy(inOrder, beside)) {
      if (!waiting.has(kv.createRevision)) continue;
      const waiter = this.#waiters.get(idOf(kv));
      if (waiter?.policy === policy && waiter.createRevision === kv.createRevision)
        waiter.turn.resolve(revision);
    }
  }
}

/** Our key in a line was removed by somebody else. */
export function ticketLost(key: string): ConclaveError {
  const text = `${key} was removed or rewritten by somebody else (an operator, or a revoked lease); ask again`;
  return new ConclaveError('TICKET_LOST', text, { key });
}
