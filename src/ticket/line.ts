/**
 * The line of a name: the keys directly below `name/` that are bound to a lease, in the order of their create revision.
 *
 * A line is live while somebody uses it: one ordered watch, opened from now, then one read to catch up. It is exact as of
 * `revision`, so "this key is first" is proof as of that revision, with no further read. One line serves all sessions
 * and tasks of a client that use the name; it wakes only those that the change admits.
 *
 * Keys without a lease and keys further down (`name/x/y`) are other people's data and not in line.
 *
 * A line may have one key beside it, `name.~something`: a setting that its policy needs, which the same watch keeps in
 * order with the line. It is outside `name/`, where a key without a lease would block Go's locks for ever; the tilde
 * keeps the watched range `name.~something` to `name0` all but empty of other people's keys.
 */
import { ConclaveError, hasCode } from '../errors/conclave-error.js';
import type { Client } from '../etcd/client.js';
import type { KeyRange } from '../etcd/key-range.js';
import type { KeyValue } from '../etcd/key-value.js';
import { type Subscription } from '../etcd/watch-stream.js';
import { untilAnswered } from '../etcd/until-answered.js';
import { watchRequest } from '../etcd/watch.js';
import type { WatchEvent } from '../etcd/watch-event.js';
import { onAbort } from '../util/abort.js';
import type { Timer } from '../util/clock.js';
import { Deferred } from '../util/deferred.js';

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

/** What names a line. */
export interface LineName {
  readonly name: string;
  /** The key beside the line: `name.~something`. */
  readonly besideKey?: string | undefined;
}

interface Waiter {
  readonly key: string;
  readonly createRevision: bigint;
  readonly policy: Policy;
  readonly turn: Deferred<bigint>;
}

interface Follower {
  readonly createRevision: bigint;
  readonly gone: () => void;
}

type State =
  | { readonly phase: 'closed' }
  | { readonly phase: 'opening'; readonly early: WatchEvent[]; readonly watch: Subscription | undefined }
  | { readonly phase: 'live'; readonly watch: Subscription }
  | { readonly phase: 'failed'; readonly error: ConclaveError };

/** How long an unused line is kept, since opening one costs a watch and a read. */
const LINGER_MS = 3000;

export class Line {
  readonly name: string;
  readonly #client: Client;
  readonly #range: KeyRange;
  readonly #besideKey: string | undefined;
  readonly #onClosed: () => void;
  /** In order of create revision: a map keeps the order of insertion, and events come in the order of revisions. */
  readonly #keys = new Map<string, KeyValue>();
  readonly #waiters = new Map<string, Waiter>();
  /** How many waiters follow each policy. */
  readonly #policies = new Map<Policy, number>();
  readonly #followers = new Map<string, Set<Follower>>();
  readonly #listeners = new Set<() => void>();
  #state: State = { phase: 'closed' };
  #beside: KeyValue | undefined;
  #revision = 0n;
  #ready = new Deferred<void>();
  #uses = 0;
  #linger: Timer | undefined;

  constructor(client: Client, { name, besideKey }: LineName, onClosed: () => void) {
    this.name = name;
    this.#client = client;
    this.#besideKey = besideKey;
    this.#range = rangeOf({ besideKey, name });
    this.#onClosed = onClosed;
  }

  /** Whether the line is known exactly, as of `revision`. */
  get live(): boolean {
    return this.#state.phase === 'live';
  }

  /** The revision as of which the line is exact. */
  get revision(): bigint {
    return this.#revision;
  }

  /** Why the line cannot be followed; undefined while it can. */
  get error(): ConclaveError | undefined {
    return this.#state.phase === 'failed' ? this.#state.error : undefined;
  }

  /** The keys in line, first to last. */
  get keys(): Iterable<KeyValue> {
    return this.#keys.values();
  }

  /** The key beside the line; undefined while it does not exist. */
  get beside(): KeyValue | undefined {
    return this.#beside;
  }

