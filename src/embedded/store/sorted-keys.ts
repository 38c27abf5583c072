import type { KeyText } from './key-range.js';

/** A block is cut in two when it grows past this: small enough to move by memmove, large enough to keep blocks few. */
const BLOCK_LIMIT = 512;

/** Where a key is or would be. */
interface Place {
  readonly block: number;
  readonly at: number;
}

/**
 * A set of keys in byte order: a B-tree of two levels, that is, a list of sorted blocks of at most 512 keys. Finding
 * costs two binary searches; adding moves at most one block, and for a million keys the list has some 4000 blocks.
 */
export class SortedKeys {
  readonly #blocks: KeyText[][] = [[]];

  /** Adds `key`; adding it twice does nothing. */
  add(key: KeyText): void {
    const { block, at } = this.#find(key);
    const keys = this.#block(block);
    if (keys[at] === key) return;
    keys.splice(at, 0, key);
    if (keys.length > BLOCK_LIMIT) this.#blocks.splice(block + 1, 0, keys.splice(BLOCK_LIMIT / 2));
  }

  /** Removes `key`; a key that is not there is ignored. */
  delete(key: KeyText): void {
    const { block, at } = this.#find(key);
    const keys = this.#block(block);
    if (keys[at] !== key) return;
    keys.splice(at, 1);
    if (keys.length === 0 && this.#blocks.length > 1) this.#blocks.splice(block, 1);
  }

  /** How many keys are in `[begin, end)`; costs a step per block. */
  count(begin: KeyText, end: KeyText): number {
    if (end <= begin) return 0;
    const from = this.#find(begin);
    const to = this.#find(end);
    let count = to.at - from.at;
    for (let block = from.block; block < to.block; block++) count += this.#block(block).length;
    return count;
  }

  /** The keys in `[begin, end)`, in order. The set must not change while the loop runs. */
  *range(begin: KeyText, end: KeyText): Generator<KeyText> {
    let { block, at } = this.#find(begin);
    for (; block < this.#blocks.length; block++, at = 0) {
      const keys = this.#block(block);
      for (; at < keys.length; at++) {
        const key = keys[at];
        if (key === undefined || key >= end) return;
        yield key;
      }
    }
  }

  #block(index: number): KeyText[] {
    return this.#blocks[index] ?? [];
  }

  /** The place of the first key that is not less than `key`, in the block that would hold it. */
  #find(key: KeyText): Place {
    // The last block whose first key is not greater than `key`.
    let low = 0;
    let high = this.#blocks.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      const first = this.#block(middle)[0];
      if (first !== undefined && first <= key) low = middle;
      else high = middle - 1;
    }
    const keys = this.#block(low);
    let from = 0;
    let to = keys.length;
    while (from < to) {
      const middle = (from + to) >> 1;
      if ((keys[middle] ?? key) < key) from = middle + 1;
      else to = middle;
    }
    return { block: low, at: from };
  }
}
