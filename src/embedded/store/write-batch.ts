import type { KeyVersion } from './key-history.js';
import type { KeyRange } from './key-range.js';
import type { Keyspace } from './keyspace.js';
import type { LeaseKeys } from './lease-keys.js';

const NOTHING = Buffer.alloc(0);

/**
 * The writes of one revision while they are made. Each shows at once to later reads of the same transaction; there is no
 * way back, so whatever can fail is checked before the first write.
 */
export class WriteBatch {
  readonly #keyspace: Keyspace;
  readonly #leases: LeaseKeys;
  readonly #before: bigint;
  readonly changes: KeyVersion[] = [];

  constructor(keyspace: Keyspace, leases: LeaseKeys, before: bigint) {
    this.#keyspace = keyspace;
    this.#leases = leases;
    this.#before = before;
  }

  /** The store's revision as this transaction sees it: one more as soon as it has written. */
  get revision(): bigint {
    return this.changes.length === 0 ? this.#before : this.#before + 1n;
  }

  /** Writes a key. The lease must exist. */
  put(key: Buffer, value: Buffer, lease: bigint): void {
    const history = this.#keyspace.history(key);
    const previous = history.latest;
    const modRevision = this.#before + 1n;
    this.#keyspace.add(
      history,
      this.#made({
        key: history.key,
        // Copied, since a request's bytes may be part of a large buffer that would be kept alive.
        value: value.length === 0 ? NOTHING : Buffer.from(value),
        createRevision: previous?.createRevision ?? modRevision,
        modRevision,
        version: (previous?.version ?? 0n) + 1n,
        lease,
        sub: this.changes.length,
        text: history.text,
        deleted: false,
      }),
    );
    const before = previous?.lease ?? 0n;
    if (before === lease) return;
    if (before !== 0n) this.#leases.detach(before, history.text);
    if (lease !== 0n) this.#leases.attach(lease, history.text);
  }

  /** Deletes the keys of a range and returns what they held. */
  delete(range: KeyRange): readonly KeyVersion[] {
    const { kvs } = this.#keyspace.readLatest(range, Infinity);
    for (const previous of kvs) {
      const history = this.#keyspace.history(previous.key);
      this.#keyspace.add(
        history,
        this.#made({
          key: history.key,
          value: NOTHING,
          createRevision: 0n,
          modRevision: this.#before + 1n,
          version: 0n,
          lease: 0n,
          sub: this.changes.length,
          text: history.text,
          deleted: true,
        }),
      );
      if (previous.lease !== 0n) this.#leases.detach(previous.lease, history.text);
    }
    return kvs;
  }

  #made(version: KeyVersion): KeyVersion {
    this.changes.push(version);
    return version;
  }
}
