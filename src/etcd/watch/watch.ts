/**
 * A watch as its reader has it: an iterator over batches, with a buffer, and one state for its life.
 *
 * | state     | the buffer fills | the reader catches up | compacted                            | all was read |
 * | --------- | ---------------- | --------------------- | ------------------------------------ | ------------ |
 * | following | paused           |                       | relisting; over unless it may relist |              |
 * | paused    |                  | following             |                                      |              |
 * | relisting |                  |                       |                                      | following    |
 *
 * From each of them `close()`, leaving the loop, the signal, the client's end and any other error lead to `over`, where
 * nothing happens any more. Only `following` has a watch on the server, and only `relisting` reads; each ends what it
 * has begun when it is left.
 */
import { ConclaveError, madeHere } from '../../errors/conclave-error.js';
import { isHistoryGone } from '../../errors/transient.js';
import { awaitedHere, onAbort, OVER } from '../../util/abort.js';
import { AsyncQueue } from '../../util/async-queue.js';
import { Deferred } from '../../util/deferred.js';
import { toText } from '../../util/bytes.js';
import { tell } from '../../util/channels.js';
import { inJson } from '../../util/shown.js';
import { checkChoice, checkCount, checkInt64, checkLimits, checkOptions } from '../../util/validate.js';
import type { Connection } from '../transport/connection.js';
import { encodeRange, type KeyRange } from '../kv/key-range.js';
import type { KeyValue } from '../kv/key-value.js';
import type { Kv } from '../kv/kv.js';
import type { WatchEvent } from './watch-event.js';
import { readSnapshot } from './snapshot.js';
import type { WatchRequest, WatchSink } from './streamed-watch.js';
import type { Subscription, Watches } from './watch-stream.js';

/** What one turn of a watch brings. */
export interface WatchBatch {
  /** The store's revision when the server sent it. To go on from here, use `nextRevision`. */
  readonly revision: bigint;
  /** The changes, in order, all of each revision at once. Empty in a progress report and in a snapshot. */
  readonly events: readonly WatchEvent[];
  /** With `onCompacted: 'relist'`, after history was lost: all keys of the range, which replace what was known. */
  readonly snapshot: readonly KeyValue[] | undefined;
  /** The `startRevision` with which another watch would continue after this batch. */
  readonly nextRevision: bigint;
}

/** Options of a watch. */
export interface WatchOptions {
  /** The first revision to deliver; may be past or future. @default from now */
  readonly startRevision?: bigint | undefined;
  /** Deliver what each key held before. @default false */
  readonly prevKv?: boolean | undefined;
  /** Leave out puts, or deletes, on the server. @default neither */
  readonly filter?: 'noput' | 'nodelete' | readonly ('noput' | 'nodelete')[] | undefined;
  /** Deliver empty batches now and then while nothing happens, so that `nextRevision` moves on. @default false */
  readonly progressNotify?: boolean | undefined;
  /**
   * Lets the server cut a large batch into several messages, which are joined here: for proxies that limit a message's
   * size. It is not free: etcd takes time that grows with the square of the batch, 4 s for 20000 small events.
   * @default false
   */
  readonly fragments?: boolean | undefined;
  /**
   * What to do when the next revision has been compacted, or history went back: `'error'` throws `COMPACTED` or
   * `HISTORY_REVERTED`; `'relist'` delivers a batch with a `snapshot` and goes on from there. @default 'error'
   */
  readonly onCompacted?: 'error' | 'relist' | undefined;
  /** Ends the watch: the loop throws the signal's reason. */
  readonly signal?: AbortSignal | undefined;
  /** Batches kept for a slow reader. Beyond it the watch pauses on the server and catches up later. @default 1024 */
  readonly bufferSize?: number | undefined;
}

const OPTIONS = [
  'startRevision',
  'prevKv',
  'filter',
  'progressNotify',
  'fragments',
  'onCompacted',
  'signal',
  'bufferSize',
] as const;

