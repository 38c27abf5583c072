import type { KeyRange, WireRange } from '../etcd/kv/key-range.js';
import type { KeyValue } from '../etcd/kv/key-value.js';
import type { Bytes } from '../util/bytes.js';

/**
 * How much a transaction is kept apart from others, from most to least.
 * - `serializableSnapshot`: all reads are of one revision, and nothing that was read, and nothing that is written, has
 *   changed since, when it commits.
 * - `serializable`: as above, but what is only written may have changed.
 * - `repeatableReads`: each key is read as it is when it is first read, and has not changed since; other keys may be of
 *   another revision, and a range may have got new keys.
 * - `readCommitted`: only what was committed is read; nothing is compared at the commit.
 */
export type Isolation = 'serializableSnapshot' | 'serializable' | 'repeatableReads' | 'readCommitted';

/** A transaction under way. All methods throw `CLOSED` once its function has ended. */
export interface StmTransaction {
  /** What the key holds, our own writes included; undefined if nothing. Own writes have revisions of 0n. */
  get(key: Bytes): Promise<KeyValue | undefined>;
  /** Several keys in one request: one answer each, in order. */
  get(keys: readonly Bytes[]): Promise<(KeyValue | undefined)[]>;
  /** All keys of a range in key order, our own writes included. In the serializable levels no key may come into it. */
  range(range: KeyRange): Promise<KeyValue[]>;
  /** The revision of the last committed change of the key, our own writes left out; 0n: it does not exist. */
  rev(key: Bytes): Promise<bigint>;
  /** Writes the key when the transaction commits. The last write of a key counts. */
  put(key: Bytes, value: Bytes, options?: { readonly leaseId?: bigint | undefined }): void;
  /** Deletes the key when the transaction commits. */
  delete(key: Bytes): void;
}

/** A write kept back until the commit. */
export type Write =
  | {
      readonly type: 'put';
      readonly key: Uint8Array;
      readonly value: Uint8Array;
      readonly leaseId: bigint | undefined;
    }
  | { readonly type: 'delete'; readonly key: Uint8Array };

/** A key's bytes as something a map can hold. */
export function id(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString('latin1');
}

/** Whether the key lies in the range, by etcd's rules. */
export function inRange(key: Uint8Array, { key: start, rangeEnd }: WireRange): boolean {
  if (rangeEnd === undefined) return Buffer.compare(key, start) === 0;
  if (Buffer.compare(key, start) < 0) return false;
  return (rangeEnd.length === 1 && rangeEnd[0] === 0) || Buffer.compare(key, rangeEnd) < 0;
}
