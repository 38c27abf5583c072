import { ConclaveError } from '../errors/conclave-error.js';
import type { KeyValue } from '../etcd/key-value.js';
import { type Deferred } from '../util/deferred.js';
import type { LineKeys } from './line-keys.js';

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
  readonly createRevision: bigint;
  readonly policy: Policy;
  readonly turn: Deferred<bigint>;
}

interface Follower {
  readonly createRevision: bigint;
  readonly gone: () => void;
}

/** Who waits for a line, follows keys of it, or listens to it: each hears of what concerns it, and of nothing else. */
export class LineAudience {
  readonly #keys: LineKeys;
  readonly #waiters = new Map<string, Waiter>();
  /** How many waiters follow each policy. */
  readonly #policies = new Map<Policy, number>();
  readonly #followers = new Map<string, Set<Follower>>();
  readonly #listeners = new Set<() => void>();

  constructor(keys: LineKeys) {
    this.#keys = keys;
  }

  /** Adds one who waits. Returns how to stop. An earlier life that waits for the same key has lost it. */
  wait(waiter: Waiter): () => void {
    const { key, policy } = waiter;
    this.#waiters.get(key)?.turn.reject(ticketLost(key));
    this.#waiters.set(key, waiter);
    this.#policies.set(policy, (this.#policies.get(policy) ?? 0) + 1);
    return () => {
      if (this.#waiters.get(key) === waiter) this.#waiters.delete(key);
      const left = (this.#policies.get(policy) ?? 1) - 1;
      if (left === 0) this.#policies.delete(policy);
      else this.#policies.set(policy, left);
    };
  }

  /** Calls `gone` when the key, created at `createRevision`, is there no more. Returns how to stop. */
  follow(key: string, createRevision: bigint, gone: () => void): () => void {
    const follower: Follower = { createRevision, gone };
    const followers = this.#followers.get(key) ?? new Set();
    this.#followers.set(key, followers.add(follower));
    return () => {
      followers.delete(follower);
      if (followers.size === 0 && this.#followers.get(key) === followers) this.#followers.delete(key);
    };
  }

  /** Calls `listener` after every change. Returns how to stop. */
  listen(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** The line was read anew: everyone is concerned. */
  reloaded(): void {
    this.changed(new Set([...this.#followers.keys(), ...this.#waiters.keys()]));
  }

  /** Wakes those whom the change admits, and those whose key, one of `gone`, is there no more. */
  changed(gone: Iterable<string>): void {
    for (const key of gone) this.checkFollowers(key);
    for (const policy of this.#policies.keys()) this.#admit(policy);
    for (const key of gone) {
      const waiter = this.#waiters.get(key);
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
    if (this.#keys.isGone(waiter.key, waiter.createRevision)) waiter.turn.reject(ticketLost(waiter.key));
    else this.#admit(waiter.policy);
  }

  /** Looks whether the key of some followers is gone. */
  checkFollowers(key: string): void {
    for (const follower of [...(this.#followers.get(key) ?? [])]) {
      if (this.#keys.isGone(key, follower.createRevision)) follower.gone();
    }
  }

  /** The line cannot be followed: nobody waits any more. */
  failed(error: ConclaveError): void {
    for (const waiter of [...this.#waiters.values()]) waiter.turn.reject(error);
    this.tell();
  }

  #admit(policy: Policy): void {
    const { inOrder, beside, revision } = this.#keys;
    for (const kv of policy(inOrder, beside)) {
      const waiter = this.#waiters.get(kv.key);
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