/** What the watches of a client stand on. */
export interface WatchBase {
  readonly connection: Pick<Connection, 'clock' | 'closed'>;
  readonly stream: Watches;
  readonly kv: Pick<Kv, 'range'>;
  /** It goes on where something else ended, in the history of this epoch. */
  readonly continues?: number | undefined;
}

type State =
  | { readonly phase: 'following'; readonly subscription: Subscription }
  | { readonly phase: 'paused' }
  | { readonly phase: 'relisting'; readonly stop: AbortController }
  | { readonly phase: 'over' };

/**
 * A watch, iterated batch by batch. It begins when it is made: a write that the same client makes later is seen. Leaving
 * the loop, `close()` or the signal end it.
 *
 * No event is lost, repeated or reordered, wherever the connection breaks. Throws `COMPACTED` when the next revision is
 * gone, `HISTORY_REVERTED` when history went back, `PERMISSION_DENIED` when etcd refuses the range, `CLOSED` when the client is closed.
 */
export class Watcher implements AsyncIterableIterator<WatchBatch, undefined> {
  readonly #base: WatchBase;
  readonly #request: Omit<WatchRequest, 'startRevision'>;
  readonly #relist: boolean;
  readonly #bufferSize: number;
  readonly #created = new Deferred<bigint>();
  readonly #queue: AsyncQueue<WatchBatch>;
  readonly #stopListening: readonly (() => void)[];
  /** What the stream failed with. */
  #failure: ConclaveError | undefined;
  #state: State = { phase: 'paused' };
  /** The history that it has followed; undefined: none yet. */
  #epoch: number | undefined;
  #nextRevision: bigint;

