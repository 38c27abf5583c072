import type { KeyValue as WireKeyValue } from '../proto/messages.gen.js';
import { toText } from '../util/bytes.js';

/** A key as etcd holds it. Revisions and versions are bigint. */
export class KeyValue {
  /** The key's exact bytes. */
  readonly keyBytes: Buffer;
  /** The value's exact bytes; empty for an empty value and for reads with `keysOnly`. */
  readonly value: Buffer;
  /** The revision at which the key was created; 0n only in a deletion's event. */
  readonly createRevision: bigint;
  /** The revision of the last change. In a deletion's event: the revision of the deletion. */
  readonly modRevision: bigint;
  /** How often the key has been written since it was created; 1n for a new key. */
  readonly version: bigint;
  /** The lease the key is bound to. */
  readonly leaseId: bigint | undefined;
  #text: string | undefined;

  constructor(wire: WireKeyValue) {
    this.keyBytes = wire.key;
    this.value = wire.value;
    this.createRevision = wire.createRevision;
    this.modRevision = wire.modRevision;
    this.version = wire.version;
    this.leaseId = wire.lease === 0n ? undefined : wire.lease;
  }

  /** The key as UTF-8 text. A key that is not UTF-8 is exact only in `keyBytes`. */
  get key(): string {
    this.#text ??= toText(this.keyBytes);
    return this.#text;
  }

  /** The value as UTF-8 text. */
  string(): string {
    return toText(this.value);
  }

  /** The value parsed as JSON. Throws SyntaxError when it is not JSON. */
  json(): unknown {
    return JSON.parse(this.string());
  }
}
