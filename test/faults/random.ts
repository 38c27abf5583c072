import { type TestContext } from 'node:test';

import { randomFrom, seedFrom } from '../support/children.js';

/** Numbers that follow from a seed, which is printed and can be given again in CONCLAVE_SEED. */
export class Random {
  /** From 0 to below 1. */
  readonly fraction: () => number;

  constructor(t: TestContext) {
    const seed = seedFrom('CONCLAVE_SEED');
    t.diagnostic(`CONCLAVE_SEED=${seed}`);
    this.fraction = randomFrom(seed);
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
