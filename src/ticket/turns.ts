/**
 * The turns of this process's tasks at something: one at a time, or so many, in the order in which they asked.
 *
 * `async-mutex` says whose turn it is. It cannot take one who waits out of its queue, so nobody waits in there: who has to
 * wait does so in a line of our own, which one who gives up leaves at once, and is let in when the turn is free.
 */
import { Semaphore } from 'async-mutex';

import { onAbort } from '../util/abort.js';
import { WaitingLine } from '../util/waiting-line.js';

/** Ends a turn. Calling it again does nothing: by then the turn is another one's. */
export type EndTurn = () => void;

export class Turns {
  readonly #free: Semaphore;
  readonly #line = new WaitingLine<(turn: Promise<EndTurn>) => void>();

  constructor(atOnce = 1) {
    this.#free = new Semaphore(atOnce);
  }

  /** Whether there is no turn to be had. */
  get taken(): boolean {
    return this.#free.isLocked();
  }

  /** How many wait for one. */
  get waiting(): number {
    return this.#line.size;
  }

  /** Resolves with how to end the turn once it is ours; rejects with the signal's reason, and has then left the line. */
  take(signal: AbortSignal): Promise<EndTurn> {
    if (!this.taken && !signal.aborted) return this.#begin();
    return new Promise((resolve, reject) => {
      const leave = this.#line.push((turn) => {
        stopListening();
        resolve(turn);
      });
      const stopListening = onAbort(signal, (reason) => {
        leave();
        reject(reason);
      });
    });
  }

  /** Takes a free turn: it is taken as soon as this returns. */
  async #begin(): Promise<EndTurn> {
    const [, release] = await this.#free.acquire();
    let ended = false;
    return () => {
      if (ended) return;
      ended = true;
      release();
      // In the same breath, so that nobody comes between. From here on the next one has it, even if it gives up now.
      this.#line.shift()?.(this.#begin());
    };
  }
}
