/**
 * Records of commits: the one proof, when the answer to a commit is lost, of whether it was applied.
 *
 * Keys: `conclave/stm/<id>`, a few for each client, bound to a short lease of its own; the value names the latest commit
 * that used it. A commit compares its record's mod revision and writes the record along, so it cannot be applied twice,
 * however often it arrives; it is sent once. When nobody knows what came of it, the record is overwritten under the same compare: either
 * that succeeds, and the commit can never be applied any more; or it fails, and the record tells whether the commit was.
 *
 * Records are used again by later commits. 200 ms after a client's last commit, and when the client is closed, its lease is
 * revoked, which removes them. If that cannot be done, because the process dies, etcd does not answer or a commit is still
 * under way, they end with the lease, 30 s later at most.
 */

import { ConclaveError, hasCode } from '../errors/conclave-error.js';
import { isTransient } from '../errors/transient.js';
import type { Client } from '../etcd/client.js';
import { compare } from '../etcd/kv/compare.js';
import type { LeaseTerm } from '../etcd/lease/lease.js';
import { op } from '../etcd/kv/op.js';
import { onAbort, sleep } from '../util/abort.js';
import { backoffMs } from '../util/backoff.js';
import type { Timer } from '../util/clock.js';
import { chance } from '../util/chance.js';

/** A record's key as one commit uses it. */
export interface Slot {
  readonly key: string;
  readonly leaseId: bigint;
  /** The key's mod revision as far as we know. Never that of a missing key: that one returns when the lease has ended. */
  modRevision: bigint;
  /** Until then, by the client's clock, the lease cannot have ended, so the record is still there. */
  readonly goodUntil: number;
}

/** What came of a commit. */
export type Fate =
  { readonly is: 'applied'; readonly revision: bigint } | { readonly is: 'void' | 'unknown' };

const TTL_SECONDS = 30;
/** A lease is used for so long; the rest is there to find out about commits that were sent last. */
const USE_MS = 10_000;
const MARGIN_MS = 2000;
const LINGER_MS = 200;
/** How long it is tried to find out what came of a commit. */
const SETTLE_MS = 15_000;

interface Book {
  readonly term: LeaseTerm;
  readonly free: Slot[];
  inUse: number;
}

export class Records {
  readonly #client: Client;
  readonly #prefix: string;
  #book: Promise<Book> | undefined;
  readonly #books = new Map<bigint, Book>();
  #linger: Timer | undefined;

