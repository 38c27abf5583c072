import { isUint8Array } from 'node:util/types';

import { type Bytes, prefixEnd, toBytes, toText } from '../../util/bytes.js';
import { checkWellFormed } from '../../util/validate.js';

/**
 * What an operation is about: one key, all keys with a prefix, all keys from one on, or the keys from `start` (included)
 * to `end` (excluded). `{ prefix: '' }` is every key.
 */
export type KeyRange =
  | Bytes
  | { readonly prefix: Bytes }
  | { readonly from: Bytes }
  | { readonly start: Bytes; readonly end: Bytes };

/** A range as the wire has it: one key when `rangeEnd` is absent; "\0" as `rangeEnd` means to the end. */
export interface WireRange {
  readonly key: Uint8Array;
  readonly rangeEnd?: Uint8Array;
}

const ZERO = Uint8Array.of(0);

/** The bytes of a single key; refuses an empty one, and text that is not well-formed. */
export function encodeKey(key: Bytes): Uint8Array {
  const bytes = encodeBytes(key, 'a key');
  if (bytes.length === 0) throw new TypeError('a key must not be empty');
  return bytes;
}

/** The bytes of what may be empty; refuses text that is not well-formed. */
export function encodeBytes(value: Bytes, what: string): Uint8Array {
  if (typeof value !== 'string' && !isUint8Array(value)) {
    throw new TypeError(`${what} must be a string or bytes, not ${String(value)}`);
  }
  if (typeof value === 'string') checkWellFormed(value, what);
  return toBytes(value);
}

/** The bytes of a value. */
export function encodeValue(value: Bytes): Uint8Array {
  if (typeof value !== 'string' && !isUint8Array(value)) {
    throw new TypeError(
      `a value must be a string or bytes, not ${typeof value}; use JSON.stringify for objects`,
    );
  }
  return toBytes(value);
}

/** Turns a range into etcd's pair of key and end, by the rules of etcd's own clients. */
export function encodeRange(range: KeyRange): WireRange {
  if (typeof range === 'string' || isUint8Array(range)) return { key: encodeKey(range) };
  const given: unknown = range;
  if (typeof given !== 'object' || given === null) {
    throw new TypeError(`a range must be a key, { prefix }, { from } or { start, end }, not ${typeof given}`);
  }
  if ('prefix' in range) {
    const prefix = encodeBytes(range.prefix, 'a prefix');
    return prefix.length === 0 ? { key: ZERO, rangeEnd: ZERO } : { key: prefix, rangeEnd: prefixEnd(prefix) };
  }
  if ('from' in range) {
    const from = encodeBytes(range.from, 'from');
    return { key: from.length === 0 ? ZERO : from, rangeEnd: ZERO };
  }
  if (!('start' in range) || !('end' in range)) {
    throw new TypeError('a range must be a key, { prefix }, { from } or { start, end }');
  }
  const start = encodeKey(range.start);
  const end = encodeKey(range.end);
  if (Buffer.compare(start, end) >= 0) throw new RangeError('a range must start before its end');
  return { key: start, rangeEnd: end };
}

/** The key of a range of one, or the text that its keys begin or start with: what errors have as `key`. */
export function keyOf(range: KeyRange): string {
  const text = (bytes: Bytes): string => (typeof bytes === 'string' ? bytes : toText(bytes));
  if (typeof range === 'string' || isUint8Array(range)) return text(range);
  if ('prefix' in range) return text(range.prefix);
  return text('from' in range ? range.from : range.start);
}

/** The name of a range for error messages. */
export function named(range: KeyRange): string {
  if (typeof range === 'string') return JSON.stringify(range);
  if (isUint8Array(range)) return JSON.stringify(toText(range));
  const text = (bytes: Bytes): string => JSON.stringify(typeof bytes === 'string' ? bytes : toText(bytes));
  if ('prefix' in range) return `prefix ${text(range.prefix)}`;
  if ('from' in range) return `keys from ${text(range.from)}`;
  return `keys ${text(range.start)} to ${text(range.end)}`;
}
