/** The keys of a cache, by their bytes, as they were at one revision. */
import type { WireRange } from '../kv/key-range.js';
import { KeyValue } from '../kv/key-value.js';
import type { WatchEvent } from '../watch/watch-event.js';

/** What a key takes beside the bytes of its name and value, roughly: its object, and its places in the map and the order. */
const KEY_BYTES = 450;

const NOTHING = Buffer.alloc(0);

/** A key as text whose order is that of its bytes, and which tells keys apart that are not UTF-8. */
type Id = string;

/** Where a range begins, and where it ends; undefined: with the last key. */
interface Bounds {
  readonly start: Id;
  readonly end: Id | undefined;
}

function idOf(key: Uint8Array): Id {
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString('latin1');
}

function boundsOf({ key, rangeEnd }: WireRange): Bounds {
  const start = idOf(key);
  if (rangeEnd === undefined) return { end: `${start}\0`, start };
  return { end: rangeEnd.length === 1 && rangeEnd[0] === 0 ? undefined : idOf(rangeEnd), start };
}

/** Roughly what so many keys take in memory, whose names and values have so many bytes. */
export function memoryOf(keys: number, bytes: number): number {
  return keys * KEY_BYTES + bytes;
}

/** Whether `inner` has no key that `outer` has not. */
export function isWithin(inner: WireRange, outer: WireRange): boolean {
  const [one, other] = [boundsOf(inner), boundsOf(outer)];
  const endsWithin = other.end === undefined || (one.end !== undefined && one.end <= other.end);
  return one.start >= other.start && endsWithin;
}

export class CachedKeys {
  #all = new Map<Id, KeyValue>();
  /** The keys in order; undefined when some have come or gone since it was made. */
  #order: Id[] | undefined;
  #bytes = 0;

  get size(): number {
    return this.#all.size;
  }

  /** Roughly what it takes in memory. */
  get memory(): number {
    return memoryOf(this.#all.size, this.#bytes);
  }

  get(key: Uint8Array): KeyValue | undefined {
    return this.#all.get(idOf(key));
  }

  /** The keys of a range, in order. */
  *within(range: WireRange): Generator<KeyValue, void, undefined> {
    const { end, start } = boundsOf(range);
    const order = (this.#order ??= [...this.#all.keys()].sort());
    for (let at = firstFrom(order, start); at < order.length; at++) {
      const id = order[at] ?? '';
      if (end !== undefined && id >= end) return;
      const kv = this.#all.get(id);
      if (kv !== undefined) yield kv;
    }
  }

  /** Takes a change over; returns it with what the key held before. */
  apply({ kv, type }: WatchEvent): WatchEvent {
    const id = idOf(kv.keyBytes);
    const prevKv = this.#all.get(id);
    if (prevKv !== undefined) this.#bytes -= bytesOf(prevKv);
    if (type === 'put') {
      this.#all.set(id, kv);
      this.#bytes += bytesOf(kv);
    } else this.#all.delete(id);
    if ((prevKv === undefined) === (type === 'put')) this.#order = undefined;
    return { kv, prevKv, type };
  }

  /** Takes over what was read anew at `revision`; returns what has changed by it, in the order of the keys. */
  replace(kvs: readonly KeyValue[], revision: bigint): readonly WatchEvent[] {
    const old = this.#all;
    this.clear();
    const events: { readonly id: Id; readonly event: WatchEvent }[] = [];
    for (const kv of kvs) {
      const event = this.apply({ kv, prevKv: undefined, type: 'put' });
      const id = idOf(kv.keyBytes);
      const prevKv = old.get(id);
      if (prevKv === undefined || !isSame(kv, prevKv)) events.push({ event: { ...event, prevKv }, id });
    }
    for (const [id, prevKv] of old) {
      if (!this.#all.has(id))
        events.push({ event: { kv: gone(prevKv, revision), prevKv, type: 'delete' }, id });
    }
    return events.sort((one, other) => (one.id < other.id ? -1 : 1)).map(({ event }) => event);
  }

  clear(): void {
    this.#all = new Map();
    this.#order = undefined;
    this.#bytes = 0;
  }
}

/** Where the first key is that does not come before `start`. */
function firstFrom(order: readonly Id[], start: Id): number {
  let [low, high] = [0, order.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((order[middle] ?? '') < start) low = middle + 1;
    else high = middle;
  }
  return low;
}

function bytesOf({ keyBytes, value }: KeyValue): number {
  return keyBytes.length + value.length;
}

/** Whether two states of a key are one: in another history, the same revision may have written something else. */
function isSame(one: KeyValue, other: KeyValue): boolean {
  return (
    one.modRevision === other.modRevision &&
    one.createRevision === other.createRevision &&
    one.version === other.version &&
    one.leaseId === other.leaseId &&
    one.value.equals(other.value)
  );
}

/** A key as the event of its deletion has it. */
function gone({ keyBytes }: KeyValue, modRevision: bigint): KeyValue {
  return new KeyValue({
    createRevision: 0n,
    key: keyBytes,
    lease: 0n,
    modRevision,
    value: NOTHING,
    version: 0n,
  });
}
