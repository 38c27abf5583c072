/** A line of values, first in, first out, that any of them may leave: every step takes the same short time, however many wait. */

interface Link<T> {
  readonly value: T;
  before: Link<T> | undefined;
  after: Link<T> | undefined;
}

/** An array moves all that are behind the one that leaves; a Map or Set looks at every gap that was left in front. */
export class WaitingLine<T> {
  #first: Link<T> | undefined;
  #last: Link<T> | undefined;
  #size = 0;

  /** How many wait. */
  get size(): number {
    return this.#size;
  }

  /** The value that is next; undefined: nobody waits. */
  get first(): T | undefined {
    return this.#first?.value;
  }

  /** Puts a value at the end. Returns how it leaves; doing so again, or when it has been taken, does nothing. */
  push(value: T): () => void {
    const link: Link<T> = { after: undefined, before: this.#last, value };
    if (this.#last === undefined) this.#first = link;
    else this.#last.after = link;
    this.#last = link;
    this.#size += 1;
    return () => {
      if (this.#first === link || link.before !== undefined) this.#unlink(link);
    };
  }

  /** Takes the first value; undefined: nobody waits. */
  shift(): T | undefined {
    const first = this.#first;
    if (first !== undefined) this.#unlink(first);
    return first?.value;
  }

  #unlink(link: Link<T>): void {
    const { before, after } = link;
    if (before === undefined) this.#first = after;
    else before.after = after;
    if (after === undefined) this.#last = before;
    else after.before = before;
    link.before = undefined;
    link.after = undefined;
    this.#size -= 1;
  }
}
