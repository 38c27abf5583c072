/**
 * What feeds a cache: reads its range at one revision, follows it by one watch, and reads it anew when history was compacted
 * or went back before all of it had come.
 *
 * | state     | it was read | history is gone | too much, or refused | closed |
 * | --------- | ----------- | --------------- | -------------------- | ------ |
 * | reading   | following   |                 | over                 | over   |
 * | following |             | reading         | over                 | over   |
 */
import { ConclaveError, hasCode, madeHere } from '../../errors/conclave-error.js';
import { isHistoryGone } from '../../errors/transient.js';
import { onAbort, orAborted, OVER } from '../../util/abort.js';
import { tell } from '../../util/channels.js';
import { Change } from '../../util/change.js';
import type { WireRange } from '../kv/key-range.js';
import type { Kv } from '../kv/kv.js';
import type { History } from '../transport/history.js';
import type { Link } from '../transport/link.js';
import { readSnapshot, type Snapshot } from '../watch/snapshot.js';
import type { WatchRequest } from '../watch/streamed-watch.js';
import type { WatchEvent } from '../watch/watch-event.js';
import type { Subscription, Watches } from '../watch/watch-stream.js';
import { CacheChanges } from './cache-changes.js';
import { CachedKeys, memoryOf } from './cached-keys.js';

/** What a cache stands on. */
export interface CacheBase {
  readonly link: Link;
  readonly history: History;
  readonly kv: Pick<Kv, 'range'>;
  readonly watches: Watches;
}

/** What is to be kept. */
export interface Kept {
  readonly range: WireRange;
  readonly request: Omit<WatchRequest, 'startRevision'>;
  readonly maxBytes: number;
  /** The cache, for error messages. */
  readonly what: string;
}

type State =
  | { readonly phase: 'new' }
  | { readonly phase: 'reading'; readonly stop: AbortController }
  | { readonly phase: 'following'; readonly subscription: Subscription }
  | { readonly phase: 'over'; readonly reason: unknown };

export class CacheFeed {
  readonly keys = new CachedKeys();
  readonly changes: CacheChanges;
  readonly #base: CacheBase;
  readonly #kept: Kept;
  readonly #stopListening: () => void;
  /** Resolves at the next change of any kind. */
  readonly #changed = new Change();
  #state: State = { phase: 'new' };
  #readings = 0;
  #revision = 0n;

  /** Begins at once. Throws `CLOSED`. */
  constructor(base: CacheBase, kept: Kept) {
    base.link.closed.throwIfAborted();
    this.#base = base;
    this.#kept = kept;
    this.changes = new CacheChanges(kept.what);
    this.#read();
    this.#stopListening = onAbort(base.link.closed, (reason) => this.end(reason));
  }

  /** All that was written up to it is in `keys`; 0n until the range was read for the first time. */
  get revision(): bigint {
    return this.#revision;
  }

  /** How often the range was read. */
  get readings(): number {
    return this.#readings;
  }

  /** Whether what it has is of the history that there is, as far as is known. */
  get isFollowing(): boolean {
    return this.#state.phase === 'following';
  }

  /** Throws what it ended with. */
  checkOpen(): void {
    if (this.#state.phase !== 'over') return;
    const { reason } = this.#state;
    throw hasCode(reason) ? madeHere(reason) : reason;
  }

  /** Waits for a fact. Rejects with what it ends with. */
  async until(fact: () => boolean, signal: AbortSignal): Promise<void> {
    for (;;) {
      this.checkOpen();
      if (fact()) return;
      await orAborted(this.#changed.next, signal);
    }
  }

  /** Reads the range, for as long as it takes, and follows it from there. */
  #read(): void {
    const stop = new AbortController();
    const reading: State = { phase: 'reading', stop };
    this.#enter(reading);
    const { history, kv, link } = this.#base;
    const { epoch } = history;
    const admit = (keys: number, bytes: number): void => this.#admit(memoryOf(keys, bytes));
    readSnapshot({ admit, clock: link.clock, kv, signal: stop.signal }, this.#kept.range).then(
      (snapshot) => {
        if (this.#state === reading) this.#follow(snapshot, epoch);
      },
      (error: unknown) => {
        if (this.#state === reading) this.end(error);
      },
    );
  }

  /** `epoch`: the history of when its reading began; the watch is told, should it be another one by now. */
  #follow({ kvs, revision }: Snapshot, epoch: number): void {
    const events = this.keys.replace(kvs, revision);
    this.#revision = revision;
    this.#readings += 1;
    const { key } = this.#kept.request;
    if (this.#readings > 1) tell('watch', () => ({ event: 'relisted', key, revision }));
    try {
      const subscription = this.#base.watches.subscribe(
        { ...this.#kept.request, continues: epoch, startRevision: revision + 1n },
        {
          created: () => undefined,
          events: (changes) => this.#apply(changes),
          failed: (error) => {
            if (isHistoryGone(error)) this.#read();
            else this.end(error);
          },
          // They move on where the watch resumes, and nothing else.
          progress: () => undefined,
        },
      );
      this.#enter({ phase: 'following', subscription });
      this.changes.tell({ events, relisted: true, revision });
    } catch (error) {
      this.end(error);
    }
  }

  /** Takes over the events of one revision or more. */
  #apply(events: readonly WatchEvent[]): void {
    let at = 0;
    while (at < events.length) {
      const revision = events[at]?.kv.modRevision ?? 0n;
      const applied: WatchEvent[] = [];
      for (; events[at]?.kv.modRevision === revision; at++) {
        const event = events[at];
        if (event !== undefined) applied.push(this.keys.apply(event));
      }
      this.#revision = revision;
      this.changes.tell({ events: applied, relisted: false, revision });
    }
    try {
      this.#admit(this.keys.memory);
      this.#changed.tell();
    } catch (error) {
      this.end(error);
    }
  }

  #admit(bytes: number): void {
    const { maxBytes, what } = this.#kept;
    if (bytes <= maxBytes) return;
    const text = `${what} has more than its maxBytes (${String(maxBytes)}); give it more, or a smaller range`;
    throw new ConclaveError('OVER_LIMIT', text, { key: this.#kept.request.key });
  }

  /** Ends it, and gives up what it has. The second time nothing happens. */
  end(reason: unknown): void {
    if (this.#state.phase === 'over') return;
    this.#enter({ phase: 'over', reason });
    this.#stopListening();
    this.keys.clear();
    this.changes.fail(reason);
  }

  /** The one place where the state changes: what the old one has begun ends. */
  #enter(state: State): void {
    const left = this.#state;
    this.#state = state;
    if (left.phase === 'following') left.subscription.cancel();
    if (left.phase === 'reading') left.stop.abort(OVER);
    this.#changed.tell();
  }
}
