import type { Client } from '../etcd/client.js';
import type { KeyValue } from '../etcd/key-value.js';
import { type Bytes, prefixEnd } from '../util/bytes.js';
import type { JobState, Layout, Place } from './layout.js';

/** An entry as it was read. */
export interface Entry {
  readonly kv: KeyValue;
  readonly place: Place;
}

/** An operation for each entry and one for each priority's tail; beside them and inside them is room for a few more of etcd's 128. */
const MOST_OPERATIONS = 116;
/** Of entries with their keys in one transaction, unless a single one has more. etcd takes 1.5 MiB. */
const MOST_BYTES = 512 * 1024;
/** How often a transaction that moves an entry names its key, or another one about as long. */
const KEYS_EACH = 5;

/** How many keys are read at once. */
const PAGE = 500;

/** From a key on, up to another. */
export interface Stretch {
  readonly start: Bytes;
  readonly end: Bytes;
}

export function stretchOf(prefix: string): Stretch {
  return { end: prefixEnd(Buffer.from(prefix)), start: prefix };
}

/** Reads keys page by page, each as it is then. What was passed is not walked over again, be it deleted meanwhile. */
export async function* pages(client: Client, stretch: Stretch): AsyncGenerator<readonly KeyValue[], void> {
  for (let rest: Stretch | undefined = stretch; rest !== undefined;) {
    const page: Page = await readPage(client, rest);
    yield page.kvs;
    rest = page.rest;
  }
}

export interface Page {
  readonly kvs: readonly KeyValue[];
  readonly revision: bigint;
  /** What comes after these keys, if anything. */
  readonly rest: Stretch | undefined;
}

/** Reads the first keys of a stretch, now or as they were at a revision. */
export async function readPage(client: Client, { start, end }: Stretch, revision?: bigint): Promise<Page> {
  const page = await client.kv.range({ end, start }, { limit: PAGE, revision });
  const last = page.kvs.at(-1);
  const rest = page.more && last !== undefined ? { end, start: after(last) } : undefined;
  return { kvs: page.kvs, rest, revision: page.revision };
}

/** The first key that may come after this one. */
export function after({ keyBytes }: KeyValue): Uint8Array {
  return Buffer.concat([keyBytes, Uint8Array.of(0)]);
}

/** The entries among these keys, in groups that fit into one transaction each. */
export function* batches(
  layout: Layout,
  state: JobState,
  kvs: readonly KeyValue[],
): Generator<readonly Entry[], void, undefined> {
  let batch: Entry[] = [];
  let bytes = 0;
  const priorities = new Set<number>();
  for (const kv of kvs) {
    const place = layout.parse(kv.key, state)?.place;
    if (place === undefined) continue;
    const size = kv.value.length + KEYS_EACH * kv.keyBytes.length;
    const operations = batch.length + 1 + new Set([...priorities, place.priority]).size;
    if (batch.length > 0 && (operations > MOST_OPERATIONS || bytes + size > MOST_BYTES)) {
      yield batch;
      batch = [];
      bytes = 0;
      priorities.clear();
    }
    batch.push({ kv, place });
    bytes += size;
    priorities.add(place.priority);
  }
  if (batch.length > 0) yield batch;
}
