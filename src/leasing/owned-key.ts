/** A key that we own, and what it holds: exact, unless a write of ours is under way. */
import type { KeyValue } from '../etcd/kv/key-value.js';
import type { Session } from '../session/session.js';
import type { KeyId } from './ownership-keys.js';

/** Which ownership it is. */
export interface Ownership {
  readonly id: KeyId;
  /** Of the ownership key. */
  readonly createRevision: bigint;
  readonly session: Session;
  /** The number of the attempt that made it. */
  readonly attempt: number;
}

/** What the key was at a revision. */
export interface Held {
  readonly kv: KeyValue | undefined;
  readonly revision: bigint;
}

export class OwnedKey implements Ownership {
  readonly id: KeyId;
  readonly createRevision: bigint;
  readonly session: Session;
  readonly attempt: number;
  #held: Held;
  #writes = 0;

  constructor({ attempt, createRevision, id, session }: Ownership, held: Held) {
    this.id = id;
    this.createRevision = createRevision;
    this.session = session;
    this.attempt = attempt;
    this.#held = held;
  }

  /**
   * Whether it may be answered from memory at this moment: its lease is provably there, and nobody can have seen what a
   * write of ours, which is not answered yet, has made of it.
   */
  get isCurrent(): boolean {
    return this.#writes === 0 && this.session.alive;
  }

  /** What the key holds. */
  get kv(): KeyValue | undefined {
    return this.#held.kv;
  }

  /** A write of ours is sent. Returns what to call when it is answered. */
  writing(): () => void {
    this.#writes += 1;
    return () => void (this.#writes -= 1);
  }

  /** A write of ours has made it this. Answers may come in another order than their writes were done. */
  wrote(held: Held): void {
    if (held.revision > this.#held.revision) this.#held = held;
  }
}
