/** Who waits for ownership keys to go. */
import { orAborted } from '../util/abort.js';
import { Change } from '../util/change.js';
import type { KeyId } from './ownership-keys.js';

interface Awaited {
  waiting: number;
  /** The last revision at which it was told to go. */
  goneAt: bigint;
  /** How often whoever waits was sent to look again. */
  wakes: number;
  readonly changed: Change;
}

/** Hears of the departures of some keys, from when it is made. */
export interface Departure extends Disposable {
  /**
   * Resolves once the key, which was there at `revision`, has gone, or may have. Rejects with the signal's reason, and with
   * what nobody hears of them any more for.
   */
  readonly gone: (id: KeyId, revision: bigint, signal: AbortSignal) => Promise<void>;
}

export class Departures {
  readonly #awaited = new Map<KeyId, Awaited>();

  /** Begins to listen: before the request that may find the keys there. */
  of(ids: readonly KeyId[]): Departure {
    const from = new Map(ids.map((id) => [id, this.#listen(id)]));
    return {
      gone: async (id, revision, signal) => {
        const wakes = from.get(id);
        for (;;) {
          const awaited = this.#awaited.get(id);
          if (awaited === undefined || awaited.goneAt > revision || awaited.wakes !== wakes) return;
          await orAborted(awaited.changed.next, signal);
        }
      },
      [Symbol.dispose]: () => {
        for (const id of from.keys()) this.#leave(id);
      },
    };
  }

  /** An ownership key was deleted. */
  tell(id: KeyId, revision: bigint): void {
    const awaited = this.#awaited.get(id);
    if (awaited === undefined) return;
    awaited.goneAt = revision;
    awaited.changed.tell();
  }

  /** It is not known any more what has gone: who waits is to look again. */
  wake(): void {
    for (const awaited of this.#awaited.values()) {
      awaited.wakes += 1;
      awaited.changed.tell();
    }
  }

  #listen(id: KeyId): number {
    let awaited = this.#awaited.get(id);
    if (awaited === undefined) {
      awaited = { changed: new Change(), goneAt: 0n, waiting: 0, wakes: 0 };
      this.#awaited.set(id, awaited);
    }
    awaited.waiting += 1;
    return awaited.wakes;
  }

  #leave(id: KeyId): void {
    const awaited = this.#awaited.get(id);
    if (awaited === undefined) return;
    awaited.waiting -= 1;
    if (awaited.waiting === 0) this.#awaited.delete(id);
  }
}
