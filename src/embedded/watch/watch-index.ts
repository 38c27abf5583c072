import { IntervalTree } from './interval-tree.js';
import type { KeyRange, KeyText } from '../store/key-range.js';

/** Items by the keys they watch: single keys in a map, ranges in an interval tree. */
export class WatchIndex<T> {
  readonly #single = new Map<KeyText, Set<T>>();
  readonly #ranges = new IntervalTree<T>();

  add(range: KeyRange, item: T): void {
    if (!range.single) {
      this.#ranges.add(range, item);
      return;
    }
    const items = this.#single.get(range.begin);
    if (items === undefined) this.#single.set(range.begin, new Set([item]));
    else items.add(item);
  }

  delete(range: KeyRange, item: T): void {
    if (!range.single) {
      this.#ranges.delete(range, item);
      return;
    }
    const items = this.#single.get(range.begin);
    if (items?.delete(item) === true && items.size === 0) this.#single.delete(range.begin);
  }

  /** The items that watch `key`. */
  at(key: KeyText): T[] {
    const found = this.#ranges.at(key);
    const single = this.#single.get(key);
    if (single !== undefined) found.push(...single);
    return found;
  }
}
