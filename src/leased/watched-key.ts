/** One key as its watch tells of it: what it holds, and when that changes. */
import type { Client } from '../etcd/client.js';
import type { KeyValue } from '../etcd/kv/key-value.js';
import type { Watcher } from '../etcd/watch/watch.js';
import { orAborted } from '../util/abort.js';
import { Change } from '../util/change.js';

export class WatchedKey implements Disposable {
  readonly #watcher: Watcher;
  #kv: KeyValue | undefined;
  /** Up to where it was read: what the watch tells of before is known. */
  #readAt: bigint;
  #changes = 0;
  readonly #changed = new Change();
  #failure: { readonly error: unknown } | undefined;

  /** Watches it, and reads it. Rejects as calls do, and with the signal's reason. */
  static async open(client: Client, key: string, signal: AbortSignal): Promise<WatchedKey> {
    const watcher = client.watch(key, { onCompacted: 'relist', signal });
    try {
      await watcher.created;
      const { kvs, revision } = await client.kv.range(key, { signal });
      return new WatchedKey(watcher, kvs[0], revision);
    } catch (error) {
      watcher.close();
      throw error;
    }
  }

  private constructor(watcher: Watcher, kv: KeyValue | undefined, readAt: bigint) {
    this.#watcher = watcher;
    this.#kv = kv;
    this.#readAt = readAt;
    void this.#follow();
  }

  /** What the key holds, as far as the watch has told. Throws what the watch ended with. */
  get kv(): KeyValue | undefined {
    if (this.#failure !== undefined) throw this.#failure.error;
    return this.#kv;
  }

  /** How often it was told of a change. */
  get changes(): number {
    return this.#changes;
  }

  /** Resolves once it was told of more than `changes`. Rejects with the signal's reason. */
  async changedSince(changes: number, signal: AbortSignal): Promise<void> {
    while (this.#changes === changes) await orAborted(this.#changed.next, signal);
  }

  /** Whoever waits is to look again. */
  wake(): void {
    this.#changes += 1;
    this.#changed.tell();
  }

  /** Ends the watch. */
  [Symbol.dispose](): void {
    this.#watcher.close();
  }

  async #follow(): Promise<void> {
    try {
      for await (const { events, snapshot } of this.#watcher) {
        if (snapshot !== undefined) {
          this.#readAt = 0n;
          this.#kv = snapshot[0];
        }
        const last = events.at(-1);
        if (last !== undefined && last.kv.modRevision > this.#readAt)
          this.#kv = last.type === 'put' ? last.kv : undefined;
        this.wake();
      }
    } catch (error) {
      this.#failure = { error };
      this.wake();
    }
  }
}
