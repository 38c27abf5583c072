/** A promise with its two ends outside. */
export class Deferred<T> {
  readonly promise: Promise<T>;
  readonly resolve: (value: T | PromiseLike<T>) => void;
  readonly reject: (reason: unknown) => void;

  constructor() {
    let resolve: ((value: T | PromiseLike<T>) => void) | undefined;
    let reject: ((reason: unknown) => void) | undefined;
    this.promise = new Promise<T>((onValue, onReason) => {
      resolve = onValue;
      reject = onReason;
    });
    // A rejection that nobody is waiting for yet is not a fault of the process.
    this.promise.catch(() => undefined);
    this.resolve = resolve as unknown as (value: T | PromiseLike<T>) => void;
    this.reject = reject as unknown as (reason: unknown) => void;
  }
}
