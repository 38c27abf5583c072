/** What falls due, the first on top: a binary heap whose items know their place, so that each can be moved or removed. */

/** Something that falls due at a monotonic time; Infinity: not before it is moved. */
export interface Due {
  dueAt: number;
  /** Its place in the heap, which alone sets it. */
  place: number;
}

export class DueHeap<Item extends Due> {
  readonly #items: Item[] = [];

  get size(): number {
    return this.#items.length;
  }

  /** The item that is due first. */
  get first(): Item | undefined {
    return this.#items[0];
  }

  /** All items, in no order. */
  [Symbol.iterator](): Iterator<Item> {
    return this.#items.values();
  }

  add(item: Item): void {
    this.#items.push(item);
    this.#rise(item, this.#items.length - 1);
  }

  /** Sets when an item of the heap is due. */
  move(item: Item, dueAt: number): void {
    const sooner = dueAt < item.dueAt;
    item.dueAt = dueAt;
    if (sooner) this.#rise(item, item.place);
    else this.#sink(item, item.place);
  }

  remove(item: Item): void {
    const { place } = item;
    const last = this.#items.pop();
    if (last === undefined || last === item) return;
    // What takes its place comes from another branch, and may have to go either way.
    this.#rise(last, place);
    this.#sink(last, last.place);
  }

  #rise(item: Item, from: number): void {
    let at = from;
    while (at > 0) {
      const parentAt = (at - 1) >> 1;
      const parent = this.#items[parentAt];
      if (parent === undefined || parent.dueAt <= item.dueAt) break;
      this.#put(parent, at);
      at = parentAt;
    }
    this.#put(item, at);
  }

  #sink(item: Item, from: number): void {
    let at = from;
    for (;;) {
      const childAt = this.#firstChild(at);
      const child = this.#items[childAt];
      if (child === undefined || child.dueAt >= item.dueAt) break;
      this.#put(child, at);
      at = childAt;
    }
    this.#put(item, at);
  }

  /** Where the child that is due first is; past the end when there is none. */
  #firstChild(at: number): number {
    const left = 2 * at + 1;
    const [one, other] = [this.#items[left], this.#items[left + 1]];
    return one !== undefined && other !== undefined && other.dueAt < one.dueAt ? left + 1 : left;
  }

  #put(item: Item, at: number): void {
    this.#items[at] = item;
    item.place = at;
  }
}
