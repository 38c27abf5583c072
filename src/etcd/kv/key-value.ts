/** A key as etcd holds it. */
import type { KeyValue as WireKeyValue } from '../../proto/messages.gen.js';
import type { InspectOptions } from 'node:util';
import { toText } from '../../util/bytes.js';
import { asJson, asText, INSPECT } from '../../util/shown.js';
import { checkOptions } from '../../util/validate.js';
import { checkSchema, parseBy, type Schema } from './standard-schema.js';

/** A reply of more than this is not kept in memory by what is smaller than half of it. */
const KEPT_BYTES = 16 * 1024;

/**
 * A key as etcd holds it. Revisions and versions are bigint. Its bytes are of the reply they came with, if that is small or
 * they make out most of it; else they are copied, so that a small value that is kept does not keep a large reply.
 */
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
    this.keyBytes = own(wire.key);
    this.value = own(wire.value);
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

  /** Key and value as text; revisions, version and lease as decimal strings. */
  toJSON(): Record<string, unknown> {
    return asJson(this.#shown);
  }

  /** @internal Shows key and value as text. */
  [INSPECT](_depth: number, options: InspectOptions): string {
    return asText('KeyValue', this.#shown, options);
  }

  get #shown(): Readonly<Record<string, unknown>> {
    const { createRevision, key, leaseId, modRevision, version } = this;
    return { key, value: this.string(), createRevision, modRevision, version, leaseId };
  }

  /**
   * The value parsed as JSON. Throws SyntaxError when it is not JSON. With a `schema` (a Standard Schema: zod, valibot,
   * arktype or the like) it is what the schema makes of it, and `INVALID_VALUE` is thrown when it is not as the schema says.
   * `json<T>()` takes the caller's word that it is a `T`: nothing is checked.
   */
  json<T = unknown>(options: { readonly schema?: Schema<T> | undefined } = {}): T {
    checkOptions(options, ['schema'], 'json');
    if (options.schema !== undefined) checkSchema(options.schema);
    const parsed: unknown = JSON.parse(this.string());
    return options.schema === undefined ? (parsed as T) : parseBy(options.schema, parsed, this.key);
  }
}

/** The bytes themselves, or a copy where they would keep much more than themselves in memory. */
function own(bytes: Buffer): Buffer {
  const kept = bytes.buffer.byteLength;
  return kept <= KEPT_BYTES || bytes.length * 2 >= kept ? bytes : Buffer.from(bytes);
}
