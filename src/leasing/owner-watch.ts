/** The one watch by which a Leasing hears who wants its keys, and which ownership keys have gone. */
import type { Client } from '../etcd/client.js';
import type { WatchBatch } from '../etcd/watch/watch.js';
import { orAborted, sleep } from '../util/abort.js';
import { Deferred } from '../util/deferred.js';

/** Before it is opened again after etcd has refused it. */
const PAUSE_MS = 2000;

/** Who is told. */
export interface OwnerWatchReader {
  /** What has changed. */
  readonly told: (batch: WatchBatch) => void;
  /** It is not known what has changed: all that was known is to be given up. */
  readonly lost: () => void;
}

export class OwnerWatch {
  readonly #client: Client;
  readonly #prefix: Uint8Array;
  readonly #reader: OwnerWatchReader;
  readonly #signal: AbortSignal;
  #begun = new Deferred<void>();
  #isFollowing = false;

  /** Begins at once, and ends with the signal. */
  constructor(client: Client, prefix: Uint8Array, reader: OwnerWatchReader, signal: AbortSignal) {
    this.#client = client;
    this.#prefix = prefix;
    this.#reader = reader;
    this.#signal = signal;
    this.#begun.promise.catch(() => undefined);
    this.#follow().catch((error: unknown) => this.#begun.reject(error));
  }

  /** Whether all that happens from now on will be told. */
  get isFollowing(): boolean {
    return this.#isFollowing;
  }

  /** Resolves once it is so. Rejects with why etcd refuses it, and with the signal's reason. */
  async following(signal: AbortSignal): Promise<void> {
    if (!this.#isFollowing) await orAborted(this.#begun.promise, signal);
  }

  async #follow(): Promise<never> {
    for (;;) {
      try {
        await this.#once();
      } catch (error) {
        this.#signal.throwIfAborted();
        this.#client.closed.throwIfAborted();
        this.#isFollowing = false;
        this.#begun.reject(error);
        this.#reader.lost();
      }
      await sleep(this.#client.clock, PAUSE_MS, this.#signal);
      this.#begun = new Deferred();
      this.#begun.promise.catch(() => undefined);
    }
  }

  async #once(): Promise<void> {
    const options = { onCompacted: 'relist', signal: this.#signal } as const;
    const watcher = this.#client.watch({ prefix: this.#prefix }, options);
    try {
      await watcher.created;
      this.#isFollowing = true;
      this.#begun.resolve();
      for await (const batch of watcher) {
        if (batch.snapshot !== undefined) this.#reader.lost();
        this.#reader.told(batch);
      }
    } finally {
      watcher.close();
    }
  }
}
