/** What the parts of a run share: the world, the history, and what is known of whose key is whose. */
import type { AuthOptions, Hold } from 'conclave';
import type { HistoryRecord, SimProcess, Violation, World } from 'conclave/testing';

import { keyRange, singleKey } from '#conclave/embedded/store/key-range.js';
import type { Fault } from './faults.js';

/** An attempt to hold a name. */
export interface AttemptAt {
  readonly attempt: number;
  readonly name: string;
}

/** What is held in etcd: one key, or one for each name. */
export type Keys = Pick<Hold, 'createRevision' | 'key'> & { readonly keys?: readonly string[] };

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
  /** How many calls there were of what the library offers: to acquire, to write, to give back, to push, to hand in, … */
  operations = 0;
  /** Keys that somebody may remove by hand. */
  removable: readonly RegExp[] = [];
  /** Its history may go back. */
  mayLose = false;
  /** The lease of each process's session. */
  readonly leases = new Map<SimProcess, bigint>();
  /** Processes are to end what they do. */
  isStopping = false;
  readonly #numbers = new Map<string, number>();
  readonly #attemptByKey = new Map<string, AttemptAt>();
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

  /** Removes a key, as somebody from outside. */
  remove(key: string): void {
    this.#isRevoking = true;
    this.world.server.member.store.write((batch) => batch.delete(singleKey(key)));
    this.#isRevoking = false;
  }

  /** Whether it has been frozen, for a moment at least, since that place in the history. */
  wasFrozen({ name }: SimProcess, from: number): boolean {
    return this.history.slice(from).some(({ is, process }) => is === 'thawed' && process === name);
  }

  /** All keys that begin so. */
  below(prefix: string): ReturnType<World['server']['member']['store']['range']> {
    const end = `${prefix.slice(0, -1)}${String.fromCharCode(prefix.charCodeAt(prefix.length - 1) + 1)}`;
    return this.world.server.member.store.range(keyRange(Buffer.from(prefix), Buffer.from(end)));
  }

  /** Whether etcd has the key that was made then. */
  has({ createRevision, key }: Pick<Hold, 'createRevision' | 'key'>): boolean {
    const [found] = this.world.server.member.store.range(singleKey(key)).kvs;
    return found?.createRevision === createRevision;
  }

  /** Somebody is about to say that it holds; its key may have been removed by hand before it could know. */
  holds({ createRevision, key, keys = [key] }: Keys, attempts: readonly AttemptAt[]): void {
    for (const [at, about] of attempts.entries()) {
      const its = keys[at] ?? key;
      const revision = this.#revokedAt.get(its) ?? 0n;
      const gone = { atMs: this.world.nowMs, byHand: true, is: 'gone', process: 'etcd', revision } as const;
      if (revision > createRevision) this.note({ ...gone, ...about });
      else this.#attemptByKey.set(its, about);
    }
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
    this.#attemptByKey.clear();
    this.#revokedAt.clear();
  }

  /** Writes down when the key of a hold is gone. */
  #noteGone(): void {
    this.world.server.onCommit((revision, changes) => {
      for (const { deleted, text } of changes) {
        if (!deleted) continue;
        if (this.#isRevoking) this.#revokedAt.set(text, revision);
        const about = this.#attemptByKey.get(text);
        if (about === undefined) continue;
        this.#attemptByKey.delete(text);
        const gone = { atMs: this.world.nowMs, is: 'gone', process: 'etcd', revision, ...about } as const;
        this.note(this.#isRevoking ? { ...gone, byHand: true } : gone);
      }
    });
  }
}