  /** The first key in line. */
  get firstKey(): string | undefined {
    for (const key of this.#keys.keys()) return key;
    return undefined;
  }

  /** The key that comes after `key`; undefined when that is the last one. */
  keyAfter(key: string): string | undefined {
    let found = false;
    for (const each of this.#keys.keys()) {
      if (found) return each;
      found = each === key;
    }
    return undefined;
  }

  /** Opens the line and keeps it open until the returned function is called. */
  use(): () => void {
    this.#uses += 1;
    this.#linger?.cancel();
    this.#linger = undefined;
    if (this.#state.phase === 'closed') this.#open();
    let used = true;
    return () => {
      if (!used) return;
      used = false;
      this.#uses -= 1;
      if (this.#uses > 0 || this.#state.phase === 'failed') return;
      this.#linger = this.#client.clock.setTimer(LINGER_MS, () => this.#close());
    };
  }

  /** Resolves once the line is live; rejects when it cannot be followed. Somebody must be using it. */
  get ready(): Promise<void> {
    return this.#ready.promise;
  }

  /**
   * Resolves once `policy` admits our key, with the revision that proves it. Rejects with `TICKET_LOST` when the key was
   * removed, with the signal's reason, and with the line's own error when it cannot be followed. Removes nothing.
   */
  async turn(key: string, createRevision: bigint, policy: Policy, signal: AbortSignal): Promise<bigint> {
    const waiter: Waiter = { createRevision, key, policy, turn: new Deferred() };
    const stopUsing = this.use();
    const stopListening = onAbort(signal, (reason) => waiter.turn.reject(reason));
    this.#waiters.set(key, waiter);
    this.#count(policy, 1);
    if (this.#state.phase === 'failed') waiter.turn.reject(this.#state.error);
    if (this.#state.phase === 'live') this.#wake(waiter);
    try {
      return await waiter.turn.promise;
    } finally {
      if (this.#waiters.get(key) === waiter) this.#waiters.delete(key);
      this.#count(policy, -1);
      stopListening();
      stopUsing();
    }
  }

  /** Calls `gone` once when the key, created at `createRevision`, is there no more. Returns how to stop. */
  follow(key: string, createRevision: bigint, gone: () => void): () => void {
    const follower: Follower = { createRevision, gone };
    const followers = this.#followers.get(key) ?? new Set();
    this.#followers.set(key, followers.add(follower));
    const stopUsing = this.use();
    if (this.#state.phase === 'live') this.#checkFollowers(key);
    return () => {
      followers.delete(follower);
      if (followers.size === 0 && this.#followers.get(key) === followers) this.#followers.delete(key);
      stopUsing();
    };
  }

  /** Calls `listener` after every change of a live line, and when it fails. Returns how to stop. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #count(policy: Policy, change: 1 | -1): void {
    const count = (this.#policies.get(policy) ?? 0) + change;
    if (count === 0) this.#policies.delete(policy);
    else this.#policies.set(policy, count);
  }

  #open(): void {
    const early: WatchEvent[] = [];
    // Who waits for a line that compaction overtakes while it opens goes on waiting for the same promise.
    if (this.#state.phase !== 'opening') this.#ready = new Deferred<void>();
    this.#state = { early, phase: 'opening', watch: undefined };
    try {
      const watch = this.#client.watches.subscribe(
        { ...watchRequest(this.#range, {}), startRevision: 0n },
        {
          created: () => void this.#catchUp(early),
          events: (events) => {
            if (this.#state.phase === 'live') this.#apply(events);
            else early.push(...events);
          },
          failed: (error) => this.#watchFailed(error),
          progress: () => undefined,
        },
      );
      this.#state = { early, phase: 'opening', watch };
    } catch (error) {
      this.#fail(error);
    }
  }

  /** The watch is there: one read, made after it, tells everything before it. */
  async #catchUp(early: WatchEvent[]): Promise<void> {
    const { clock, closed, kv } = this.#client;
    try {
      const { kvs, revision } = await untilAnswered(clock, closed, () => kv.range(this.#range));
      if (this.#state.phase !== 'opening' || this.#state.early !== early || this.#state.watch === undefined)
        return;
      this.#state = { phase: 'live', watch: this.#state.watch };
      this.#load(kvs, revision);
      this.#ready.resolve();
      this.#apply(early.filter((event) => event.kv.modRevision > revision));
    } catch (error) {
      if (this.#state.phase === 'opening' && this.#state.early === early) this.#fail(error);
    }
  }

  #load(kvs: readonly KeyValue[], revision: bigint): void {
    this.#keys.clear();
    for (const kv of inOrder(kvs, this.name)) this.#keys.set(kv.key, kv);
    this.#beside = kvs.find((kv) => kv.key === this.#besideKey);
    this.#revision = revision;
    for (const key of [...this.#followers.keys()]) this.#checkFollowers(key);
    this.#changed([...this.#waiters.keys()]);
  }

  #apply(events: readonly WatchEvent[]): void {
    if (events.length === 0) return;
    const gone: string[] = [];
    for (const [at, { type, kv }] of events.entries()) {
      const known = this.#keys.get(kv.key);
      if (type === 'put' && isTicket(kv, this.name)) {
        if (known !== undefined && known.createRevision !== kv.createRevision) this.#keys.delete(kv.key);
        this.#keys.set(kv.key, kv);
      } else if (known !== undefined) {
        this.#keys.delete(kv.key);
        gone.push(kv.key);
      } else if (kv.key === this.#besideKey) {
        this.#beside = type === 'put' ? kv : undefined;
      }
      this.#revision = kv.modRevision;
      // A batch may hold many revisions; who observes sees each, who waits is woken by the last.
      const next = events[at + 1];
      if (next !== undefined && next.kv.modRevision !== kv.modRevision) this.#tell();
    }
    for (const key of gone) this.#checkFollowers(key);
    this.#changed(gone);
  }

  #tell(): void {
    for (const listener of [...this.#listeners]) listener();
  }

  /** Wakes those whom the change admits, and those whose own key is gone. */
  #changed(gone: readonly string[]): void {
    for (const policy of this.#policies.keys()) this.#admit(policy);
    for (const key of gone) {
      const waiter = this.#waiters.get(key);
      if (waiter !== undefined) this.#wake(waiter);
    }
    this.#tell();
  }

  #admit(policy: Policy): void {
    for (const kv of policy(this.#keys.values(), this.#beside)) {
      const waiter = this.#waiters.get(kv.key);
      if (waiter?.policy === policy && waiter.createRevision === kv.createRevision)
        waiter.turn.resolve(this.#revision);
    }
  }

  #wake(waiter: Waiter): void {
    if (this.#missing(waiter.key, waiter.createRevision)) waiter.turn.reject(ticketLost(waiter.key));
    else this.#admit(waiter.policy);
  }

  #missing(key: string, createRevision: bigint): boolean {
    return createRevision <= this.#revision && this.#keys.get(key)?.createRevision !== createRevision;
  }

  #checkFollowers(key: string): void {
    for (const follower of [...(this.#followers.get(key) ?? [])]) {
      if (this.#missing(key, follower.createRevision)) follower.gone();
    }
  }

  /** Compaction overtook the watch: begin anew. Whoever waits goes on waiting. */
  #watchFailed(error: ConclaveError): void {
    if (hasCode(error, 'COMPACTED')) this.#open();
    else this.#fail(error);
  }

  #fail(cause: unknown): void {
    const error = hasCode(cause)
      ? cause
      : new ConclaveError('UNAVAILABLE', `the line of ${JSON.stringify(this.name)} cannot be followed`, {
          cause,
        });
    if (this.#state.phase === 'opening' || this.#state.phase === 'live') this.#state.watch?.cancel();
    this.#state = { error, phase: 'failed' };
    this.#linger?.cancel();
    this.#onClosed();
    this.#ready.reject(error);
    for (const waiter of [...this.#waiters.values()]) waiter.turn.reject(error);
    this.#tell();
  }

  #close(): void {
    if (this.#uses > 0) return;
    if (this.#state.phase === 'opening' || this.#state.phase === 'live') this.#state.watch?.cancel();
    this.#state = { phase: 'closed' };
    this.#keys.clear();
    this.#onClosed();
  }
}

/** The range that holds a line and the key beside it. */
export function rangeOf({ name, besideKey }: LineName): KeyRange {
  return besideKey === undefined ? { prefix: `${name}/` } : { end: `${name}0`, start: besideKey };
}

/** Those of `kvs` that stand in the line of `name`, first to last. */
export function inOrder(kvs: readonly KeyValue[], name: string): KeyValue[] {
  const line = kvs.filter((kv) => isTicket(kv, name));
  return line.sort((a, b) => Number(a.createRevision - b.createRevision));
}

/** Whether a key stands in the line of `name`. */
export function isTicket(kv: KeyValue, name: string): boolean {
  const { key } = kv;
  return (
    kv.leaseId !== undefined &&
    key[name.length] === '/' &&
    !key.includes('/', name.length + 1) &&
    key.startsWith(name)
  );
}

/** Our key in a line was removed by somebody else. */
export function ticketLost(key: string): ConclaveError {
  const text = `${key} was removed from its line by somebody else (an operator, or a revoked lease); ask again`;
  return new ConclaveError('TICKET_LOST', text, { key });
}
