/**
 * Reads a whole range at one revision, in pages whose size follows that of the values, so that no answer is larger than a
 * slow link carries in time. A page that is not answered is asked for again, half as long.
 */
import { hasCode } from '../../errors/conclave-error.js';
import { isTransient } from '../../errors/transient.js';
import { sleep } from '../../util/abort.js';
import { backoffMs } from '../../util/backoff.js';
import type { Clock } from '../../util/clock.js';
import type { KeyRange } from '../kv/key-range.js';
import type { KeyValue } from '../kv/key-value.js';
import type { Kv } from '../kv/kv.js';

/** All keys of a range, and the revision at which they were so. */
export interface Snapshot {
  readonly kvs: readonly KeyValue[];
  readonly revision: bigint;
}

/** A range as the wire has it. */
interface WireRange {
  readonly key: Uint8Array;
  readonly rangeEnd?: Uint8Array | null | undefined;
}

/** What a snapshot is read with. */
export interface SnapshotReader {
  readonly kv: Pick<Kv, 'range'>;
  readonly clock: Clock;
  /** Ends the reading, which rejects with its reason. */
  readonly signal: AbortSignal;
  /** Told after each page how many keys were read, and how many bytes they have. What it throws ends the reading. */
  readonly admit?: ((keys: number, bytes: number) => void) | undefined;
}

/** How many keys the first page has; etcd takes values of up to 1.5 MiB by default. */
const FIRST_KEYS = 16;
/** What a page should not be larger than, going by the page before. */
const PAGE_BYTES = 512 * 1024;
const MOST_KEYS = 2000;

/** Some keys of a range, in order. */
export interface Page {
  readonly kvs: readonly KeyValue[];
  /** The store's revision when it answered. */
  readonly revision: bigint;
}

/** Reads the range, for as long as it takes: rejects only with what does not pass by itself, or with the signal's reason. */
export async function readSnapshot(reader: SnapshotReader, range: WireRange): Promise<Snapshot> {
  for (;;) {
    try {
      return await readOnce(reader, range);
    } catch (error) {
      // Its revision was compacted between two pages, or history went back: what is there now is as good.
      if (!hasCode(error, 'COMPACTED', 'FUTURE_REVISION')) throw error;
    }
  }
}

async function readOnce(reader: SnapshotReader, range: WireRange): Promise<Snapshot> {
  const kvs: KeyValue[] = [];
  let bytes = 0;
  let at: bigint | undefined;
  for await (const page of readPages(reader, range)) {
    at ??= page.revision;
    for (const kv of page.kvs) kvs.push(kv);
    bytes += bytesOf(page.kvs);
    reader.admit?.(kvs.length, bytes);
  }
  return { kvs, revision: at ?? 0n };
}

/**
 * Reads the range page by page, each for as long as it takes: at `revision`, or that of the first page; `now`: each page as
 * it is when it is read. Throws what does not pass by itself, `COMPACTED` and `FUTURE_REVISION` among it, and the signal's
 * reason.
 */
export async function* readPages(
  reader: Omit<SnapshotReader, 'admit'>,
  whole: WireRange,
  revision?: bigint | 'now',
): AsyncGenerator<Page, void, undefined> {
  let at = revision === 'now' ? undefined : revision;
  let start = whole.key;
  let limit = FIRST_KEYS;
  for (let failures = 0; ;) {
    let page;
    try {
      page = await reader.kv.range(rest(start, whole), { limit, revision: at, signal: reader.signal });
    } catch (error) {
      if (!isTransient(error)) throw error;
      limit = Math.max(1, Math.floor(limit / 2));
      await sleep(reader.clock, backoffMs(failures++), reader.signal);
      continue;
    }
    if (revision !== 'now') at ??= page.revision;
    yield page;
    const last = page.kvs.at(-1);
    if (!page.more || last === undefined) return;
    start = Buffer.concat([last.keyBytes, Uint8Array.of(0)]);
    limit = Math.min(limit * 4, keysOf(PAGE_BYTES, page.kvs.length, bytesOf(page.kvs)));
    failures = 0;
  }
}

/** What is left of a range from `start` on. */
function rest(start: Uint8Array, { rangeEnd }: WireRange): KeyRange {
  if (rangeEnd == null) return start;
  return rangeEnd.length === 1 && rangeEnd[0] === 0 ? { from: start } : { end: rangeEnd, start };
}

function bytesOf(kvs: readonly KeyValue[]): number {
  return kvs.reduce((sum, kv) => sum + kv.keyBytes.length + kv.value.length, 0);
}

/** How many keys make so many bytes, if `keys` of them have `bytes`. */
function keysOf(most: number, keys: number, bytes: number): number {
  const fit = Math.floor((most * keys) / Math.max(1, bytes));
  return Math.max(1, Math.min(MOST_KEYS, fit));
}
