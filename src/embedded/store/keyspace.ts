import { KeyHistory, type KeyVersion } from './key-history.js';
import { type KeyRange, type KeyText, keyText } from './key-range.js';
import { SortedKeys } from './sorted-keys.js';

/** What a read finds: the first keys, and how many there are in all. */
export interface Found {
  readonly kvs: KeyVersion[];
  readonly count: number;
}

/**
 * All keys with their histories. Keys that exist now have an order of their own beside the order of all keys, so that
 * reading the present does not step over what was deleted and not yet compacted.
 */
export class Keyspace {
  readonly #histories = new Map<KeyText, KeyHistory>();
  readonly #all = new SortedKeys();
  readonly #live = new SortedKeys();
  #bytes = 0;

  /** How many bytes all versions of all keys and values take. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Every version that is left, in no useful order. */
  *versions(): Generator<KeyVersion> {
    for (const history of this.#histories.values()) yield* history.versions;
  }

  /** What `key` holds now. */
  latest(key: KeyText): KeyVersion | undefined {
    return this.#histories.get(key)?.latest;
  }

  /** What `key` held at `revision`. */
  at(key: KeyText, revision: bigint): KeyVersion | undefined {
    return this.#histories.get(key)?.at(revision);
  }

  /** Reads the present. At most `limit` keys are taken; all are counted. */
  readLatest(range: KeyRange, limit: number): Found {
    if (range.single) return found(this.latest(range.begin), limit);
    const kvs: KeyVersion[] = [];
    if (limit > 0) {
      for (const key of this.#live.range(range.begin, range.end)) {
        const version = this.latest(key);
        if (version !== undefined) kvs.push(version);
        if (kvs.length >= limit) break;
      }
    }
    const all = kvs.length < limit;
    return { kvs, count: all ? kvs.length : this.#live.count(range.begin, range.end) };
  }

  /** Reads the past, as `readLatest` reads the present. */
  readAt(range: KeyRange, revision: bigint, limit: number): Found {
    if (range.single) return found(this.at(range.begin, revision), limit);
    const kvs: KeyVersion[] = [];
    let count = 0;
    for (const key of this.#all.range(range.begin, range.end)) {
      const version = this.at(key, revision);
      if (version === undefined) continue;
      count++;
      if (kvs.length < limit) kvs.push(version);
    }
    return { kvs, count };
  }

  /** The history of `key`, made when there is none. The bytes are copied: a request's may be part of a large buffer. */
  history(key: Buffer): KeyHistory {
    const text = keyText(key);
    const known = this.#histories.get(text);
    if (known !== undefined) return known;
    const history = new KeyHistory(Buffer.from(key), text);
    this.#histories.set(text, history);
    this.#all.add(text);
    return history;
  }

  /** Adds what a write made of a key. */
  add(history: KeyHistory, version: KeyVersion): void {
    if (version.deleted) this.#live.delete(history.text);
    else if (history.latest === undefined) this.#live.add(history.text);
    history.add(version);
    this.#bytes += version.key.length + version.value.length;
  }

  /** Forgets what no read at `revision` or later can see. */
  compact(revision: bigint): void {
    for (const history of this.#histories.values()) {
      for (const version of history.compact(revision))
        this.#bytes -= version.key.length + version.value.length;
      if (history.versions.length > 0) continue;
      this.#histories.delete(history.text);
      this.#all.delete(history.text);
    }
  }
}

function found(version: KeyVersion | undefined, limit: number): Found {
  if (version === undefined) return { kvs: [], count: 0 };
  return { kvs: limit > 0 ? [version] : [], count: 1 };
}