  constructor(base: WatchBase, range: KeyRange, options: WatchOptions = {}) {
    checkOptions(options, OPTIONS, 'watch');
    checkLimits({ signal: options.signal });
    const { onCompacted = 'error' } = options;
    checkChoice(onCompacted, ['error', 'relist'], 'onCompacted');
    options.signal?.throwIfAborted();
    base.connection.closed.throwIfAborted();
    this.#base = base;
    this.#epoch = base.continues;
    this.#relist = onCompacted === 'relist';
    this.#bufferSize = checkCount(options.bufferSize ?? 1024, 'bufferSize', 1);
    this.#nextRevision = checkInt64(options.startRevision ?? 0n, 'startRevision', 0n);
    this.#request = watchRequest(range, options);
    this.#queue = new AsyncQueue<WatchBatch>(
      () => this.close(),
      () => this.#taken(),
    );
    this.#stopListening = [options.signal, base.connection.closed].map((signal) =>
      onAbort(signal, (reason) => this.#fail(reason)),
    );
    this.#follow();
  }

  /**
   * Resolves once the watch exists on the server, with the store's revision then: what happens after it is delivered.
   * Rejects if it never does.
   */
  get created(): Promise<bigint> {
    return this.#here(this.#created.promise);
  }

  /** The next batch. Rejects with the error that ended the watch. */
  next(): Promise<IteratorResult<WatchBatch, undefined>> {
    return this.#here(this.#queue.next());
  }

  /** Ends the watch, as leaving the loop does. */
  return(): Promise<IteratorResult<WatchBatch, undefined>> {
    return this.#queue.return();
  }

  /** Itself: a watch has one reader. */
  [Symbol.asyncIterator](): this {
    return this;
  }

  /** Ends the watch; the loop ends after what has arrived. Closing twice does nothing. */
  close(): void {
    if (this.#state.phase === 'over') return;
    this.#end(new ConclaveError('CLOSED', `watch ${this.#request.what}: closed`));
    this.#queue.end();
  }

  /** As `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    this.close();
    return Promise.resolve();
  }

  /** What the stream failed with is thrown where the caller awaits it. */
  async #here<T>(promise: Promise<T>): Promise<T> {
    try {
      return await promise;
    } catch (error) {
      throw error === this.#failure && this.#failure !== undefined
        ? madeHere(this.#failure)
        : awaitedHere(error);
    }
  }

  #fail(error: unknown): void {
    if (this.#state.phase === 'over') return;
    this.#end(error);
    this.#queue.fail(error);
  }

  #end(reason: unknown): void {
    this.#enter({ phase: 'over' });
    this.#created.reject(reason);
    for (const stop of this.#stopListening) stop();
  }

  /** The one place where the state changes: what the old one has begun ends. */
  #enter(state: State): void {
    const left = this.#state;
    this.#state = state;
    if (left.phase === 'following') left.subscription.cancel();
    if (left.phase === 'relisting') left.stop.abort(OVER);
  }

  #follow(): void {
    const sink: WatchSink = {
      created: (revision) => this.#created.resolve(revision),
      events: (events, revision) => this.#deliver(events, revision),
      failed: (error) => this.#failed(error),
      progress: (revision) => {
        if (this.#request.create.progressNotify === true) this.#deliver([], revision);
      },
    };
    try {
      const request = { ...this.#request, continues: this.#epoch, startRevision: this.#nextRevision };
      this.#enter({ phase: 'following', subscription: this.#base.stream.subscribe(request, sink) });
    } catch (error) {
      this.#fail(error);
    }
  }

  #deliver(events: readonly WatchEvent[], revision: bigint): void {
    if (this.#state.phase !== 'following') return;
    this.#nextRevision = this.#state.subscription.nextRevision;
    this.#epoch = this.#state.subscription.epoch;
    this.#push(inJson({ events, nextRevision: this.#nextRevision, revision, snapshot: undefined }));
  }

  #push(batch: WatchBatch): void {
    this.#queue.push(batch);
    // While the reader is slow, history waits on the server, not here.
    if (this.#queue.size >= this.#bufferSize) this.#enter({ phase: 'paused' });
    else if (this.#state.phase !== 'following') this.#follow();
  }

  #taken(): void {
    if (this.#state.phase === 'paused' && this.#queue.size <= this.#bufferSize / 2) this.#follow();
  }

  #failed(error: ConclaveError): void {
    if (this.#relist && isHistoryGone(error)) void this.#readSnapshot();
    else {
      this.#failure = error;
      this.#fail(error);
    }
  }

  async #readSnapshot(): Promise<void> {
    const stop = new AbortController();
    const relisting: State = { phase: 'relisting', stop };
    this.#enter(relisting);
    const { connection, kv } = this.#base;
    try {
      const reader = { clock: connection.clock, kv, signal: stop.signal };
      const { kvs, revision } = await readSnapshot(reader, this.#request.create);
      if (this.#state !== relisting) return;
      this.#nextRevision = revision + 1n;
      this.#epoch = undefined;
      const { key } = this.#request;
      tell('watch', () => ({ event: 'relisted', key, revision }));
      this.#push(inJson({ events: [], nextRevision: this.#nextRevision, revision, snapshot: kvs }));
    } catch (error) {
      if (this.#state === relisting) this.#fail(error);
    }
  }
}

/** The wire form of a watch. */
export function watchRequest(range: KeyRange, options: WatchOptions): Omit<WatchRequest, 'startRevision'> {
  const { key, rangeEnd } = encodeRange(range);
  const filters = [options.filter ?? []].flat();
  for (const filter of filters) checkChoice(filter, ['noput', 'nodelete'], 'filter');
  return {
    create: {
      fragment: options.fragments,
      filters: filters.map((filter) => (filter === 'noput' ? 'NOPUT' : 'NODELETE')),
      // They are sent again whenever the stream is opened anew; the caller's bytes may be others by then.
      key: Uint8Array.from(key),
      prevKv: options.prevKv,
      progressNotify: options.progressNotify,
      rangeEnd: rangeEnd && Uint8Array.from(rangeEnd),
    },
    key: toText(key),
    what: JSON.stringify(toText(key)),
  };
}
