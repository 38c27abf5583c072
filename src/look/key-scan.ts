/**
 * Walking over many keys without their values, all as they were at one revision, and past what is not to be looked at: a
 * queue's 100,000 jobs cost one page.
 */
import type { Client } from '../etcd/client.js';
import { encodeRange, type KeyRange } from '../etcd/kv/key-range.js';
import type { KeyValue } from '../etcd/kv/key-value.js';
import { type Bytes, prefixEnd } from '../util/bytes.js';

/** How many keys are read at once: at first, and between these bounds by how many of a page were passed over. */
const PAGE = { first: 250, least: 64, most: 1000 } as const;

/** How a scan is made. */
export interface KeyScanOptions {
  readonly signal?: AbortSignal | undefined;
  /** As the keys were then. @default now, which the result tells */
  readonly revision?: bigint | undefined;
}

/**
 * Calls `take` with each key of the range, in the order of their bytes. What begins with the prefix that it gives back
 * is not looked at any more. Resolves with the revision at which all of it was so. Rejects with `COMPACTED` when that is
 * compacted meanwhile.
 */
export async function scanKeys(
  client: Client,
  range: KeyRange,
  take: (kv: KeyValue) => Bytes | undefined,
  options: KeyScanOptions = {},
): Promise<bigint> {
  const wire = encodeRange(range);
  const end = wire.rangeEnd ?? after(wire.key);
  let start = wire.key;
  let { revision } = options;
  let limit: number = PAGE.first;
  for (;;) {
    const rest = isOpen(end) ? { from: start } : { end, start };
    const page = await client.kv.range(rest, { keysOnly: true, limit, revision, signal: options.signal });
    revision ??= page.revision;
    let passed = 0;
    let from = start;
    for (const kv of page.kvs) {
      if (Buffer.compare(kv.keyBytes, from) < 0) {
        passed += 1;
        continue;
      }
      const prefix = take(kv);
      from = prefix === undefined ? after(kv.keyBytes) : prefixEnd(Buffer.from(prefix));
    }
    if (!page.more || !isBefore(from, end)) return revision;
    start = from;
    if (passed * 2 > limit) limit = Math.max(PAGE.least, limit >> 1);
    else if (passed * 4 < limit) limit = Math.min(PAGE.most, limit * 2);
  }
}

/** To etcd the end "\0" is that of all keys. */
function isOpen(end: Uint8Array): boolean {
  return end.length === 1 && end[0] === 0;
}

function isBefore(key: Uint8Array, end: Uint8Array): boolean {
  return isOpen(end) ? !isOpen(key) : !isOpen(key) && Buffer.compare(key, end) < 0;
}

function after(key: Uint8Array): Uint8Array {
  return Buffer.concat([key, Uint8Array.of(0)]);
}
