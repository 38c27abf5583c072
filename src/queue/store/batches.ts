/** Reading a queue's keys page by page, and cutting them into groups that fit into a transaction each. */
import { hasCode } from '../../errors/conclave-error.js';
import type { Client } from '../../etcd/client.js';
import type { KeyValue } from '../../etcd/kv/key-value.js';
import { type Bytes, prefixEnd } from '../../util/bytes.js';
import type { JobState, QueueKeys, Place } from './keys.js';

/** An entry as it was read. */
export interface Entry {
  readonly kv: KeyValue;
  readonly place: Place;
}

/** An operation for each entry and one for each priority's sequence key; beside them and inside them is room for a few more of etcd's 128. */
const MOST_OPERATIONS = 116;
/** Of entries with their keys in one transaction, unless a single one has more. etcd takes 1.5 MiB. */
const MOST_BYTES = 512 * 1024;
/** How often a transaction that moves an entry names its key, or another one about as long. */
const KEYS_EACH = 5;

/** How many keys are read at once: first, and at most. */
const FIRST_PAGE = 100;
export const LONGEST_PAGE = 500;
/** What a page should have at most, judged by the one before. */
const PAGE_BYTES = 512 * 1024;

/** From a key on, up to another. */
export interface Stretch {
  readonly start: Bytes;
  readonly end: Bytes;
  /** How many keys to read at once. */
  readonly limit?: number;
}

export function stretchOf(prefix: string): Stretch {
  return { end: prefixEnd(Buffer.from(prefix)), start: prefix };
}

/** How pages are read. */
export interface PageOptions {
  readonly keysOnly?: boolean | undefined;
  /** As the keys were then. @default now */
  readonly revision?: bigint | undefined;
}

/** Reads keys page by page, each as it is then. What was passed is not walked over again, be it deleted meanwhile. */
export async function* pages(
  client: Client,
  stretch: Stretch,
  options: PageOptions = {},
): AsyncGenerator<readonly KeyValue[], void> {
  for (let rest: Stretch | undefined = stretch; rest !== undefined;) {
    const page: Page = await readPage(client, rest, options);
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

/** Reads the first keys of a stretch: fewer when those before were large, or do not come within a call's time limit. */
export async function readPage(client: Client, stretch: Stretch, options: PageOptions = {}): Promise<Page> {
  const { end, limit = FIRST_PAGE, start } = stretch;
  try {
    const { kvs, more, revision } = await client.kv.range({ end, start }, { ...options, limit });
    const last = kvs.at(-1);
    if (!more || last === undefined) return { kvs, rest: undefined, revision };
    const bytes = kvs.reduce((sum, kv) => sum + kv.keyBytes.length + kv.value.length, 0);
    const fitting = Math.floor((PAGE_BYTES * kvs.length) / bytes);
    const next = Math.max(1, Math.min(fitting, 2 * limit, LONGEST_PAGE));
    return { kvs, rest: { end, limit: next, start: after(last) }, revision };
  } catch (error) {
    if (limit === 1 || !hasCode(error, 'DEADLINE_EXCEEDED')) throw error;
    return readPage(client, { ...stretch, limit: Math.ceil(limit / 2) }, options);
  }
}

/** The first key that may come after this one. */
export function after({ keyBytes }: KeyValue): Uint8Array {
  return Buffer.concat([keyBytes, Uint8Array.of(0)]);
}

/** The entries among these keys, in groups that fit into one transaction each. */
export function* batches(
  layout: QueueKeys,
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
