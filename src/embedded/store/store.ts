import type { KeyVersion } from './key-history.js';
import { type KeyRange, type KeyText, singleKey } from './key-range.js';
import { type Found, Keyspace } from './keyspace.js';
import type { LeaseKeys } from './lease-keys.js';
import { RevisionLog } from './revision-log.js';
import { etcdError } from '../rpc/rpc-error.js';
import { WriteBatch } from './write-batch.js';

/** What reads: the store, or a transaction that has begun to write. */
export interface Reader {
  /** The revision a read without a revision sees. */
  readonly revision: bigint;
}

/** Told of every new revision, in order, before the writer gets its answer. */
export type CommitListener = (revision: bigint, changes: readonly KeyVersion[]) => void;

/**
 * etcd's multi-version store: every write makes a new revision, the past stays readable until it is compacted.
 * Everything happens at once on one thread, so a transaction needs no lock and no roll-back.
 */
export class Store implements Reader {
  readonly #keyspace = new Keyspace();
  readonly #log = new RevisionLog();
  readonly #leases: LeaseKeys;
  readonly #listeners = new Set<CommitListener>();
  #revision = 1n;
  #compacted = -1n;

  constructor(leases: LeaseKeys) {
    this.#leases = leases;
  }

  /** The newest revision; 1 when nothing was ever written. */
  get revision(): bigint {
    return this.#revision;
  }

  /** The revision of the last compaction, still readable itself; -1 when there was none. */
  get compactedRevision(): bigint {
    return this.#compacted;
  }

  /** How many bytes all versions of all keys and values take. */
  get bytes(): number {
    return this.#keyspace.bytes;
  }

  /** Every version that is left, in no useful order. */
  versions(): Generator<KeyVersion> {
    return this.#keyspace.versions();
  }

  /** Calls `listener` at every commit. */
  onCommit(listener: CommitListener): void {
    this.#listeners.add(listener);
  }

  /**
   * Reads a range at `revision` (the reader's own when it is 0 or less). Takes at most `limit` keys and counts all.
   * Throws etcd's errors for a revision that is compacted or yet to come.
   */
  range(range: KeyRange, options: { reader?: Reader; revision?: bigint; limit?: number } = {}): Found {
    const current = (options.reader ?? this).revision;
    const { revision = 0n, limit = Infinity } = options;
    if (revision > current) throw etcdError('FUTURE_REVISION');
    if (revision > 0n && revision < this.#compacted) throw etcdError('COMPACTED');
    if (revision <= 0n || revision === current) return this.#keyspace.readLatest(range, limit);
    return this.#keyspace.readAt(range, revision, limit);
  }

  /** What `key` held right before `revision`; undefined when it did not exist or that is compacted. */
  before(key: KeyText, revision: bigint): KeyVersion | undefined {
    return revision - 1n < this.#compacted ? undefined : this.#keyspace.at(key, revision - 1n);
  }

  /** The writes of `revision`. */
  changesAt(revision: bigint): readonly KeyVersion[] {
    return this.#log.at(revision);
  }

  /** Runs `work`; what it writes becomes one new revision. Writing nothing makes none. */
  write<T>(work: (batch: WriteBatch) => T): T {
    const batch = new WriteBatch(this.#keyspace, this.#leases, this.#revision);
    const result = work(batch);
    if (batch.changes.length > 0) {
      this.#revision = batch.revision;
      this.#log.append(batch.changes);
      for (const listener of this.#listeners) listener(this.#revision, batch.changes);
    }
    return result;
  }

  /** Deletes these keys, in byte order, in one revision: what a lease leaves when it ends. */
  deleteKeys(keys: Iterable<KeyText>): void {
    const sorted = [...keys].sort((a, b) => (a < b ? -1 : 1));
    this.write((batch) => {
      for (const key of sorted) batch.delete(singleKey(key));
    });
  }

  /** Forgets what no read at `revision` or later can see. Throws etcd's errors for a revision out of reach. */
  compact(revision: bigint): void {
    if (revision <= this.#compacted) throw etcdError('COMPACTED');
    if (revision > this.#revision) throw etcdError('FUTURE_REVISION');
    this.#compacted = revision;
    this.#keyspace.compact(revision);
    this.#log.compact(revision);
  }
}
