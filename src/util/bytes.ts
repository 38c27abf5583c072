/** A key or value as callers give it: text is sent as UTF-8. */
export type Bytes = string | Uint8Array;

/** The bytes of `value`. A string is encoded as UTF-8; bytes are taken as they are, not copied. */
export function toBytes(value: Bytes): Uint8Array {
  return typeof value === 'string' ? Buffer.from(value) : value;
}

/** A key as text, for messages and lookups: UTF-8, with what is not UTF-8 replaced. */
export function toText(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8');
}

/**
 * The end of the range of all keys that begin with `prefix`: the last byte that is not 0xff plus one, the rest cut.
 * A prefix of nothing but 0xff bytes (or of nothing) has no such end: "\0" then means "to the end of the key space".
 */
export function prefixEnd(prefix: Uint8Array): Uint8Array {
  for (let at = prefix.length - 1; at >= 0; at--) {
    const byte = prefix[at] ?? 0xff;
    if (byte === 0xff) continue;
    const end = Uint8Array.from(prefix.subarray(0, at + 1)); // A Buffer's own `slice` would share its memory.
    end[at] = byte + 1;
    return end;
  }
  return Uint8Array.of(0);
}
