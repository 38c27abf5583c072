/** How the turns of the event loop are shared, so that long work keeps nobody out. */
import { nextTurn, systemClock } from '../../util/clock.js';

/** What calls may take of a turn before those that follow wait for the next one. */
const TURN_MS = 10;

/**
 * Calls `then` when what has arrived by now has been read: in each turn the loop reads every socket that has something, and
 * what a connection has read goes to its calls within that turn, or at the start of the next.
 */
export function letIn(then: () => void): void {
  nextTurn(() => nextTurn(then));
}

/**
 * Runs calls in their order, and at once while that takes little; after long ones the rest waits for another turn, in which
 * also streams and new connections are read.
 */
export class Turns {
  #waiting: (() => void)[] = [];
  #spentMs = 0;
  #isCounting = false;

  run(call: () => void): void {
    if (this.#waiting.length > 0 || this.#spentMs >= TURN_MS) this.#waiting.push(call);
    else this.#measure(call);
    this.#count();
  }

  #measure(call: () => void): void {
    const startMs = systemClock.now();
    call();
    this.#spentMs += systemClock.now() - startMs;
  }

  /** Begins anew with the next turn. */
  #count(): void {
    if (this.#isCounting) return;
    this.#isCounting = true;
    nextTurn(() => {
      this.#isCounting = false;
      this.#spentMs = 0;
      let done = 0;
      for (const call of this.#waiting) {
        if (this.#spentMs >= TURN_MS) break;
        done += 1;
        this.#measure(call);
      }
      this.#waiting = this.#waiting.slice(done);
      if (this.#waiting.length > 0) this.#count();
    });
  }
}
