/**
 * A key that is there for as long as its process lives and wants it: such as a service's registration.
 *
 * It is bound to a session's lease. Lost with the lease, it comes back with the next session; removed or changed by hand, it
 * is written again; until it is closed, and then it is removed. Ours is what is bound to our lease: what somebody else has
 * written, at first or over our key, is left alone, and ours comes back when it is gone.
 *
 * Not guaranteed: that the key is there at every moment. That it is ours alone: for that, take a Mutex or an Election.
 */
import type { InspectOptions } from 'node:util';

import { ConclaveError, hasCode, madeHere } from '../errors/conclave-error.js';
import { Client } from '../etcd/client.js';
import { encodeKey, encodeValue } from '../etcd/kv/key-range.js';
import { ANY_SESSION, type AnySession, Sessions } from '../session/sessions.js';
import { limitWait, orAborted, waitAtMost, WAIT_OPTIONS, type WaitOptions } from '../util/abort.js';
import type { Bytes } from '../util/bytes.js';
import { Change } from '../util/change.js';
import { asJson, asText, INSPECT } from '../util/shown.js';
import { checkChoice, checkInstance, checkLimits, checkOptions } from '../util/validate.js';
import { Keeper, type KeyPlace } from './keeper.js';
import { OwnSessions } from './own-sessions.js';

/** Options of `LeasedKey.put`. */
export interface LeasedKeyOptions extends WaitOptions {
  /**
   * What to do if somebody else has the key. `fail`: reject with `ALREADY_HELD`. `wait`: until it is gone. `overwrite`:
   * replace it; so is what is there when a later session begins. Whoever writes over our key while it is there stays.
   * @default 'fail'
   */
  readonly ifTaken?: 'fail' | 'wait' | 'overwrite' | undefined;
  /** With a client: the time to live of the lease, in seconds. @default 10 */
  readonly ttlSeconds?: number | undefined;
}

/**
 * `there`: as it should be, as far as its watch has told. `missing`: to be put, or put back. `taken`: somebody else's.
 * `closed`: nothing is put back any more.
 */
export type LeasedKeyState = 'there' | 'missing' | 'taken' | 'closed';

const OPTIONS = ['ifTaken', 'ttlSeconds', ...WAIT_OPTIONS] as const;

/** How long closing waits for the removal, which goes on after that. */
const CLOSE_MS = 5000;

/**
 * A key on a lease that puts itself back.
 *
 * @example
 * await using key = await LeasedKey.put(conclave, 'services/web/10.0.0.7', JSON.stringify({ port: 80 }));
 */
export class LeasedKey implements AsyncDisposable {
  readonly key: string;
  readonly #source: AnySession;
  readonly #ifTaken: 'fail' | 'wait' | 'overwrite';
  readonly #closing = new AbortController();
  readonly #over = new AbortController();
  readonly #keeper: Keeper;
  readonly #kept: Promise<unknown>;
  #stopFarewell: () => void = () => undefined;
  #value: Uint8Array;
  #place: KeyPlace = { is: 'missing' };
  #hasBeenThere = false;
  readonly #changed = new Change();
  #done: Promise<void> | undefined;

  /**
   * Puts the key, and keeps it until it is closed: on a session, for as long as that lives; on a `Conclave`, from session to
   * session; with a client, on a lease of its own, which is renewed likewise. Resolves once the key is there.
   *
   * Rejects with `ALREADY_HELD` (see `ifTaken`, and when the session has such a leased key already), `TIMEOUT`, the signal's
   * reason, with what does not pass, such as `PERMISSION_DENIED`, and when the session or client ends; nothing of it is left
   * then. What is lost or late on the way to etcd is found out, or removed.
   */
  static async put(
    source: Client | AnySession,
    key: string,
    value: Bytes,
    options: LeasedKeyOptions = {},
  ): Promise<LeasedKey> {
    checkInstance(source, { Client, ...ANY_SESSION }, "a leased key's session");
    checkOptions(options, OPTIONS, 'LeasedKey.put');
    checkLimits(options);
    if (typeof key !== 'string') throw new TypeError(`a leased key must be a string, not ${typeof key}`);
    encodeKey(key);
    const bytes = Uint8Array.from(encodeValue(value));
    const { ifTaken = 'fail', signal, timeoutMs, ttlSeconds } = options;
    checkChoice(ifTaken, ['fail', 'wait', 'overwrite'], 'ifTaken');
    if (ttlSeconds !== undefined && !(source instanceof Client))
      throw new TypeError('ttlSeconds is for a lease of its own: a session has its own ttlSeconds');
    signal?.throwIfAborted();
    const clock = source instanceof Client ? source.clock : source.client.clock;
    using limit = limitWait(clock, { signal, timeoutMs }, `put leased key ${JSON.stringify(key)}`, []);
    const session =
      source instanceof Client
        ? await OwnSessions.open(source, { label: key, signal: limit.signal, ttlSeconds })
        : source;
    const leased = new LeasedKey(session, key, bytes, ifTaken);
    try {
      await leased.#until('there', limit.signal);
      return leased;
    } catch (error) {
      await leased.close().catch(() => undefined);
      throw error;
    }
  }

