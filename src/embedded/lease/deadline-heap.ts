/** One entry: what is due and when. */
interface Entry<T> {
  readonly dueMs: number;
  readonly item: T;
}

/** A binary heap of things that fall due, the first on top. */
export class DeadlineHeap<T> {
  #entries: Entry<T>[] = [];

  get size(): number {
    return this.#entries.length;
  }

  /** When the first thing is due; undefined when there is none. */
  get firstDueMs(): number | undefined {
    return this.#entries[0]?.dueMs;
  }

  push(dueMs: number, item: T): void {
    const entry = { dueMs, item };
    let at = this.#entries.length;
    this.#entries.push(entry);
    while (at > 0) {
      const parentAt = (at - 1) >> 1;
      const parent = this.#entries[parentAt];
      if (parent === undefined || parent.dueMs <= dueMs) break;
      this.#entries[at] = parent;
      at = parentAt;
    }
    this.#entries[at] = entry;
  }

  /** Takes the first thing if it is due at `nowMs`. */
  popDue(nowMs: number): T | undefined {
    const first = this.#entries[0];
    if (first === undefined || first.dueMs > nowMs) return undefined;
    const last = this.#entries.pop();
    if (last !== undefined && last !== first) this.#sink(last);
    return first.item;
  }

  /** Drops what `keep` refuses. */
  filter(keep: (item: T) => boolean): void {
    const kept = this.#entries.filter((entry) => keep(entry.item));
    // A sorted list is a heap.
    this.#entries = kept.sort((a, b) => a.dueMs - b.dueMs);
  }

  #sink(entry: Entry<T>): void {
    const size = this.#entries.length;
    let at = 0;
    for (;;) {
      let childAt = 2 * at + 1;
      const left = this.#entries[childAt];
      const right = this.#entries[childAt + 1];
      let child = left;
      if (right !== undefined && left !== undefined && right.dueMs < left.dueMs) {
        child = right;
        childAt++;
      }
      if (childAt >= size || child === undefined || child.dueMs >= entry.dueMs) break;
      this.#entries[at] = child;
      at = childAt;
    }
    this.#entries[at] = entry;
  }
}
