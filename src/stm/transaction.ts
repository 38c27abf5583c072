/** What the caller's function works with: reads that fit together, writes kept back until the commit. */
import { ConclaveError, hasCode } from '../errors/conclave-error.js';
import type { Client } from '../etcd/client.js';
import { encodeKey, encodeRange, encodeValue, type KeyRange } from '../etcd/kv/key-range.js';
import { KeyValue } from '../etcd/kv/key-value.js';
import { op } from '../etcd/kv/op.js';
import type { Bytes } from '../util/bytes.js';
import { checkInt64, checkOptions } from '../util/validate.js';
import { id, inRange, type StmTransaction, type Write } from './types.js';

/** A key that was read, and what was found. */
export interface Read {
  readonly key: Uint8Array;
  readonly kv: KeyValue | undefined;
}

/** How a transaction reads. */
export interface Reading {
  /** All reads at the revision of the first. */
  readonly pinned: boolean;
  readonly maxOps: number;
  readonly signal: AbortSignal | undefined;
}

/** The revision that all reads are of: not chosen yet, being chosen by the read that is on its way, or chosen for good. */
type Pin =
  | { readonly is: 'open' }
  | { readonly is: 'asked'; readonly settled: Promise<unknown> }
  | { readonly is: 'set'; readonly revision: bigint };

/** One attempt. */
export class Transaction implements StmTransaction {
  readonly reads = new Map<string, Read>();
  readonly ranges: KeyRange[] = [];
  readonly writes = new Map<string, Write>();
  /** What a lost attempt has found, as of the pinned revision. */
  readonly #found = new Map<string, Read>();
  readonly #client: Client;
  readonly #reading: Reading;
  #pin: Pin = { is: 'open' };
  #over = false;
  #unreadable: ConclaveError | undefined;

  constructor(client: Client, reading: Reading) {
    this.#client = client;
    this.#reading = reading;
  }

  /** The revision of all reads; undefined when nothing was read, or when reads are not pinned. */
  get pin(): bigint | undefined {
    return this.#pin.is === 'set' ? this.#pin.revision : undefined;
  }

  /** Set when the revision of our reads cannot be read any more: the attempt is void, whatever the function made of it. */
  get unreadable(): ConclaveError | undefined {
    return this.#unreadable;
  }

  /** Nothing can be done with the transaction from now on. */
  end(): void {
    this.#over = true;
  }

  /** Takes what a lost attempt has found, as of `revision`: reads of it cost no request. */
  prefill(reads: readonly Read[], revision: bigint): void {
    if (reads.length === 0) return;
    for (const read of reads) this.#found.set(id(read.key), read);
    if (this.#reading.pinned) this.#pin = { is: 'set', revision };
  }

  get(key: Bytes): Promise<KeyValue | undefined>;
  get(keys: readonly Bytes[]): Promise<(KeyValue | undefined)[]>;
  async get(keys: Bytes | readonly Bytes[]): Promise<KeyValue | undefined | (KeyValue | undefined)[]> {
    this.#check();
    const wanted = isMany(keys) ? keys.map(keyOf) : [keyOf(keys)];
    await this.#fetch(wanted.filter((key) => !this.writes.has(id(key))));
    const found = wanted.map((key) => this.#see(key));
    return isMany(keys) ? found : found[0];
  }

  async range(given: KeyRange): Promise<KeyValue[]> {
    this.#check();
    encodeRange(given);
    const range = structuredClone(given); // As `keyOf` does.
    const wire = encodeRange(range);
    const kvs = await this.#read(async (revision) => {
      const result = await this.#client.kv.range(range, { revision, signal: this.#reading.signal });
      return { revision: result.revision, value: result.kvs };
    });
    this.ranges.push(range);
    const seen = new Map<string, KeyValue>();
    for (const kv of kvs) this.#remember(kv.keyBytes, kv);
    for (const [name, { key, kv }] of this.reads)
      if (kv !== undefined && inRange(key, wire)) seen.set(name, kv);
    for (const [name, write] of this.writes) {
      if (!inRange(write.key, wire)) continue;
      if (write.type === 'put') seen.set(name, written(write));
      else seen.delete(name);
    }
    return [...seen.values()].sort((a, b) => Buffer.compare(a.keyBytes, b.keyBytes));
  }

  async rev(key: Bytes): Promise<bigint> {
    this.#check();
    const bytes = keyOf(key);
    await this.#fetch([bytes]);
    return this.reads.get(id(bytes))?.kv?.modRevision ?? 0n;
  }

