/**
 * Keys that are read from memory, without a request, for as long as nobody else wants to write them: as `clientv3/leasing`.
 *
 * Layout: `<prefix><key>` says who owns a key, see `ownership-keys.ts`.
 *
 * Invariant: an answer from memory is what etcd has at that moment, as far as all writers write through a Leasing of the same
 * prefix. A write of somebody else compares that the ownership key is missing. Ours is there for as long as our lease is,
 * which `session.alive` proves by the clock, unless we have given it back, and we forget the value before we ask for that. Our
 * own writes compare our ownership key, and while one is under way nothing is answered from memory, since others may see
 * already what it wrote. One of unknown outcome gives the ownership up, after which what comes late of it is refused.
 *
 * Not guaranteed: anything about writes that do not go through a Leasing: a plain put, a deletion of a range, a key that goes
 * with its lease (keys on a lease are therefore not owned). They are not seen for as long as the key is owned. Nor what an
 * operator does: an ownership key that is deleted by hand, a lease that is revoked, an etcd that is restored from a backup.
 */
import type { InspectOptions } from 'node:util';

import { ConclaveError } from '../errors/conclave-error.js';
import type { Compare } from '../etcd/kv/compare.js';
import type { KeyValue } from '../etcd/kv/key-value.js';
import type { DeleteResult, PutResult, TxnResult } from '../etcd/kv/kv-results.js';
import {
  type DeleteOptions,
  op,
  type Op,
  type PutOptions,
  type TxnResultOf,
  type TxnSpec,
} from '../etcd/kv/op.js';
import type { CallOptions } from '../etcd/transport/call.js';
import type { WatchBatch } from '../etcd/watch/watch.js';
import { Session } from '../session/session.js';
import { ANY_SESSION, type AnySession, Sessions } from '../session/sessions.js';
import { limitWait, orAborted, waitAtMost, type WaitOptions } from '../util/abort.js';
import type { Bytes } from '../util/bytes.js';
import { chance } from '../util/chance.js';
import { asJson, asText, INSPECT } from '../util/shown.js';
import { checkCount, checkInstance, checkLimits, checkMs, checkOptions } from '../util/validate.js';
import { Departures } from './departures.js';
import { GuardedWrite, writtenKeys } from './guarded-write.js';
import { addMark, removeMark } from './marks.js';
import type { OwnedKey } from './owned-key.js';
import { OwnedKeys } from './owned-keys.js';
import { type KeyId, OwnershipKeys } from './ownership-keys.js';
import { OwnerWatch } from './owner-watch.js';

/** Options of a `Leasing`. */
export interface LeasingOptions {
  /** What the ownership keys begin with. All who write the same keys must use the same one. */
  readonly prefix: Bytes;
  /** So many keys are owned at most; the one not read for longest is given back for another. @default 10_000 */
  readonly maxKeys?: number | undefined;
  /** How long a key that somebody else owns, or has asked for, is read from etcd before it may be owned. @default 2000 */
  readonly pauseMs?: number | undefined;
}

const OPTIONS = ['prefix', 'maxKeys', 'pauseMs'] as const;
const CALL_OPTIONS = ['signal', 'timeoutMs'] as const;

/** How long closing waits until its keys are given back. */
const CLOSE_MS = 5000;

/**
 * Reads from memory what nobody else wants to write. Begins at once, and ends with `close()` or the client; a `Conclave`
 * closes it. While its session is lost, and no other has followed, all is read from etcd.
 *
 * @example
 * await using leasing = conclave.leasing({ prefix: 'leasing/' });
 * await leasing.get('cfg/a'); // from etcd, and the key is owned from then on
 * await leasing.get('cfg/a'); // from memory
 * await leasing.put('cfg/a', 'x'); // whoever owns it gives it back first
 */
export class Leasing implements AsyncDisposable {
  readonly #source: AnySession;
  readonly #keys: OwnershipKeys;
  readonly #owned: OwnedKeys;
  readonly #departures = new Departures();
  readonly #watch: OwnerWatch;
  readonly #mark = chance.id(16);
  readonly #marked = new WeakSet<Session>();
  readonly #closing = new AbortController();
  readonly #over = new AbortController();
  #stopFarewell: () => void = () => undefined;
  #done: Promise<void> | undefined;

