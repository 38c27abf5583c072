import { Deferred } from './deferred.js';

/** Values pushed on one side, iterated on the other. One reader. `onReturn` runs when the reader leaves its loop. */
export class AsyncQueue<T> implements AsyncIterableIterator<T, undefined> {
  readonly #items: T[] = [];
  readonly #waiting: Deferred<IteratorResult<T, undefined>>[] = [];
  #end: { readonly error: unknown } | 'done' | undefined;
  readonly #onReturn: () => void;
  readonly #onTake: () => void;

  constructor(onReturn: () => void = () => undefined, onTake: () => void = () => undefined) {
    this.#onReturn = onReturn;
    this.#onTake = onTake;
  }

  /** How many values wait for the reader. */
  get size(): number {
    return this.#items.length;
  }

  push(item: T): void {
    if (this.#end !== undefined) return;
    const waiting = this.#waiting.shift();
    if (waiting === undefined) this.#items.push(item);
    else waiting.resolve({ done: false, value: item });
  }

  /** As `push`; when so many wait already, the newest of them gives way to it. */
  pushOver(item: T, most: number): void {
    if (this.#end === undefined && this.#items.length >= most) this.#items.pop();
    this.push(item);
  }

  /** The reader gets what is queued, then the end. */
  end(): void {
    this.#finish('done');
  }

  /** The reader gets what is queued, then this error. */
  fail(error: unknown): void {
    this.#finish({ error });
  }

  async next(): Promise<IteratorResult<T, undefined>> {
    if (this.#items.length > 0) {
      const value = this.#items.shift() as T;
      this.#onTake();
      return { done: false, value };
    }
    const end = this.#end;
    if (end === 'done') return { done: true, value: undefined };
    if (end !== undefined) {
      this.#end = 'done';
      throw end.error;
    }
    const waiting = new Deferred<IteratorResult<T, undefined>>();
    this.#waiting.push(waiting);
    return waiting.promise;
  }

  return(): Promise<IteratorResult<T, undefined>> {
    this.#items.length = 0;
    this.#finish('done');
    this.#onReturn();
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #finish(end: { readonly error: unknown } | 'done'): void {
    if (this.#end !== undefined) return;
    this.#end = end;
    const [first, ...rest] = this.#waiting.splice(0);
    if (first === undefined) return;
    if (end === 'done') first.resolve({ done: true, value: undefined });
    else {
      this.#end = 'done';
      first.reject(end.error);
    }
    for (const waiting of rest) waiting.resolve({ done: true, value: undefined });
  }
}
