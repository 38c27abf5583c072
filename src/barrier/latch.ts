/**
 * A latch: it opens once it has been counted down to zero, and stays open until it is deleted.
 *
 * Keys, all durable: `name/.latch/count`, the count that its first user gave; `name/.latch/by/<id>`, one for each call of
 * `countDown`, with how much it counted, or `name/.latch/by/many/<id>` if that is more than 1, so that a call reads the
 * sum without reading every key; `name/.latch/open`, written by the call that finds the sum at the count. And
 * `name/.once/<id>`, on a lease, while it is made (once.ts).
 * Invariant: what remains is the count less the sum of all `by` keys, never under zero. A call writes one key of its own,
 * only if that is not there yet, so a call whose answer was lost counts once. Calls never conflict with one another.
 *
 * Not guaranteed: that who counted down has lived to see it; a party that dies before it counts is missing for ever. The
 * latch outlives all sessions; `delete()` it. It keeps at most as many `by` keys as its count, and those of calls that
 * were under way when it opened.
 */

import { ConclaveError, hasCode } from '../errors/conclave-error.js';
import { isTransient } from '../errors/transient.js';
import { Client } from '../etcd/client.js';
import { compare } from '../etcd/kv/compare.js';
import type { KeyValue } from '../etcd/kv/key-value.js';
import type { OpResult } from '../etcd/kv/kv.js';
import { op } from '../etcd/kv/op.js';
import { untilAnswered } from '../etcd/transport/until-answered.js';
import { ANY_SESSION, type AnySession, endOf } from '../session/sessions.js';
import { limitWait, orAborted, type WaitOptions, WAIT_OPTIONS } from '../util/abort.js';
import { checkCount, checkInstance, checkOptions } from '../util/validate.js';
import { follow, isLimited, type View } from './follow.js';
import { keySpace } from '../util/key-space.js';
import { Once } from './once.js';
import { chance } from '../util/chance.js';

/** What a latch is. */
export interface LatchOptions {
  /** How many times it must be counted down; at least 1. All users must give the same. */
  readonly count: number;
}

/** How often a count whose answer never came is sent again, each with the client's own time limit; and a making that failed. */
const TRIES = 4;

/**
 * @example
 * const latch = new Latch(session, 'import/2026-03', { count: 8 });
 * await latch.countDown(); // in each of 8 workers; elsewhere: await latch.wait()
 */
export class Latch {
  readonly name: string;
  /** The count it begins with. */
  readonly initialCount: number;
  readonly #client: Client;
  readonly #source: AnySession | undefined;
  readonly #prefix: string;
  /** The create revision of the latch that this object is about, once known. */
  #createRevision: bigint | undefined;

  /** Makes nothing in etcd. Throws TypeError or RangeError for a bad name (see `Barrier`) or count. */
  constructor(sessionOrClient: AnySession | Client, name: string, options: LatchOptions) {
    checkInstance(sessionOrClient, { Client, ...ANY_SESSION }, "a latch's session");
    this.#prefix = keySpace(name, '.latch', "a latch's name");
    this.name = name;
    checkOptions(options, ['count'], 'Latch');
    this.initialCount = checkCount(options.count, 'count', 1);
    this.#source = sessionOrClient instanceof Client ? undefined : sessionOrClient;
    this.#client = sessionOrClient instanceof Client ? sessionOrClient : sessionOrClient.client;
  }

