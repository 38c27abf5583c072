/** Things by number, which no process of a fleet gives twice, not even in another one's place. */
export class Numbered<T> {
  readonly #all = new Map<number, T>();
  readonly #what: string;
  #last = process.pid * 1_000_000;

  constructor(what: string) {
    this.#what = what;
  }

  add(item: T): number {
    this.#all.set(++this.#last, item);
    return this.#last;
  }

  /** Throws RangeError when there is none of that number. */
  get(number: number): T {
    const item = this.#all.get(number);
    if (item === undefined) throw new RangeError(`no ${this.#what} ${number}`);
    return item;
  }

  delete(number: number): void {
    this.#all.delete(number);
  }
}
