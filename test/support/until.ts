/** How long `until` waits, and what it says when it gives up. */
export interface UntilOptions {
  /** @default 10000 */
  readonly timeoutMs?: number;
  /** The fact in words, for the error. */
  readonly what?: string;
}

type Truthy<T> = Exclude<T, false | null | undefined | 0 | ''>;

/**
 * Resolves with the first answer of `fact` that is truthy, asking again every few milliseconds: a test waits for what
 * it needs, never for a time. Rejects when it has not come true in time, or when `fact` throws.
 */
export async function until<T>(fact: () => T | Promise<T>, options: UntilOptions = {}): Promise<Truthy<T>> {
  const { timeoutMs = 10_000, what = fact.toString() } = options;
  const deadline = performance.now() + timeoutMs;
  for (let asked = 0; ; asked++) {
    const answer = await fact();
    if (answer) return answer as Truthy<T>;
    if (performance.now() > deadline) throw new Error(`not true after ${timeoutMs} ms: ${what}`);
    // First at every turn of the event loop, then patiently.
    await new Promise<void>((resolve) => {
      if (asked < 20) setImmediate(resolve);
      else setTimeout(resolve, 5);
    });
  }
}