  put(key: Bytes, value: Bytes, options: { readonly leaseId?: bigint | undefined } = {}): void {
    this.#check();
    checkOptions(options, ['leaseId'], 'tx.put');
    const { leaseId } = options;
    if (leaseId !== undefined) checkInt64(leaseId, 'leaseId');
    const bytes = keyOf(key);
    this.writes.set(id(bytes), {
      key: bytes,
      leaseId,
      type: 'put',
      value: Uint8Array.from(encodeValue(value)),
    });
  }

  delete(key: Bytes): void {
    this.#check();
    const bytes = keyOf(key);
    this.writes.set(id(bytes), { key: bytes, type: 'delete' });
  }

  #check(): void {
    if (!this.#over) return;
    throw new ConclaveError('CLOSED', 'this stm attempt is over: its tx cannot be used after its function');
  }

  #see(key: Uint8Array): KeyValue | undefined {
    const write = this.writes.get(id(key));
    if (write === undefined) return this.reads.get(id(key))?.kv;
    return write.type === 'put' ? written(write) : undefined;
  }

  /** The first answer about a key stays, so that reads are repeatable where they are not pinned. */
  #remember(key: Uint8Array, kv: KeyValue | undefined): void {
    if (!this.reads.has(id(key))) this.reads.set(id(key), { key, kv });
  }

  async #fetch(keys: readonly Uint8Array[]): Promise<void> {
    const missing = new Map(keys.map((key) => [id(key), key]));
    for (const [name, key] of missing) {
      const found = this.#found.get(name);
      if (found !== undefined) this.#remember(key, found.kv);
      if (this.reads.has(name)) missing.delete(name);
    }
    const all = [...missing.values()];
    for (let at = 0; at < all.length; at += this.#reading.maxOps) {
      const chunk = all.slice(at, at + this.#reading.maxOps);
      const kvs = await this.#read(async (revision) => this.#getAll(chunk, revision));
      for (const [index, key] of chunk.entries()) this.#remember(key, kvs[index]);
    }
  }

  async #getAll(
    keys: readonly Uint8Array[],
    revision: bigint | undefined,
  ): Promise<{ revision: bigint; value: readonly (KeyValue | undefined)[] }> {
    const { signal } = this.#reading;
    const gets = keys.map((key) => op.get(key, { revision }));
    const result = await this.#client.kv.txn({ then: gets }, { signal });
    const value = result.responses.map(({ kvs }) => kvs[0]);
    return { revision: result.revision, value };
  }

  /** One read: as of the pin, if reads are pinned. */
  async #read<T>(ask: Ask<T>): Promise<T> {
    try {
      return this.#reading.pinned ? await this.#readAtPin(ask) : (await ask(undefined)).value;
    } catch (error) {
      if (hasCode(error, 'COMPACTED', 'FUTURE_REVISION')) this.#unreadable = error;
      throw error;
    }
  }

  /** The first read sets the pin; those that are asked meanwhile wait for it. Should it fail, the next one sets it. */
  async #readAtPin<T>(ask: Ask<T>): Promise<T> {
    while (this.#pin.is === 'asked') await this.#pin.settled;
    if (this.#pin.is === 'set') return (await ask(this.#pin.revision)).value;
    // The pin is set in the same breath in which `first` settles: nobody who waits for that can find it open.
    const first = ask(undefined).then(
      ({ revision, value }) => {
        this.#pin = { is: 'set', revision };
        return value;
      },
      (error: unknown) => {
        this.#pin = { is: 'open' };
        throw error;
      },
    );
    this.#pin = { is: 'asked', settled: first.catch(() => undefined) };
    return first;
  }
}

/** Asks etcd, as of a revision or as it is now, and tells the revision of the answer. */
type Ask<T> = (revision: bigint | undefined) => Promise<{ readonly revision: bigint; readonly value: T }>;

/** The key's bytes, as they are now: the caller may go on to change his. */
function keyOf(key: Bytes): Uint8Array {
  return Uint8Array.from(encodeKey(key));
}

function isMany(keys: Bytes | readonly Bytes[]): keys is readonly Bytes[] {
  return Array.isArray(keys);
}

/** A key as the transaction sees its own write: not committed, so without revisions. */
function written(write: Write & { readonly type: 'put' }): KeyValue {
  return new KeyValue({
    createRevision: 0n,
    key: Buffer.from(write.key),
    lease: write.leaseId ?? 0n,
    modRevision: 0n,
    value: Buffer.from(write.value),
    version: 0n,
  });
}
