import type { KeyRange } from '../etcd/key-range.js';
import type { KeyValue } from '../etcd/key-value.js';
import type { WatchEvent } from '../etcd/watch-event.js';

/** What names a line. */
export interface LineName {
  readonly name: string;
  /** The key beside the line: `name.~something`. */
  readonly besideKey?: string | undefined;
}

/** The keys of a line, in order, exact as of a revision. */
export class LineKeys {
  readonly #name: string;
  readonly #besideKey: string | undefined;
  /** In order of create revision: a map keeps the order of insertion, and events come in the order of revisions. */
  readonly #keys = new Map<string, KeyValue>();
  #beside: KeyValue | undefined;
  #revision = 0n;

  constructor({ name, besideKey }: LineName) {
    this.#name = name;
    this.#besideKey = besideKey;
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

  /** The first key in line. */
  get first(): string | undefined {
    for (const key of this.#keys.keys()) return key;
    return undefined;
  }

  /** What a key in line holds. */
  get(key: string): KeyValue | undefined {
    return this.#keys.get(key);
  }

  /** The key that comes after `key`; undefined when that is the last one. */
  after(key: string): string | undefined {
    let found = false;
    for (const each of this.#keys.keys()) {
      if (found) return each;
      found = each === key;
    }
    return undefined;
  }

  /** Whether the key created at `createRevision` has been in line and is there no more. */
  isGone(key: string, createRevision: bigint): boolean {
    return createRevision <= this.#revision && this.#keys.get(key)?.createRevision !== createRevision;
  }

  /** Takes a whole range as it was at `revision`. */
  load(kvs: readonly KeyValue[], revision: bigint): void {
    this.#keys.clear();
    for (const kv of inOrder(kvs, this.#name)) this.#keys.set(kv.key, kv);
    this.#beside = kvs.find((kv) => kv.key === this.#besideKey);
    this.#revision = revision;
  }

  /** Takes the next change. Says which key of the line it removed, if it did. */
  apply({ type, kv }: WatchEvent): string | undefined {
    this.#revision = kv.modRevision;
    const known = this.#keys.get(kv.key);
    if (type === 'put' && isTicket(kv, this.#name)) {
      if (known !== undefined && known.createRevision !== kv.createRevision) this.#keys.delete(kv.key);
      this.#keys.set(kv.key, kv);
    } else if (known !== undefined) {
      this.#keys.delete(kv.key);
      return kv.key;
    } else if (kv.key === this.#besideKey) {
      this.#beside = type === 'put' ? kv : undefined;
    }
    return undefined;
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