  constructor(source: AnySession, options: LeasingOptions) {
    checkInstance(source, ANY_SESSION, "a leasing's session");
    checkOptions(options, OPTIONS, 'a leasing');
    const { maxKeys = 10_000, pauseMs = 2000, prefix } = options;
    const { client } = source;
    client.closed.throwIfAborted();
    this.#source = source;
    this.#keys = new OwnershipKeys(prefix);
    this.#owned = new OwnedKeys({
      client,
      keys: this.#keys,
      mark: this.#mark,
      maxKeys: checkCount(maxKeys, 'maxKeys', 1),
      over: this.#over.signal,
      pauseMs: checkMs(pauseMs, 'pauseMs'),
    });
    const lost = (): void => {
      this.#owned.giveBackAll();
      this.#departures.wake();
    };
    const told = (batch: WatchBatch): void => this.#told(batch);
    this.#watch = new OwnerWatch(client, this.#keys.prefix, { lost, told }, this.#over.signal);
    if (source instanceof Sessions)
      this.#stopFarewell = source.beforeClose({ end: () => this.close(), isInside: () => false });
  }

  /** How many keys it owns. */
  get size(): number {
    return this.#owned.size;
  }

  /** Whether a `get` of the key at this moment would be answered from memory. */
  owns(key: Bytes): boolean {
    return this.#owned.get(this.#keys.idOf(key))?.isCurrent === true;
  }

  /**
   * The key, as new as `kv.get` has it: from memory if it is owned, else from etcd, and then it is owned if nobody else has
   * or wants it and it is on no lease. Rejects as `kv.get`, and with `CLOSED`. What keeps it from being owned does not fail
   * the read.
   */
  async get(key: Bytes, options: CallOptions = {}): Promise<KeyValue | undefined> {
    this.#closing.signal.throwIfAborted();
    const id = this.#keys.idOf(key);
    checkOptions(options, CALL_OPTIONS, 'get');
    const owned = this.#owned.get(id);
    if (owned?.isCurrent === true) {
      this.#owned.touch(owned);
      return owned.kv;
    }
    const session = this.#session;
    const { client } = session;
    if (!this.#watch.isFollowing || !session.alive || !this.#owned.mayAcquire(id))
      return await client.kv.get(key, options);
    const from = client.clock.now();
    this.#addMark(session);
    try {
      return await this.#owned.acquire(id, session, options);
    } catch (error) {
      options.signal?.throwIfAborted();
      const { timeoutMs } = options;
      const leftMs = timeoutMs === undefined ? undefined : timeoutMs - (client.clock.now() - from);
      if (leftMs !== undefined && leftMs <= 0) throw asRead(error);
      return await client.kv.get(key, { ...options, timeoutMs: leftMs });
    }
  }

  /**
   * Writes the key, once whoever owns it has given it back, or that lease is over. Rejects with `TIMEOUT` or the signal's
   * reason while it waits for that, and then nothing is written; with `UNKNOWN_OUTCOME` when the answer is lost, and as `kv.put`.
   */
  async put(key: Bytes, value: Bytes, options: PutOptions & WaitOptions = {}): Promise<PutResult> {
    const { signal, timeoutMs, ...its } = options;
    const { responses, revision } = await this.txn(
      { then: [op.put(key, value, its)] },
      { signal, timeoutMs },
    );
    return { previous: responses[0].previous, revision };
  }

  /** Deletes the key. Waits and rejects as `put`. */
  async delete(key: Bytes, options: DeleteOptions & WaitOptions = {}): Promise<DeleteResult> {
    const { signal, timeoutMs, ...its } = options;
    const { responses, revision } = await this.txn({ then: [op.delete(key, its)] }, { signal, timeoutMs });
    const [{ deleted, previous }] = responses;
    return { deleted, previous, revision };
  }

  /**
   * Runs a transaction, once all keys that it may write are owned by nobody else. It is made to etcd, with all that it reads
   * and compares. It writes at most 60 keys, and deletes single ones: a range throws TypeError. Waits and rejects as `put`.
   */
  async txn<
    const Then extends readonly Op[] = readonly [],
    const Else extends readonly Op[] = readonly [],
    const If extends readonly Compare[] | undefined = undefined,
  >(spec: TxnSpec<Then, Else, If>, options: WaitOptions = {}): Promise<TxnResultOf<Then, Else, If>> {
    this.#closing.signal.throwIfAborted();
    checkOptions(options, CALL_OPTIONS, 'txn');
    checkLimits(options);
    const ids = writtenKeys(spec, this.#keys);
    if (ids.length === 0) return await this.#source.client.kv.txn(spec, options);
    return (await this.#write(spec, ids, options)) as TxnResultOf<Then, Else, If>;
  }

  /**
   * Gives back all keys. Resolves once that is confirmed, after 5 s at the latest: what is left then goes with the lease.
   * Closing twice gives the first call's promise.
   */
  close(): Promise<void> {
    this.#done ??= this.#close();
    return this.#done;
  }

  /** As `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Its prefix, and how many keys it owns. */
  toJSON(): Record<string, unknown> {
    return asJson(this.#shown);
  }

  /** @internal */
  [INSPECT](_depth: number, options: InspectOptions): string {
    return asText('Leasing', this.#shown, options);
  }

  get #shown(): Readonly<Record<string, unknown>> {
    return { prefix: this.#keys.prefix.toString(), size: this.size };
  }

  get #session(): Session {
    return this.#source instanceof Session ? this.#source : this.#source.session;
  }

  async #write(spec: TxnSpec, ids: readonly KeyId[], options: WaitOptions): Promise<TxnResult> {
    const { client } = this.#source;
    const what = `write ${ids.map((id) => JSON.stringify(Buffer.from(id, 'latin1').toString())).join(', ')}`;
    using limit = limitWait(client.clock, options, what, [this.#closing.signal]);
    const { signal } = limit;
    const until = client.clock.now() + (options.timeoutMs ?? Infinity);
    for (;;) {
      signal.throwIfAborted();
      await this.#watch.following(signal);
      for (let busy; (busy = this.#owned.acquisitions(ids)) !== undefined;) await orAborted(busy, signal);
      using departure = this.#departures.of(ids);
      const limits = { signal: options.signal, untilMs: until };
      const sent = await this.#send(spec, ids, limits);
      if (sent.is === 'done') return sent.result;
      for (const id of sent.others) await departure.gone(id, sent.revision, signal);
    }
  }

  /** Sends it once, guarded by what we own now. */
  async #send(
    spec: TxnSpec,
    ids: readonly KeyId[],
    { signal, untilMs }: { readonly signal: AbortSignal | undefined; readonly untilMs: number },
  ): Promise<
    | { readonly is: 'done'; readonly result: TxnResult }
    | { readonly is: 'refused'; readonly others: readonly KeyId[]; readonly revision: bigint }
  > {
    const { client } = this.#source;
    const owned = ids.map((id) => this.#owned.get(id)).filter((each) => each !== undefined);
    const write = new GuardedWrite(spec, ids, { keys: this.#keys, owned });
    const ends = [this.#owned.writing(ids), ...owned.map((each) => each.writing())];
    const leftMs = untilMs - client.clock.now();
    const timeoutMs = leftMs === Infinity ? undefined : Math.max(1, leftMs);
    try {
      const result = await client.kv.txn(write.spec, { signal, timeoutMs });
      const outcome = write.outcome(result);
      const { revision } = result;
      if (outcome.is === 'refused') return { ...this.#refused(ids, owned, outcome.there), revision };
      for (const [at, each] of owned.entries()) {
        const kv = outcome.owned[at]?.kvs[0];
        // What is on a lease goes without a write.
        if (kv?.leaseId === undefined) each.wrote({ kv, revision });
        else this.#owned.giveBack(each);
      }
      return { is: 'done', result: { ...outcome.outcome, revision } };
    } catch (error) {
      // It may be done yet, unless our ownership is over.
      for (const each of owned) this.#owned.giveBack(each);
      throw error;
    } finally {
      for (const end of ends) end();
    }
  }

  #refused(ids: readonly KeyId[], owned: readonly OwnedKey[], there: ReadonlyMap<KeyId, bigint>) {
    const ours = new Map(owned.map((each) => [each.id, each]));
    for (const each of owned) if (there.get(each.id) !== each.createRevision) this.#owned.forget(each);
    const others = ids.filter((id) => there.has(id) && there.get(id) !== ours.get(id)?.createRevision);
    for (const id of others) this.#owned.pause(id);
    return { is: 'refused', others } as const;
  }

  #told({ events, snapshot }: WatchBatch): void {
    for (const event of events) {
      this.#owned.told(event, this.#session);
      if (event.type === 'delete') this.#departures.tell(this.#keys.idFrom(event.kv), event.kv.modRevision);
    }
    for (const kv of snapshot ?? []) this.#owned.told({ kv, type: 'put' }, this.#session);
  }

  #addMark(session: Session): void {
    if (this.#marked.has(session)) return;
    this.#marked.add(session);
    addMark(session, this.#mark);
  }

  async #close(): Promise<void> {
    this.#closing.abort(
      new ConclaveError('CLOSED', `leasing ${JSON.stringify(this.#keys.prefix.toString())} was closed`),
    );
    this.#stopFarewell();
    await waitAtMost(this.#source.client.clock, CLOSE_MS, this.#owned.close());
    removeMark(this.#session, this.#mark);
    this.#over.abort(this.#closing.signal.reason);
  }
}

/** A read whose acquisition has failed has written nothing that anybody would miss. */
function asRead(error: unknown): unknown {
  if (!(error instanceof ConclaveError) || error.code !== 'UNKNOWN_OUTCOME') return error;
  return new ConclaveError('DEADLINE_EXCEEDED', error.message, { cause: error, key: error.key });
}
