/** Something that changes again and again. */
import { Deferred } from './deferred.js';

/** Lets go of all who wait for the next change, each time there is one. */
export class Change {
  #next = new Deferred<void>();

  /** Resolves with the next change. */
  get next(): Promise<void> {
    return this.#next.promise;
  }

  /** It has changed. */
  tell(): void {
    const next = this.#next;
    this.#next = new Deferred<void>();
    next.resolve();
  }
}
