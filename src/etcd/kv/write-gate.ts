/**
 * What a client writes after `client.watch()` is seen by that watch, though the two travel on different streams: a write
 * waits until the watches that begin "now" and were asked for before it exist on the server. It waits for no others.
 *
 * When their creation takes too long, the write goes ahead, but not before one read has told where the store is: the
 * watches then begin right after that revision, whenever they come to exist.
 */
import { ConclaveError, hasCode } from '../../errors/conclave-error.js';
import { isTransient } from '../../errors/transient.js';
import { services } from '../../proto/services.js';
import { orAborted, OVER, sleep } from '../../util/abort.js';
import { Deferred } from '../../util/deferred.js';
import type { CallOptions } from '../transport/call.js';
import type { Connection } from '../transport/connection.js';
import { timeLeft } from '../transport/time-left.js';

/** A watch from now on that does not exist on the server yet. */
export interface NewWatch {
  /** Its key, or the first of its range. */
  readonly key: Uint8Array;
  /** It is to begin with the first change after `revision`, and no later. */
  beginAfter(revision: bigint): void;
}

/** Writes that wait for the same watches. */
interface Turn {
  /** The number of the last of them. */
  readonly upTo: number;
  readonly come: Deferred<void>;
}

/** The longest a write waits for a watch that is being created, in milliseconds; nor more than half of its own time. */
const GATE_MS = 1000;

/** Where writes wait for the watches that were asked for before them. */
export class WriteGate {
  readonly #connection: Connection;
  /** By number, in the order they were asked for. */
  readonly #asked = new Map<number, NewWatch>();
  /** In the order of `upTo`. */
  readonly #turns = new Set<Turn>();
  #lastNumber = 0;
  #lastTurn: Turn | undefined;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  /** Makes later writes wait for `watch`, until the returned function is called: it exists, or it is over. */
  ask(watch: NewWatch): () => void {
    this.#lastNumber += 1;
    const number = this.#lastNumber;
    this.#asked.set(number, watch);
    return () => this.#settle(number);
  }

  /**
   * Makes a write, after the watches asked for by now. It is given what is left of its limits. Rejects as `write` does,
   * with the signal's reason, and with `UNAVAILABLE` when the time is over before it could be sent.
   */
  pass<Result>(
    what: string,
    limits: CallOptions,
    write: (limits: CallOptions) => Promise<Result>,
  ): Promise<Result> {
    return this.#asked.size === 0 ? write(limits) : this.#passLater(what, limits, write);
  }

  async #passLater<Result>(
    what: string,
    limits: CallOptions,
    write: (limits: CallOptions) => Promise<Result>,
  ): Promise<Result> {
    const { clock, timeoutMs: usual } = this.#connection;
    const left = timeLeft(this.#connection, limits);
    const turn = this.#turn();
    const stop = new AbortController();
    const limitMs = Math.min(GATE_MS, (limits.timeoutMs ?? usual) / 2);
    const limit = sleep(clock, limitMs, stop.signal).catch(() => undefined);
    try {
      await orAborted(Promise.race([turn.come.promise, limit]), limits.signal);
    } finally {
      stop.abort(OVER);
    }
    if (this.#turns.has(turn)) await this.#overtake(turn, what, left());
    return write(limits.timeoutMs === undefined ? limits : left());
  }

  /** The turn of a write that comes now. */
  #turn(): Turn {
    if (this.#lastTurn?.upTo === this.#lastNumber && this.#turns.has(this.#lastTurn)) return this.#lastTurn;
    const turn = { come: new Deferred<void>(), upTo: this.#lastNumber };
    this.#turns.add(turn);
    this.#lastTurn = turn;
    return turn;
  }

  #settle(number: number): void {
    if (!this.#asked.delete(number)) return;
    const [oldest = Infinity] = this.#asked.keys();
    for (const turn of this.#turns) {
      if (turn.upTo >= oldest) break;
      this.#turns.delete(turn);
      turn.come.resolve();
    }
  }

  /** Lets a write go before the watches it waited for: they will begin where the store was before it. */
  async #overtake({ upTo }: Turn, what: string, limits: CallOptions): Promise<void> {
    const revision = await this.#storeRevision(what, limits);
    if (revision === undefined) return;
    for (const [number, watch] of [...this.#asked]) {
      if (number > upTo) break;
      watch.beginAfter(revision);
      this.#settle(number);
    }
  }

  /** The store's revision, as of now at least; undefined when etcd refuses to tell, and so will refuse the watch. */
  async #storeRevision(what: string, limits: CallOptions): Promise<bigint | undefined> {
    const [first] = this.#asked.values();
    if (first === undefined) return undefined;
    try {
      const reply = await this.#connection.unary({
        ...limits,
        kind: 'read',
        request: { countOnly: true, key: first.key },
        rpc: services.KV.Range,
        what,
      });
      return reply.header?.revision;
    } catch (error) {
      if (!hasCode(error) || error.code === 'CLOSED') throw error;
      if (!isTransient(error)) return undefined;
      const text = `${what}: not sent: a watch that was asked for before it could not be created in time (${error.message})`;
      throw new ConclaveError('UNAVAILABLE', text, { cause: error, etcd: error.etcd });
    }
  }
}
