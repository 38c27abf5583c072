import type { KeyText } from './key-range.js';

/**
 * What one write made of a key. It has the fields of mvccpb.KeyValue, so it is given to the encoder as it is, and is
 * never changed. A deletion keeps only the key and its revision, as etcd's tombstones do.
 */
export interface KeyVersion {
  readonly key: Buffer;
  readonly value: Buffer;
  readonly createRevision: bigint;
  readonly modRevision: bigint;
  readonly version: bigint;
  readonly lease: bigint;
  /** The place among the writes of one revision, from 0. */
  readonly sub: number;
  readonly text: KeyText;
  readonly deleted: boolean;
}

/** Every version of one key that compaction has left, oldest first. */
export class KeyHistory {
  readonly key: Buffer;
  readonly text: KeyText;
  #versions: KeyVersion[] = [];

  constructor(key: Buffer, text: KeyText) {
    this.key = key;
    this.text = text;
  }

  /** All versions, deletions included. */
  get versions(): readonly KeyVersion[] {
    return this.#versions;
  }

  /** What the key holds now; undefined while it is deleted. */
  get latest(): KeyVersion | undefined {
    const last = this.#versions.at(-1);
    return last === undefined || last.deleted ? undefined : last;
  }

  /** What the key held at `revision`; undefined when it did not exist. */
  at(revision: bigint): KeyVersion | undefined {
    const version = this.#versions[this.#lastAt(revision)];
    return version === undefined || version.deleted ? undefined : version;
  }

  add(version: KeyVersion): void {
    this.#versions.push(version);
  }

  /**
   * Forgets what no read at `revision` or later can see. A deletion at that very revision stays, for watches that begin
   * there (etcd #19474). Returns what was forgotten.
   */
  compact(revision: bigint): readonly KeyVersion[] {
    const last = this.#lastAt(revision);
    const version = this.#versions[last];
    if (version === undefined) return [];
    const gone = version.deleted && version.modRevision < revision ? last + 1 : last;
    return gone === 0 ? [] : this.#versions.splice(0, gone);
  }

  /** The place of the last version not newer than `revision`, or -1. */
  #lastAt(revision: bigint): number {
    let low = -1;
    let high = this.#versions.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      const version = this.#versions[middle];
      if (version !== undefined && version.modRevision <= revision) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}
