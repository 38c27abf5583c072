/** What the parts of a run share: the world, the history, and what is known of whose key is whose. */
import type { AuthOptions, Hold } from 'conclave';
import type { HistoryRecord, SimProcess, Violation, World } from 'conclave/testing';

import type { Fault } from './faults.js';

/** An attempt to hold a name. */
export interface AttemptAt {
  readonly attempt: number;
  readonly name: string;
}

export class Stage {
  readonly world: World;
  readonly history: HistoryRecord[] = [];
  readonly violations: Violation[] = [];
  /** How often each fault has struck. */
  readonly struck = new Map<Fault, number>();
  /** Where in the history etcd began anew with less. */
  readonly eras: number[] = [0];
  /** Who they are to etcd, when it wants to know. */
  readonly auth: AuthOptions | undefined;
  /** How many calls there were of what the library offers: to acquire, to write, to give back, to push, to commit, … */
  operations = 0;
  /** Processes are to end what they do. */
  isStopping = false;
  readonly #numbers = new Map<string, number>();
  readonly #attemptsByKey = new Map<string, readonly AttemptAt[]>();
  /** Keys that were removed by hand, and when last. */
  readonly #revokedAt = new Map<string, bigint>();
  readonly #whenKilled = new Map<SimProcess, (() => void)[]>();
  #isRevoking = false;

  constructor(world: World) {
    this.world = world;
    if (world.random.chance(0.3)) {
      this.auth = { password: 'secret', username: 'sim' };
      world.server.gate.users = new Map([['sim', 'secret']]);
    }
    this.#noteGone();
  }

  note(record: HistoryRecord): void {
    this.history.push(record);
  }

  violate(rule: string, message: string): void {
    this.violations.push({ at: this.history.slice(-5), message, rule });
  }

  /** 1, 2, 3, … of whatever is counted. */
  next(what: string): number {
    const number = (this.#numbers.get(what) ?? 0) + 1;
    this.#numbers.set(what, number);
    return number;
  }

  /** Whether what is written now is written by somebody's hand. */
  get isRevoking(): boolean {
    return this.#isRevoking;
  }

  /** Revokes a lease, as somebody from outside. */
  revoke(id: bigint): void {
    this.#isRevoking = true;
    this.world.server.member.lessor.revoke(id);
    this.#isRevoking = false;
  }

  /** Somebody is about to say that it holds; its key may have been removed by hand before it could know. */
  holds({ createRevision, key }: Hold, attempts: readonly AttemptAt[]): void {
    const revision = this.#revokedAt.get(key) ?? 0n;
    const gone = { atMs: this.world.nowMs, byHand: true, is: 'gone', process: 'etcd', revision } as const;
    if (revision > createRevision) for (const about of attempts) this.note({ ...gone, ...about });
    else this.#attemptsByKey.set(key, attempts);
  }

  /** Does it when the process is killed. */
  whenKilled(process: SimProcess, act: () => void): void {
    this.#whenKilled.set(process, [...(this.#whenKilled.get(process) ?? []), act]);
  }

  killed(process: SimProcess): void {
    for (const act of this.#whenKilled.get(process) ?? []) act();
  }

  /** What happened up to that revision cannot be watched any more. */
  compacted(revision: bigint): void {
    this.note({ atMs: this.world.nowMs, is: 'compacted', process: 'etcd', revision });
  }

  /** What etcd has now is not what it had: what is held from before is judged no more. */
  historyIsLost(revision: bigint): void {
    this.note({ atMs: this.world.nowMs, is: 'reverted', process: 'etcd', revision });
    this.eras.push(this.history.length);
    this.#attemptsByKey.clear();
    this.#revokedAt.clear();
  }

  /** Writes down when the key of a hold is gone. */
  #noteGone(): void {
    this.world.server.onCommit((revision, changes) => {
      for (const { deleted, text } of changes) {
        if (!deleted) continue;
        if (this.#isRevoking) this.#revokedAt.set(text, revision);
        const found = this.#attemptsByKey.get(text);
        if (found === undefined) continue;
        this.#attemptsByKey.delete(text);
        const gone = { atMs: this.world.nowMs, is: 'gone', process: 'etcd', revision } as const;
        for (const about of found)
          this.note(this.#isRevoking ? { ...gone, ...about, byHand: true } : { ...gone, ...about });
      }
    });
  }
}
