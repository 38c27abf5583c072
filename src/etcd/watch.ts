import { ConclaveError, hasCode } from '../errors/conclave-error.js';
import { onAbort } from '../util/abort.js';
import { AsyncQueue } from '../util/async-queue.js';
import { Deferred } from '../util/deferred.js';
import { checkChoice, checkCount, checkInt64, checkLimits, checkOptions } from '../util/validate.js';
import type { Connection } from './connection.js';
import { encodeRange, type KeyRange } from './key-range.js';
import type { KeyValue } from './key-value.js';
import type { Kv } from './kv.js';
import { untilAnswered } from './until-answered.js';
import type { WatchEvent } from './watch-event.js';
import type { WatchRequest, WatchSink } from './streamed-watch.js';
import type { Subscription, WatchStream } from './watch-stream.js';

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
   * What to do when the next revision has been compacted: `'error'` throws `COMPACTED`; `'relist'` delivers a batch
   * with a `snapshot` and goes on from there. @default 'error'
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
  readonly connection: Connection;
  readonly stream: WatchStream;
  readonly kv: Kv;
}

/**
 * A watch, iterated batch by batch. It begins when it is made: a write that the same client makes later is seen. Leaving
 * the loop, `close()` or the signal end it.
 *
 * No event is lost, repeated or reordered, wherever the connection breaks. Throws `COMPACTED` when the next revision is
 * gone, `PERMISSION_DENIED` when etcd refuses the range, `CLOSED` when the client is closed.
 */
export class Watcher implements AsyncIterableIterator<WatchBatch, undefined> {
  readonly #base: WatchBase;
  readonly #request: Omit<WatchRequest, 'startRevision'>;
  readonly #range: KeyRange;
  readonly #relist: boolean;
  readonly #bufferSize: number;
  readonly #created = new Deferred<bigint>();
  readonly #queue: AsyncQueue<WatchBatch>;
  readonly #stopListening: (() => void)[];
  #subscription: Subscription | undefined;
  #nextRevision: bigint;
  #over = false;

  constructor(base: WatchBase, range: KeyRange, options: WatchOptions = {}) {
    checkOptions(options, OPTIONS, 'watch');
    checkLimits({ signal: options.signal });
    const { onCompacted = 'error' } = options;
    checkChoice(onCompacted, ['error', 'relist'], 'onCompacted');
    options.signal?.throwIfAborted();
    base.connection.closed.throwIfAborted();
    this.#base = base;
    this.#range = range;
    this.#relist = onCompacted === 'relist';
    this.#bufferSize = checkCount(options.bufferSize ?? 1024, 'bufferSize', 1);
    this.#nextRevision = checkInt64(options.startRevision ?? 0n, 'startRevision', 0n);
    this.#request = watchRequest(range, options);
    this.#queue = new AsyncQueue<WatchBatch>(
      () => this.close(),
      () => this.#resume(),
    );
    this.#stopListening = [onAbort(options.signal, (reason) => this.#fail(reason))];
    this.#subscribe();
  }

  /** Resolves once the watch exists on the server, with the store's revision then; rejects if it never does. */
  get created(): Promise<bigint> {
    return this.#created.promise;
  }

  next(): Promise<IteratorResult<WatchBatch, undefined>> {
    return this.#queue.next();
  }

  return(): Promise<IteratorResult<WatchBatch, undefined>> {
    return this.#queue.return();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** Ends the watch; the loop ends after what has arrived. Closing twice does nothing. */
  close(): void {
    this.#finish();
    this.#created.reject(new ConclaveError('CLOSED', `watch ${this.#request.what}: closed`));
    this.#queue.end();
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.close();
    return Promise.resolve();
  }

  #fail(error: unknown): void {
    if (this.#over) return;
    this.#finish();
    this.#created.reject(error);
    this.#queue.fail(error);
  }

  #finish(): void {
    this.#over = true;
    this.#subscription?.cancel();
    this.#subscription = undefined;
    for (const stop of this.#stopListening) stop();
  }

  #subscribe(): void {
    if (this.#over) return;
    const sink: WatchSink = {
      created: (revision) => this.#created.resolve(revision),
      events: (events, revision) => this.#push({ events, revision, snapshot: undefined }),
      failed: (error) => this.#failed(error),
      progress: (revision) => {
        if (this.#request.create.progressNotify === true)
          this.#push({ events: [], revision, snapshot: undefined });
      },
    };
    this.#subscription = this.#base.stream.subscribe(
      { ...this.#request, startRevision: this.#nextRevision },
      sink,
    );
  }

  #push(batch: Omit<WatchBatch, 'nextRevision'>): void {
    this.#nextRevision = this.#subscription?.nextRevision ?? this.#nextRevision;
    this.#queue.push({ ...batch, nextRevision: this.#nextRevision });
    if (this.#queue.size < this.#bufferSize) return;
    // The reader is slow: history waits on the server, not here.
    this.#subscription?.cancel();
    this.#subscription = undefined;
  }

  #resume(): void {
    if (this.#over || this.#subscription !== undefined || this.#queue.size > this.#bufferSize / 2) return;
    if (this.#nextRevision === 0n) return;
    try {
      this.#subscribe();
    } catch (error) {
      this.#fail(error); // The client was closed while the watch was paused.
    }
  }

  #failed(error: ConclaveError): void {
    this.#subscription = undefined;
    if (this.#relist && hasCode(error, 'COMPACTED')) void this.#readSnapshot();
    else this.#fail(error);
  }

  async #readSnapshot(): Promise<void> {
    try {
      const { clock, closed } = this.#base.connection;
      const { kvs, revision } = await untilAnswered(clock, closed, () => this.#base.kv.range(this.#range));
      if (this.#over) return;
      this.#nextRevision = revision + 1n;
      this.#queue.push({ events: [], nextRevision: this.#nextRevision, revision, snapshot: kvs });
      this.#subscribe();
    } catch (error) {
      this.#fail(error);
    }
  }
}

/** The wire form of a watch. */
export function watchRequest(range: KeyRange, options: WatchOptions): Omit<WatchRequest, 'startRevision'> {
  const wire = encodeRange(range);
  const filters = [options.filter ?? []].flat();
  for (const filter of filters) checkChoice(filter, ['noput', 'nodelete'], 'filter');
  return {
    create: {
      fragment: options.fragments,
      filters: filters.map((filter) => (filter === 'noput' ? 'NOPUT' : 'NODELETE')),
      key: wire.key,
      prevKv: options.prevKv,
      progressNotify: options.progressNotify,
      rangeEnd: wire.rangeEnd,
    },
    what: JSON.stringify(Buffer.from(wire.key).toString('utf8')),
  };
}