  private constructor(
    source: AnySession,
    key: string,
    value: Uint8Array,
    ifTaken: 'fail' | 'wait' | 'overwrite',
  ) {
    this.key = key;
    this.#source = source;
    this.#value = value;
    this.#ifTaken = ifTaken;
    const others = source instanceof Sessions ? [source.closed] : [];
    const ends = limitWait(source.client.clock, {}, key, [
      this.#closing.signal,
      source.client.closed,
      ...others,
    ]);
    this.#keeper = new Keeper(
      source,
      {
        key,
        overwrites: ifTaken === 'overwrite',
        placed: (place) => this.#placed(place),
        value: () => this.#value,
      },
      ends.signal,
    );
    if (source instanceof Sessions)
      this.#stopFarewell = source.beforeClose({ end: () => this.close(), isInside: () => false });
    this.#kept = this.#keeper.keep().catch((error: unknown) => {
      ends[Symbol.dispose]();
      this.#end(error);
    });
  }

  /** What it holds, or is to hold, exactly. */
  get value(): Uint8Array {
    return Uint8Array.from(this.#value);
  }

  /** How it is, as far as its watch has told. */
  get state(): LeasedKeyState {
    return this.#over.signal.aborted ? 'closed' : this.#place.is;
  }

  /** The revision at which the key was created last; undefined while it is not there. */
  get createRevision(): bigint | undefined {
    return this.state === 'there' && this.#place.is === 'there' ? this.#place.kv.createRevision : undefined;
  }

  /**
   * Aborts when it is not put back any more: with code `CLOSED` when it, its `Conclave` or its client was closed, and with the
   * reason of the only session that it had.
   */
  get signal(): AbortSignal {
    return this.#over.signal;
  }

  /**
   * Resolves once the key is there: at once if it is. Rejects with `TIMEOUT`, the signal's reason, and with what it ended
   * with. Safe to call twice.
   */
  async ready(options: WaitOptions = {}): Promise<void> {
    checkOptions(options, WAIT_OPTIONS, 'ready');
    using limit = limitWait(this.#source.client.clock, options, `leased key ${JSON.stringify(this.key)}`, [
      this.signal,
    ]);
    await this.#until('there', limit.signal);
  }

  /**
   * Gives the key another value, at once or when it is back. Resolves once it is there with it. Rejects as `ready` does: the
   * value is written all the same, as soon as it can be, unless another one is given or it is closed.
   */
  async update(value: Bytes, options: WaitOptions = {}): Promise<void> {
    checkOptions(options, WAIT_OPTIONS, 'update');
    checkLimits(options);
    const bytes = Uint8Array.from(encodeValue(value));
    options.signal?.throwIfAborted();
    this.signal.throwIfAborted();
    this.#value = bytes;
    if (this.#place.is === 'there' && !this.#place.kv.value.equals(bytes)) this.#place = { is: 'missing' };
    this.#keeper.wake();
    await this.ready(options);
  }

  /**
   * Removes the key, if it is ours, and ends it. Rejects when the removal is not confirmed within 5 s: it goes on then, for
   * as long as the session lives, with which the key goes. Closing twice gives the first call's promise.
   */
  close(): Promise<void> {
    this.#done ??= this.#close();
    return this.#done;
  }

  /** As `close`, but never throws. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close().catch(() => undefined);
  }

  /** Its key, and how it is. */
  toJSON(): Record<string, unknown> {
    return asJson(this.#shown);
  }

  /** @internal */
  [INSPECT](_depth: number, options: InspectOptions): string {
    return asText('LeasedKey', this.#shown, options);
  }

  get #shown(): Readonly<Record<string, unknown>> {
    return { createRevision: this.createRevision, key: this.key, state: this.state };
  }

  #placed(place: KeyPlace): void {
    if (place.is === 'there') this.#hasBeenThere = true;
    if (place.is === 'taken' && !this.#hasBeenThere && this.#ifTaken === 'fail') {
      const text = `leased key ${JSON.stringify(this.key)}: somebody else has it, since revision ${String(place.kv.createRevision)}`;
      throw new ConclaveError('ALREADY_HELD', text, { key: this.key });
    }
    this.#place = place;
    this.#changed.tell();
  }

  async #until(state: LeasedKeyState, signal: AbortSignal): Promise<void> {
    for (;;) {
      if (this.#over.signal.aborted) {
        const reason: unknown = this.#over.signal.reason;
        throw hasCode(reason) ? madeHere(reason) : reason;
      }
      signal.throwIfAborted();
      if (this.state === state) return;
      await orAborted(this.#changed.next, signal);
    }
  }

  /** It is not kept any more. */
  #end(reason: unknown): void {
    this.#stopFarewell();
    this.#over.abort(reason);
    this.#changed.tell();
  }

  async #close(): Promise<void> {
    this.#closing.abort(new ConclaveError('CLOSED', `leased key ${JSON.stringify(this.key)} was closed`));
    await this.#kept;
    const removing = this.#keeper.remove();
    removing.catch(() => undefined);
    const { clock } = this.#source.client;
    using limit = limitWait(
      clock,
      { timeoutMs: CLOSE_MS },
      `remove leased key ${JSON.stringify(this.key)}`,
      [],
    );
    try {
      await orAborted(removing, limit.signal);
    } finally {
      if (this.#source instanceof OwnSessions) await waitAtMost(clock, CLOSE_MS, this.#source.close());
    }
  }
}
