import { randomInt } from 'node:crypto';
import { type TestContext } from 'node:test';

/** Numbers that follow from a seed (mulberry32), which is printed and can be given again in CONCLAVE_SEED. */
export class Random {
  #state: number;

  constructor(t: TestContext) {
    this.#state = Number(process.env['CONCLAVE_SEED'] ?? randomInt(2 ** 31));
    t.diagnostic(`CONCLAVE_SEED=${this.#state}`);
  }

  /** From 0 to below 1. */
  fraction(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  /** A whole number from 0 to below `end`. */
  below(end: number): number {
    return Math.floor(this.fraction() * end);
  }

  /** One of `items`, of which there must be some. */
  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)] as T;
  }
}
