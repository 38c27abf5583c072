/** The keys of source and target side by side, in order, page by page on either side. */
import { prefixEnd } from '../../util/bytes.js';
import type { Clock } from '../../util/clock.js';
import type { WireRange } from '../kv/key-range.js';
import type { KeyValue } from '../kv/key-value.js';
import type { Kv } from '../kv/kv.js';
import { readPages } from '../watch/snapshot.js';

/** One side: where its keys are, and which of them. */
export interface Side {
  readonly kv: Pick<Kv, 'range'>;
  readonly prefix: Uint8Array;
  /** `now`: each page as it is when it is read. */
  readonly revision: bigint | 'now';
}

/** A key, without the prefixes, as either side has it. */
export interface Pair {
  readonly suffix: Buffer;
  readonly source: KeyValue | undefined;
  readonly target: KeyValue | undefined;
}

/** What they are read with. */
export interface Reading {
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** Only keys that come after this one, without the prefix. */
  readonly after?: Uint8Array | undefined;
}

/** Every key that either side has. Throws as `readPages` does. */
export async function* bothSides(
  source: Side,
  target: Side,
  reading: Reading,
): AsyncGenerator<Pair, void, undefined> {
  const [left, right] = [keysOf(source, reading), keysOf(target, reading)];
  let one = (await left.next()).value ?? undefined;
  let other = (await right.next()).value ?? undefined;
  while (one !== undefined || other !== undefined) {
    const order = compared(one?.suffix, other?.suffix);
    const { suffix } = (order <= 0 ? one : other) ?? { suffix: Buffer.alloc(0) };
    yield { source: order <= 0 ? one?.kv : undefined, suffix, target: order >= 0 ? other?.kv : undefined };
    if (order <= 0) one = (await left.next()).value ?? undefined;
    if (order >= 0) other = (await right.next()).value ?? undefined;
  }
}

/** All keys with a prefix, or those after one of them. */
export function rangeOf(prefix: Uint8Array, after?: Uint8Array): WireRange {
  const first = prefix.length === 0 ? Uint8Array.of(0) : prefix;
  const key = after === undefined ? first : Buffer.concat([prefix, after, Uint8Array.of(0)]);
  return { key, rangeEnd: prefixEnd(prefix) };
}

interface Keyed {
  readonly suffix: Buffer;
  readonly kv: KeyValue;
}

async function* keysOf(
  { kv, prefix, revision }: Side,
  { after, clock, signal }: Reading,
): AsyncGenerator<Keyed, void, undefined> {
  for await (const { kvs } of readPages({ clock, kv, signal }, rangeOf(prefix, after), revision))
    for (const each of kvs) yield { kv: each, suffix: each.keyBytes.subarray(prefix.length) };
}

/** What is not there comes after all that is. */
function compared(one: Buffer | undefined, other: Buffer | undefined): number {
  if (one === undefined) return 1;
  return other === undefined ? -1 : Buffer.compare(one, other);
}
