import type { KeyVersion } from './key-history.js';

/** The first revision a write can make: an empty store is at revision 1. */
const FIRST_WRITE = 2n;

/**
 * The writes of every revision, in order, for watches that begin in the past. Every revision has an entry, so a revision
 * is an index.
 */
export class RevisionLog {
  #first = FIRST_WRITE;
  #entries: (readonly KeyVersion[])[] = [];

  /** Adds the writes of the next revision. */
  append(changes: readonly KeyVersion[]): void {
    this.#entries.push(changes);
  }

  /** The writes of `revision`; none when it is compacted or yet to come. */
  at(revision: bigint): readonly KeyVersion[] {
    if (revision < this.#first) return [];
    return this.#entries[Number(revision - this.#first)] ?? [];
  }

  /** Forgets the revisions before `revision`, which itself stays. */
  compact(revision: bigint): void {
    if (revision <= this.#first) return;
    const gone = Number(revision - this.#first);
    this.#entries = this.#entries.slice(gone);
    this.#first = revision;
  }
}