  /**
   * Counts down by `n`, exactly once; nothing happens to a latch that is open already. Rejects with `MISMATCH` when the
   * latch has another count, `BROKEN` when it was deleted, `UNAVAILABLE` when it was not counted because no member
   * could be reached, and `UNKNOWN_OUTCOME` when for four times the client's time limit nobody could tell whether it was
   * counted. An abort leaves it counted or not.
   */
  async countDown(n = 1, options: WaitOptions = {}): Promise<void> {
    checkOptions(options, WAIT_OPTIONS, 'countDown');
    checkCount(n, 'n', 1);
    using limit = this.#limit('count down', options);
    const { signal } = limit;
    signal.throwIfAborted();
    const mine = `${n > 1 ? this.#many : this.#by}${chance.id()}`;
    let unknown: unknown;
    for (let tries = 1; ; tries++) {
      try {
        // The same key again: if a try was applied, the next one finds it.
        await orAborted(this.#countOnce(mine, n), signal);
        return;
      } catch (error) {
        if (signal.aborted || !isTransient(error)) throw error;
        if (hasCode(error, 'UNKNOWN_OUTCOME')) unknown ??= error;
        // What a later try says of itself says nothing of that one.
        if (unknown === undefined || tries === TRIES) throw unknown ?? error;
      }
    }
  }

  /**
   * Resolves once the latch was seen open; makes it if it is not there. Rejects with `MISMATCH`, with `BROKEN` when it is
   * deleted meanwhile, the signal's reason, `TIMEOUT`, `SESSION_LOST` or `CLOSED`. An abort leaves nothing but the latch.
   * It goes on while no member answers. Only one without `signal` and `timeoutMs`, begun then, rejects with `UNAVAILABLE`,
   * `DEADLINE_EXCEEDED` or `UNKNOWN_OUTCOME` (of making the latch) after the client's time limit.
   */
  async wait(options: WaitOptions = {}): Promise<void> {
    checkOptions(options, WAIT_OPTIONS, 'wait');
    using limit = this.#limit('wait for', options);
    const { signal } = limit;
    signal.throwIfAborted();
    const patient = isLimited(options);
    const create = () => this.#create();
    const creating = patient ? untilAnswered(this.#client.clock, signal, create) : create();
    const createRevision = await orAborted(creating, signal);
    let sum = 0;
    const timeUp = (): string =>
      `${this.initialCount - sum} of ${this.initialCount} still to be counted down`;
    for await (const view of follow(this.#client, this.#prefix, { patient, signal, timeUp })) {
      if (view.keys.get(this.#countKey)?.createRevision !== createRevision) throw this.#deleted();
      sum = view.changes === undefined ? this.#sumOf(view.keys.values()) : sum + this.#sumOfNew(view.changes);
      if (sum >= this.initialCount || view.keys.has(this.#openKey)) return;
    }
  }

  /** What remains to be counted down; 0: it is open. A linearizable read; makes the latch if it is not there. */
  async count(): Promise<number> {
    const createRevision = await this.#create();
    const { kvs } = await this.#client.kv.range({ prefix: this.#prefix });
    const keys = new Map(kvs.map((kv) => [kv.key, kv]));
    if (keys.get(this.#countKey)?.createRevision !== createRevision) throw this.#deleted();
    return keys.has(this.#openKey) ? 0 : Math.max(0, this.initialCount - this.#sumOf(kvs));
  }

  /**
   * Removes the latch. Whoever still waits for it or counts it down is told `BROKEN`; a latch of the same name made
   * later is another one, for new objects. Resolves with whether there was one. Safe to repeat.
   */
  async delete(): Promise<boolean> {
    const createRevision =
      this.#createRevision ?? (await this.#client.kv.get(this.#countKey))?.createRevision;
    if (createRevision === undefined) return false;
    const { succeeded } = await this.#client.kv.txn({
      if: [compare.createRevision(this.#countKey, '=', createRevision)],
      then: [op.delete({ prefix: this.#prefix })],
    });
    return succeeded;
  }

  get #countKey(): string {
    return `${this.#prefix}count`;
  }

  get #openKey(): string {
    return `${this.#prefix}open`;
  }

  get #by(): string {
    return `${this.#prefix}by/`;
  }

  get #many(): string {
    return `${this.#by}many/`;
  }

  #limit(what: string, options: WaitOptions): ReturnType<typeof limitWait> {
    const ended = this.#source === undefined ? [] : [endOf(this.#source)];
    return limitWait(this.#client.clock, options, `${what} latch ${this.name}`, ended);
  }

  /** Makes the latch, or finds it and agrees. Safe to repeat: only the first one writes. */
  async #create(): Promise<bigint> {
    if (this.#createRevision !== undefined) return this.#createRevision;
    const key = this.#countKey;
    const found = (await this.#client.kv.get(key)) ?? (await this.#make());
    if (typeof found !== 'bigint' && found.string() !== String(this.initialCount)) {
      const text = `latch ${this.name} counts from ${found.string()}, not from ${String(this.initialCount)}: all its users must give the same count`;
      throw new ConclaveError('MISMATCH', text, { key });
    }
    this.#createRevision = typeof found === 'bigint' ? found : found.createRevision;
    return this.#createRevision;
  }

  /** Makes the latch; resolves with its create revision, or with what somebody else has made meanwhile. */
  async #make(): Promise<bigint | KeyValue> {
    const key = this.#countKey;
    // On a lease of its own: a latch outlives the session of who made it.
    const once = new Once({ client: this.#client, name: this.name, session: undefined });
    const put = op.put(key, String(this.initialCount));
    try {
      for (let tries = 1; tries <= TRIES; tries++) {
        const made = await once.write({ else: [op.get(key)], if: [compare.missing(key)], then: [put] });
        const found = made.applied ? made.revision : firstKv(made.found[0]);
        // Nothing: it was made, by a try whose answer was lost or by somebody else, and deleted since.
        if (found === undefined) continue;
        await once.end();
        return found;
      }
      throw this.#deleted();
    } catch (error) {
      // Nobody must find a latch some day that we have given up to make.
      void once.callOff().catch(() => undefined);
      void once.end();
      throw error;
    }
  }

  /** One guarded transaction: our own key, if the latch is there and not open, and our key is not there yet. */
  async #countOnce(mine: string, n: number): Promise<void> {
    const createRevision = await this.#create();
    const there = compare.createRevision(this.#countKey, '=', createRevision);
    const sum = [op.get({ prefix: this.#by }, { countOnly: true }), op.get({ prefix: this.#many })];
    const result = await this.#client.kv.txn(
      {
        else: [op.get(this.#countKey), ...sum, op.get(this.#openKey)],
        if: [there, compare.missing(this.#openKey), compare.missing(mine)],
        then: [op.put(mine, String(n)), ...sum],
      },
      { idempotent: true },
    );
    const [first, calls, many, open] = result.responses;
    if (!result.succeeded && firstKv(first)?.createRevision !== createRevision) throw this.#deleted();
    if (firstKv(open) !== undefined) return;
    // Counted now, or by a try whose answer was lost.
    if (calls?.type !== 'get' || many?.type !== 'get') return;
    const counted = Number(calls.count) - many.kvs.length + this.#sumOf(many.kvs);
    if (counted < this.initialCount) return;
    // Says so, so that later calls write no more keys. Counted all the same if that fails: then the next one says it.
    const spec = { if: [there, compare.missing(this.#openKey)], then: [op.put(this.#openKey, '')] };
    await this.#client.kv.txn(spec, { idempotent: true }).catch(() => undefined);
  }

  #sumOf(kvs: Iterable<KeyValue>): number {
    let sum = 0;
    for (const kv of kvs) if (kv.key.startsWith(this.#by)) sum += Number(kv.string());
    return sum;
  }

  /** A call's key is written once and deleted only with the latch, so each put of one counts. */
  #sumOfNew(changes: NonNullable<View['changes']>): number {
    return this.#sumOf(changes.filter(({ type }) => type === 'put').map(({ kv }) => kv));
  }

  #deleted(): ConclaveError {
    const text = `latch ${this.name} was deleted; make a new Latch to begin another one`;
    return new ConclaveError('BROKEN', text, { key: this.#countKey });
  }
}

function firstKv(response: OpResult | undefined): KeyValue | undefined {
  return response?.type === 'get' ? response.kvs[0] : undefined;
}
