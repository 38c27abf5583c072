/**
 * The turns of this process's tasks at one key: one at a time, in the order in which they asked.
 *
 * `async-mutex` says whose turn it is. It cannot take one who waits out of its queue, so nobody waits in there: who has to
 * wait does so in a line of our own, which one who gives up leaves at once, and is let in when the turn is free.
 */
import { Mutex } from 'async-mutex';

import { onAbort } from '../util/abort.js';
import { Deferred } from '../util/deferred.js';
import { WaitingLine } from '../util/waiting-line.js';

/** Ends a turn. Calling it again does nothing: by then the turn is another one's. */
export type EndTurn = () => void;

export class Turns {
  readonly #mutex = new Mutex();
  readonly #line = new WaitingLine<Deferred<EndTurn>>();

  /** Whether somebody has the turn. */
  get taken(): boolean {
    return this.#mutex.isLocked();
  }

  /** How many wait for it. */
  get waiting(): number {
    return this.#line.size;
  }

  /** Resolves with how to end the turn once it is ours; rejects with the signal's reason, and has then left the line. */
  async take(signal: AbortSignal): Promise<EndTurn> {
    signal.throwIfAborted();
    if (!this.taken) return this.#begin();
    const turn = new Deferred<EndTurn>();
    const leave = this.#line.push(turn);
    const stopListening = onAbort(signal, (reason) => {
      leave();
      turn.reject(reason);
    });
    try {
      return await turn.promise;
    } finally {
      stopListening();
    }
  }

  /** Takes the free turn: it is taken as soon as this returns. */
  async #begin(): Promise<EndTurn> {
    const release = await this.#mutex.acquire();
    let ended = false;
    return () => {
      if (ended) return;
      ended = true;
      release();
      // In the same breath, so that nobody comes between. From here on the next one has it, even if it gives up now.
      this.#line.shift()?.resolve(this.#begin());
    };
  }
}
