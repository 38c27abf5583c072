/**
 * A key as text: every byte is one latin1 character, so that `<` on strings is etcd's order of bytes and a key can be
 * the key of a Map.
 */
export type KeyText = string;

/** Greater than every key: no latin1 character reaches it. */
const OPEN_END: KeyText = '\u0100';

/** `[begin, end)`. A single key is the range that ends right behind it. */
export interface KeyRange {
  readonly begin: KeyText;
  readonly end: KeyText;
  /** Whether the request named one key and no range end. */
  readonly single: boolean;
}

/** The text form of `key`. */
export function keyText(key: Buffer): KeyText {
  return key.toString('latin1');
}

/** The range of one key. */
export function singleKey(begin: KeyText): KeyRange {
  return { begin, end: `${begin}\0`, single: true };
}

/** The range a request names: no `rangeEnd` is one key, "\0" is everything from `key` on. It may be empty. */
export function keyRange(key: Buffer, rangeEnd: Buffer): KeyRange {
  const begin = keyText(key);
  if (rangeEnd.length === 0) return singleKey(begin);
  const open = rangeEnd.length === 1 && rangeEnd[0] === 0;
  return { begin, end: open ? OPEN_END : keyText(rangeEnd), single: false };
}

/** Whether no key can be in `range`. */
export function isEmptyRange(range: KeyRange): boolean {
  return range.end <= range.begin;
}

/** Whether `key` is in `range`. */
export function inRange(range: KeyRange, key: KeyText): boolean {
  return range.begin <= key && key < range.end;
}
