/** The keys of a line, and which of those below a name are in it. */
import type { KeyRange } from '../etcd/kv/key-range.js';
import type { KeyValue } from '../etcd/kv/key-value.js';
import type { WatchEvent } from '../etcd/watch/watch-event.js';

/** What names a line. */
export interface LineName {
  readonly name: string;
  /** The key beside the line: `name.~something`. */
  readonly besideKey?: string | undefined;
}

/** What a key is told from others by: its bytes, one character each. As text, all that is not UTF-8 looks alike. */
export type KeyId = string;

/** The id of a key, given as it was read or as text of ours. */
export function idOf(key: KeyValue | string): KeyId {
  return (typeof key === 'string' ? Buffer.from(key) : key.keyBytes).toString('latin1');
}

/** The keys of a line, in order, exact as of a revision. */
export class LineKeys {
  readonly #name: string;
  readonly #besideId: KeyId | undefined;
  /** In order of create revision: a map keeps the order of insertion, and events come in the order of revisions. */
  readonly #keys = new Map<KeyId, KeyValue>();
  #beside: KeyValue | undefined;
  /** When the range was read. Events of before may come late, when the read was answered by a member that is further. */
  #loadedAt = 0n;
  #revision = 0n;

  constructor({ name, besideKey }: LineName) {
    this.#name = name;
    this.#besideId = besideKey === undefined ? undefined : idOf(besideKey);
  }

  /** First to last. */
  get inOrder(): Iterable<KeyValue> {
    return this.#keys.values();
  }

  /** The key beside the line; undefined while it does not exist. */
  get beside(): KeyValue | undefined {
    return this.#beside;
  }

  /** The revision as of which this is exact. */
  get revision(): bigint {
    return this.#revision;
  }

  /** What a key in line holds. */
  get(id: KeyId): KeyValue | undefined {
    return this.#keys.get(id);
  }

  /** The key that comes after another; undefined when that is the last one, or not in line. */
  after(id: KeyId): KeyValue | undefined {
    let found = false;
    for (const [each, kv] of this.#keys) {
      if (found) return kv;
      found = each === id;
    }
    return undefined;
  }

  /** Whether the key created at `createRevision` is in line. */
  has(id: KeyId, createRevision: bigint): boolean {
    return this.#keys.get(id)?.createRevision === createRevision;
  }

  /** Whether the key created at `createRevision` has been in line and is there no more. */
  isGone(id: KeyId, createRevision: bigint): boolean {
    return createRevision <= this.#revision && !this.has(id, createRevision);
  }

  /** Takes a whole range as it was at `revision`. */
  load(kvs: readonly KeyValue[], revision: bigint): void {
    this.#keys.clear();
    for (const kv of inOrder(kvs, this.#name)) this.#keys.set(idOf(kv), kv);
    this.#beside = kvs.find((kv) => idOf(kv) === this.#besideId);
    this.#loadedAt = revision;
    this.#revision = revision;
  }

  /** Takes the next change. Says which key it is of; undefined: the range was read after it. */
  apply({ type, kv }: WatchEvent): KeyId | undefined {
    if (kv.modRevision <= this.#loadedAt) return undefined;
    this.#revision = kv.modRevision;
    const id = idOf(kv);
    const known = this.#keys.get(id);
    if (type === 'put' && isTicket(kv, this.#name)) {
      if (known !== undefined && known.createRevision !== kv.createRevision) this.#keys.delete(id);
      this.#keys.set(id, kv);
    } else if (known !== undefined) {
      this.#keys.delete(id);
    } else if (id === this.#besideId) {
      this.#beside = type === 'put' ? kv : undefined;
    }
    return id;
  }

  clear(): void {
    this.#keys.clear();
  }
}

/** The range that holds a line and the key beside it. */
export function rangeOf({ name, besideKey }: LineName): KeyRange {
  return besideKey === undefined ? { prefix: `${name}/` } : { end: `${name}0`, start: besideKey };
}

/** Those of `kvs` that stand in the line of `name`, first to last. */
export function inOrder(kvs: readonly KeyValue[], name: string): KeyValue[] {
  const line = kvs.filter((kv) => isTicket(kv, name));
  return line.sort((a, b) => Number(a.createRevision - b.createRevision));
}

/** Whether a key stands in the line of `name`: what lies beside the line of a longer name does not. */
export function isTicket(kv: KeyValue, name: string): boolean {
  const { key } = kv;
  return (
    kv.leaseId !== undefined &&
    key[name.length] === '/' &&
    !key.includes('/', name.length + 1) &&
    !key.includes('.~', name.length + 1) &&
    key.startsWith(name)
  );
}
