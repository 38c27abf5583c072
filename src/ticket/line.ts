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
import { isHistoryGone } from '../errors/transient.js';
import type { Client } from '../etcd/client.js';
import type { KeyRange } from '../etcd/kv/key-range.js';
import type { KeyValue } from '../etcd/kv/key-value.js';
import { untilAnswered } from '../etcd/transport/until-answered.js';
import { watchRequest } from '../etcd/watch/watch.js';
import type { WatchEvent } from '../etcd/watch/watch-event.js';
import { type Subscription } from '../etcd/watch/watch-stream.js';
import { onAbort } from '../util/abort.js';
import type { Timer } from '../util/clock.js';
import { Deferred } from '../util/deferred.js';
import { type Follower, LineAudience, type Policy } from './line-audience.js';
import { idOf, type KeyId, LineKeys, type LineName, rangeOf } from './line-keys.js';
import { readLine } from './read-line.js';

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
  /** The line, as it is read, and the range that is watched. */
  readonly #read: LineName;
  readonly #range: KeyRange;
  readonly #onClosed: () => void;
  readonly #keys: LineKeys;
  readonly #audience: LineAudience;
  #state: State = { phase: 'closed' };
  #ready = new Deferred<void>();
  #uses = 0;
  #linger: Timer | undefined;

  constructor(client: Client, name: LineName, onClosed: () => void) {
    this.name = name.name;
    this.#client = client;
    this.#read = name;
    this.#range = rangeOf(name);
    this.#onClosed = onClosed;
    this.#keys = new LineKeys(name);
    this.#audience = new LineAudience(this.#keys);
  }

  /** Whether the line is known exactly, as of `revision`. */
  get live(): boolean {
    return this.#state.phase === 'live';
  }

  /** The revision as of which the line is exact. */
  get revision(): bigint {
    return this.#keys.revision;
  }

  /** Why the line cannot be followed; undefined while it can. */
  get error(): ConclaveError | undefined {
    return this.#state.phase === 'failed' ? this.#state.error : undefined;
  }

  /** The keys in line, first to last. */
  get keys(): Iterable<KeyValue> {
    return this.#keys.inOrder;
  }

  /** The key beside the line; undefined while it does not exist. */
  get beside(): KeyValue | undefined {
    return this.#keys.beside;
  }

  /** What a key in line holds. */
  get(key: string): KeyValue | undefined {
    return this.#keys.get(idOf(key));
  }

  /** The key that comes after `key`; undefined when that is the last one. */
  keyAfter(key: string): KeyValue | undefined {
    return this.#keys.after(idOf(key));
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
    const turn = new Deferred<bigint>();
    const waiter = { createRevision, id: idOf(key), key, policy, turn };
    const stopUsing = this.use();
    const stopListening = onAbort(signal, (reason) => turn.reject(reason));
    const stopWaiting = this.#audience.wait(waiter);
    if (this.#state.phase === 'failed') turn.reject(this.#state.error);
    if (this.#state.phase === 'live') this.#audience.check(waiter);
    try {
      return await turn.promise;
    } finally {
      stopWaiting();
      stopListening();
      stopUsing();
    }
  }

  /** Tells a follower what becomes of its key. Returns how to stop. */
  follow(follower: Follower): () => void {
    const stopFollowing = this.#audience.follow(follower);
    const stopUsing = this.use();
    if (this.#state.phase === 'live') this.#audience.checkFollower(follower);
    return () => {
      stopFollowing();
      stopUsing();
    };
  }

  /** Calls `listener` after every change of a live line, and when it fails. Returns how to stop. */
  onChange(listener: () => void): () => void {
    return this.#audience.listen(listener);
  }

  #open(): void {
    const early: WatchEvent[] = [];
    // Who waits for a line that compaction overtakes while it opens goes on waiting for the same promise.
    if (this.#state.phase !== 'opening') this.#ready = new Deferred<void>();
    this.#state = { early, phase: 'opening', watch: undefined };
    try {
      const watch = this.#client.watches.subscribe(
        { ...watchRequest(this.#range, {}), readAfterwards: true, startRevision: 0n },
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
    const before = this.#audience.present();
    try {
      const { kvs, revision } = await untilAnswered(clock, closed, () => readLine(kv, this.#read));
      if (this.#state.phase !== 'opening' || this.#state.early !== early || this.#state.watch === undefined)
        return;
      this.#state = { phase: 'live', watch: this.#state.watch };
      this.#keys.load(kvs, revision);
      this.#audience.reloaded(before);
      this.#ready.resolve();
      this.#apply(early);
    } catch (error) {
      if (this.#state.phase === 'opening' && this.#state.early === early) this.#fail(error);
    }
  }

  #apply(events: readonly WatchEvent[]): void {
    if (events.length === 0) return;
    const changed = new Set<KeyId>();
    for (const [at, event] of events.entries()) {
      const id = this.#keys.apply(event);
      if (id === undefined) continue;
      changed.add(id);
      // A batch may hold many revisions; who observes sees each, who waits is woken by the last.
      const next = events[at + 1];
      if (next !== undefined && next.kv.modRevision !== event.kv.modRevision) this.#audience.tell();
    }
    if (changed.size > 0) this.#audience.changed(changed);
  }

  /** Compaction overtook the watch, or history went back: begin anew. Whoever waits goes on waiting. */
  #watchFailed(error: ConclaveError): void {
    if (isHistoryGone(error)) this.#open();
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
    this.#audience.failed(error);
  }

  #close(): void {
    if (this.#uses > 0) return;
    if (this.#state.phase === 'opening' || this.#state.phase === 'live') this.#state.watch?.cancel();
    this.#state = { phase: 'closed' };
    this.#keys.clear();
    this.#onClosed();
  }
}