  constructor(client: Client, prefix: string) {
    this.#client = client;
    this.#prefix = prefix;
    client.beforeClose(() => this.#revokeUnused());
    onAbort(client.closed, () => this.#linger?.cancel());
  }

  /** A slot for one transaction, to be given back. */
  async take(): Promise<Slot> {
    try {
      return await this.#take();
    } catch (error) {
      if (!hasCode(error, 'LEASE_NOT_FOUND')) throw error;
      return await this.#take(); // Somebody has revoked the lease; this one is on another.
    }
  }

  async #take(): Promise<Slot> {
    this.#linger?.cancel();
    const book = await this.#current();
    book.inUse += 1;
    const slot = book.free.pop();
    if (slot !== undefined) return slot;
    try {
      return await this.#make(book);
    } catch (error) {
      book.inUse -= 1;
      if (hasCode(error, 'LEASE_NOT_FOUND')) this.#forget(book.term.id);
      throw error;
    }
  }

  /** Gives a slot back; `usable` says that its mod revision is known for certain. */
  giveBack(slot: Slot, usable: boolean): void {
    const book = this.#books.get(slot.leaseId);
    if (book === undefined) return;
    book.inUse -= 1;
    if (usable) book.free.push(slot);
    this.#linger?.cancel();
    if (this.#client.closed.aborted) return;
    if (book.inUse === 0 && !this.#isFresh(book)) void this.#drop(slot.leaseId);
    this.#linger = this.#client.clock.setTimer(LINGER_MS, () => void this.#revokeUnused());
  }

  /** The lease is gone from the server: a new one is to be used. */
  forget(slot: Slot): void {
    this.#forget(slot.leaseId);
  }

  /** Finds out what came of a commit that wrote `value` into the slot. Safe to repeat. */
  async settle(slot: Slot, value: string, signal: AbortSignal | undefined): Promise<Fate> {
    const { clock, kv } = this.#client;
    const voided = `void ${value}`;
    const spec = {
      else: [op.get(slot.key)],
      if: [compare.modRevision(slot.key, '=', slot.modRevision)],
      then: [op.put(slot.key, voided, { leaseId: slot.leaseId })],
    };
    const giveUpAt = Math.min(clock.now() + SETTLE_MS, slot.goodUntil);
    for (let attempt = 0; clock.now() < giveUpAt; attempt++) {
      try {
        const result = await kv.txn(spec, { idempotent: true, signal });
        // Had the lease ended meanwhile, a missing record would prove nothing.
        if (clock.now() >= slot.goodUntil) break;
        const found = result.responses[0]?.type === 'get' ? result.responses[0].kvs[0] : undefined;
        slot.modRevision = found?.modRevision ?? result.revision;
        if (result.succeeded || found?.string() === voided) return { is: 'void' };
        return found?.string() === value ? { is: 'applied', revision: found.modRevision } : { is: 'unknown' };
      } catch (error) {
        if (hasCode(error, 'LEASE_NOT_FOUND')) break;
        if (!isTransient(error)) throw error;
        await sleep(clock, backoffMs(attempt, { baseMs: 50 }), signal);
      }
    }
    return { is: 'unknown' };
  }

  /** A record is there before the first commit that compares it: else a late copy of that could find it missing again. */
  async #make({ term }: Book): Promise<Slot> {
    const key = `${this.#prefix}${chance.id()}`;
    const goodUntil = term.sentAt + term.ttlSeconds * 1000 - MARGIN_MS;
    try {
      const { revision } = await this.#client.kv.put(key, '', { leaseId: term.id });
      return { goodUntil, key, leaseId: term.id, modRevision: revision };
    } catch (error) {
      if (!hasCode(error, 'UNKNOWN_OUTCOME')) throw error;
      throw noRecord(error); // Was it made, it ends with its lease.
    }
  }

  #forget(leaseId: bigint): void {
    this.#books.delete(leaseId);
    this.#book = undefined;
  }

  async #current(): Promise<Book> {
    const before = this.#book;
    const known = await before?.catch(() => undefined);
    if (known !== undefined && this.#books.has(known.term.id) && this.#isFresh(known)) return known;
    // Whoever comes first opens the new one for all.
    if (this.#book === before || this.#book === undefined) this.#book = this.#open();
    return this.#book;
  }

  #isFresh({ term }: Book): boolean {
    return this.#client.clock.now() < term.sentAt + USE_MS;
  }

  async #open(): Promise<Book> {
    try {
      const term = await this.#client.lease.grant(TTL_SECONDS);
      const book: Book = { free: [], inUse: 0, term };
      this.#books.set(term.id, book);
      return book;
    } catch (error) {
      this.#book = undefined;
      if (!hasCode(error, 'UNKNOWN_OUTCOME')) throw error;
      throw noRecord(error); // Was it granted, it runs out by itself.
    }
  }

  async #revokeUnused(): Promise<void> {
    const unused = [...this.#books].filter(([, { inUse }]) => inUse === 0);
    await Promise.all(unused.map(([leaseId]) => this.#drop(leaseId)));
  }

  async #drop(leaseId: bigint): Promise<void> {
    this.#books.delete(leaseId);
    // If that fails, the lease runs out by itself.
    await this.#client.lease.revoke(leaseId).catch(() => undefined);
  }
}

function noRecord(cause: ConclaveError): ConclaveError {
  const text = 'stm: no record could be had for the commit, so nothing was written; try again';
  return new ConclaveError('UNAVAILABLE', text, { cause });
}

const all = new WeakMap<Client, Map<string, Records>>();

/** The records of a client below a prefix. */
export function recordsOf(client: Client, prefix: string): Records {
  const byPrefix = all.get(client) ?? new Map<string, Records>();
  all.set(client, byPrefix);
  const records = byPrefix.get(prefix) ?? new Records(client, prefix);
  byPrefix.set(prefix, records);
  return records;
}
