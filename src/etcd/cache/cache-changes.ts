/** What a cache tells those who follow it: whole revisions, in order. */
import { ConclaveError } from '../../errors/conclave-error.js';
import { onAbort } from '../../util/abort.js';
import { AsyncQueue } from '../../util/async-queue.js';
import { inJson } from '../../util/shown.js';
import { checkCount, checkLimits, checkOptions } from '../../util/validate.js';
import type { WatchEvent } from '../watch/watch-event.js';

/** All that one revision has changed in a cache's range; or, if `relisted`, all that has changed since the one before. */
export interface CacheChange {
  /** The revision at which the cache is with these events. It may be a smaller one than before when history went back. */
  readonly revision: bigint;
  /** What has changed, each with what the key held before as `prevKv`. Empty if a relist has found nothing new. */
  readonly events: readonly WatchEvent[];
  /**
   * The range was read anew: at first, and when history was compacted or went back before all of it had come. The events
   * then lead from what the cache had to what it has; a delete among them has the revision of the reading.
   */
  readonly relisted: boolean;
}

/** Options of `changes`. */
export interface ChangesOptions {
  /** Ends it: the loop throws the signal's reason. */
  readonly signal?: AbortSignal | undefined;
  /** Changes that are kept for a slow reader. When there are more, it throws `OVER_LIMIT`. @default 1024 */
  readonly bufferSize?: number | undefined;
}

export class CacheChanges {
  readonly #what: string;
  readonly #readers = new Set<{ tell(change: CacheChange): void; fail(reason: unknown): void }>();

  /** `what`: the cache, for error messages. */
  constructor(what: string) {
    this.#what = what;
  }

  /** What is told from now on. Begins at once, not when it is first read. */
  read(options: ChangesOptions): AsyncIterableIterator<CacheChange, undefined> {
    checkOptions(options, ['signal', 'bufferSize'], 'changes');
    checkLimits({ signal: options.signal });
    const { bufferSize = 1024, signal } = options;
    checkCount(bufferSize, 'bufferSize', 1);
    signal?.throwIfAborted();
    const queue: AsyncQueue<CacheChange> = new AsyncQueue(() => stop());
    const fail = (reason: unknown): void => {
      stop();
      queue.fail(reason);
    };
    const reader = {
      fail,
      tell: (change: CacheChange): void => {
        if (queue.size < bufferSize) queue.push(change);
        else fail(new ConclaveError('OVER_LIMIT', this.#behind(bufferSize)));
      },
    };
    const stopListening = onAbort(signal, fail);
    const stop = (): void => {
      stopListening();
      this.#readers.delete(reader);
    };
    this.#readers.add(reader);
    return queue;
  }

  tell(change: CacheChange): void {
    const told = inJson(change);
    for (const reader of [...this.#readers]) reader.tell(told);
  }

  /** Nothing follows. */
  fail(reason: unknown): void {
    for (const reader of [...this.#readers]) reader.fail(reason);
  }

  #behind(bufferSize: number): string {
    return `changes of ${this.#what}: ${String(bufferSize)} of them wait to be read; read faster, or give a larger bufferSize`;
  }
}
