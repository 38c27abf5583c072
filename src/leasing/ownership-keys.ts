/**
 * The ownership key of each key: `<prefix><key>`, on the lease of its owner's session.
 *
 *     value            the mark of the Leasing that made it: whose it is, also on a lease that several share
 *     create revision  which ownership it is: it never comes again
 *     version          1: nobody wants it; greater: somebody has asked for it, by writing the same value anew
 */
import type { KeyValue } from '../etcd/kv/key-value.js';
import { encodeBytes, encodeKey } from '../etcd/kv/key-range.js';
import type { Bytes } from '../util/bytes.js';

/** The bytes of a key, one character each: by which keys are told apart here. */
export type KeyId = string;

export class OwnershipKeys {
  readonly prefix: Buffer;

  /** Throws TypeError for a prefix that is empty, or neither text nor bytes. */
  constructor(prefix: Bytes) {
    this.prefix = Buffer.from(encodeBytes(prefix, 'prefix'));
    if (this.prefix.length === 0) throw new TypeError('the prefix of ownership keys must not be empty');
  }

  /** Throws TypeError for what is no key, and RangeError for one below the prefix. */
  idOf(key: Bytes): KeyId {
    const bytes = Buffer.from(encodeKey(key));
    if (bytes.subarray(0, this.prefix.length).equals(this.prefix))
      throw new RangeError(`${JSON.stringify(bytes.toString())} is an ownership key, which is not leased`);
    return bytes.toString('latin1');
  }

  /** The ownership key of a key. */
  of(id: KeyId): Buffer {
    return Buffer.concat([this.prefix, keyBytes(id)]);
  }

  /** Of which key it is. */
  idFrom({ keyBytes }: KeyValue): KeyId {
    return keyBytes.toString('latin1', this.prefix.length);
  }
}

/** The key itself. */
export function keyBytes(id: KeyId): Buffer {
  return Buffer.from(id, 'latin1');
}

/** Whether somebody wants it. */
export function isAskedFor({ version }: KeyValue): boolean {
  return version > 1n;
}
