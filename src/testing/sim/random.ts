import type { Chance } from '../../util/chance.js';

const LETTERS = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_';

/** Numbers by chance, the same for the same seed: mulberry32, of Tommy Ettinger's public-domain generators. */
export class Random implements Chance {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
    // Seeds that are near each other would begin alike.
    for (let at = 0; at < 4; at++) this.fraction();
  }

  /** From 0 up to, and without, 1. */
  fraction(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = this.#state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  /** A whole number from 0 up to, and without, `count`. */
  below(count: number): number {
    return Math.floor(this.fraction() * count);
  }

  /** From `least` up to `most`. */
  between(least: number, most: number): number {
    return least + this.fraction() * (most - least);
  }

  /** True in so many of all cases. */
  chance(share: number): boolean {
    return this.fraction() < share;
  }

  /** One of them. Throws RangeError when there is none. */
  pick<T>(from: readonly T[]): T {
    if (from.length === 0) throw new RangeError('there is nothing to pick from');
    return from[this.below(from.length)] as T;
  }

  id(length = 21): string {
    let text = '';
    for (let at = 0; at < length; at++) text += LETTERS[this.below(LETTERS.length)] ?? '';
    return text;
  }

  int63(): bigint {
    return (BigInt(this.below(2 ** 31)) << 32n) | BigInt(this.below(2 ** 32)) | 1n;
  }

  /** Another one, for a part whose draws must not move those of the others. */
  fork(): Random {
    return new Random(this.below(2 ** 32));
  }
}
