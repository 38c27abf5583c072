/**
 * How waiting jobs are numbered.
 *
 * Every transaction that appends jobs to a priority puts that priority's sequence key, whatever its version is by then, so
 * nobody is held up because somebody else was faster. The key's version counts these transactions: etcd itself adds them
 * up. Who has seen version v, and appends, numbers its jobs `base + v * STRIDE` and on. Whatever had been appended when
 * v was seen has smaller numbers, since each of those transactions raised the version. What others append meanwhile may
 * have equal or greater ones: so a number can come to be below what a worker has read already. The key's value
 * therefore says which numbers its transaction wrote.
 *
 * `base` is how many numbers the layout before this one gave out, which counted them in a tail key for each priority.
 */
import type { KeyValue } from '../../etcd/kv/key-value.js';

/**
 * How many numbers there are for each transaction: more than it can append jobs. So jobs that are pushed one by one
 * have numbers this far apart, and those of a batch follow each other. A power of two.
 */
export const STRIDE = 128;

/** The first number for who has seen this version; and one more than the greatest of all that were given out before. */
export function firstNumber(base: number, version: number): number {
  return base + version * STRIDE;
}

/** The numbers that one transaction wrote: first and last. */
export interface Appended {
  readonly first: number;
  readonly last: number;
}

/** What a sequence key holds; undefined: the transaction appended nothing that waits. */
export function encodeAppended(appended: Appended | undefined): string {
  return appended === undefined ? '[]' : JSON.stringify([appended.first, appended.last]);
}

/** Reads a sequence key's value. Undefined when nothing was appended, or somebody else wrote it. */
export function decodeAppended(kv: KeyValue): Appended | undefined {
  try {
    const [first, last] = kv.json<readonly unknown[]>();
    return typeof first === 'number' && typeof last === 'number' ? { first, last } : undefined;
  } catch {
    return undefined;
  }
}

/** How many numbers a tail key of the earlier layout says were given out. */
export function decodeTail(kv: KeyValue | undefined): number {
  const count = Number(kv?.string() ?? 0);
  return Number.isSafeInteger(count) && count > 0 ? count : 0;
}
