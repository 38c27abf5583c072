/**
 * A semaphore across machines: so many permits, of one weight or of several.
 *
 * Keys: `name/<lease id in hex>-<id>`, one for each permit held or waited for, bound to the lease; the value is a small
 * JSON of who it is and its weight. `name.~limit`, without a lease: the limit, which the first user writes and the last
 * to leave removes. After `resize` it stays until it is resized back or `delete` removes it.
 * Invariant: the holders are the keys from the front of the line on whose weights fit into the limit, and those that did
 * when it was greater. So a heavy permit is not starved by light ones: who comes after it waits behind it.
 * A plain Mutex, Go's `concurrency.Mutex` and `etcdctl lock` of the same name need all permits at once.
 *
 * Not guaranteed: that a holder which ignores `signal` stops when its permit is lost; that after a resize to less, those
 * who hold give any back before they are done. If the last user crashes, `name.~limit` stays for the next.
 */
import type { ConclaveError } from '../errors/conclave-error.js';
import type { CallOptions } from '../etcd/transport/call.js';
import type { KeyValue } from '../etcd/kv/key-value.js';
import type { Session } from '../session/session.js';
import { ANY_SESSION, type AnySession, onSession } from '../session/sessions.js';
import { withinLimit } from '../ticket/attempt.js';
import { Hold } from '../ticket/hold.js';
import { lineIfUsed } from '../ticket/lines.js';
import { type LineEntry, type LineReport, reportLine } from '../ticket/inspect.js';
import { readLine } from '../ticket/read-line.js';
import { ownerValue } from '../ticket/owner.js';
import type { TicketRequest } from '../ticket/take.js';
import { type Outlook, takeIf, takeIfAdmitted, takeTicket } from '../ticket/taking.js';
import { tellAcquire } from '../ticket/tell-acquire.js';
import type { Ticket } from '../ticket/ticket.js';
import { limitWait, sleep, WAIT_OPTIONS, type WaitOptions } from '../util/abort.js';
import { backoffMs } from '../util/backoff.js';
import { checkPlainName } from '../util/key-space.js';
import { checkCount, checkInstance, checkOptions } from '../util/validate.js';
import { admission, runUnder, whileHopeful } from './admission.js';
import { Agreement, type Look } from './agreement.js';
import { limitOf, whileItFits } from './limit.js';
import { newSuffix, tagOf } from './tag.js';

/** Options of a semaphore. */
export interface SemaphoreOptions {
  /** How many permits there are: a whole number of at least 1, the same for all who use the name. */
  readonly limit: number;
}

/** Options of an acquisition. */
export interface AcquireOptions extends WaitOptions {
  /** How many permits it takes: a whole number from 1 to the limit. @default 1 */
  readonly weight?: number | undefined;
}

/**
 * Permits that are held. `fencingToken` is greater than that of every hold that had to end first; permits that are held
 * together may have the same.
 */
export class Permit extends Hold {
  /** How many permits it is. */
  readonly weight: number;

  /** Made by `Semaphore`. */
  constructor(ticket: Ticket, fencingToken: bigint, weight: number) {
    super({ fencingToken, release: () => ticket.leave(), ticket });
    this.weight = weight;
  }

  /**
   * Gives the permits back. Resolves once that is confirmed; rejects when it cannot be, and may then be called again.
   * Calling twice is safe.
   */
  override release(): Promise<void> {
    return super.release();
  }
}

/** A key in the line of a semaphore. */
export interface PermitEntry extends LineEntry {
  /** How many permits it is; undefined for a key of another client, which needs all. */
  readonly weight: number | undefined;
}

/** Who holds and who waits for a semaphore. */
export interface SemaphoreReport extends LineReport<PermitEntry> {
  /** The limit that is agreed now; undefined when nobody uses the name. */
  readonly limit: number | undefined;
}

/**
 * @example
 * const semaphore = new Semaphore(session, 'gpu', { limit: 4 });
 * await using permit = await semaphore.acquire({ weight: 2 });
 */
export class Semaphore {
  readonly name: string;
  /** The limit this object was made with. After a resize, by anyone, what counts is in etcd. */
  readonly limit: number;
  readonly #source: AnySession;
  readonly #agreement: Agreement;
  /** The limit's key as we last joined it: the best guess while nobody here follows the line. */
  #joined: KeyValue | undefined;

  /** Makes nothing in etcd. Throws TypeError for a bad name, RangeError for a limit that is not a whole number >= 1. */
  constructor(session: AnySession, name: string, options: SemaphoreOptions) {
    checkInstance(session, ANY_SESSION, "a semaphore's session");
    this.name = checkPlainName(name, "a semaphore's name");
    checkOptions(options, ['limit'], 'Semaphore');
    this.limit = checkCount(options.limit, 'limit', 1);
    this.#source = session;
    this.#agreement = new Agreement(name, this.limit);
  }

  /**
   * Resolves with the permits once they and all that were asked for before fit into the limit. Rejects with RangeError,
   * before anything is written, when the weight is over the limit; with `MISMATCH`, naming both, when others use the name
   * with another limit, and when a resize made the weight impossible while we waited; with the signal's reason, or
   * `TIMEOUT`, after our key has been removed; at once with `SESSION_LOST` when the session dies and `TICKET_LOST` when
   * our key is removed from outside. Each call asks for permits of its own.
   */
  async acquire(options: AcquireOptions = {}): Promise<Permit> {
    const weight = this.#checkWeight(options, 'acquire');
    return tellAcquire(this.#source, { kind: 'semaphore', name: this.name }, () =>
      onSession(this.#source, options, `acquire ${this.name}`, async (session, signal) => {
        const ticket = await this.#take(session, weight, signal);
        return new Permit(ticket, await this.#admission(ticket, weight, signal), weight);
      }),
    );
  }

  /**
   * As `acquire`, but resolves with undefined, leaving nothing in etcd, when it cannot be had at once. Writes nothing
   * then, unless others go on writing below the name: it has then stood in line for a moment.
   */
  async tryAcquire(options: AcquireOptions = {}): Promise<Permit | undefined> {
    const weight = this.#checkWeight(options, 'tryAcquire');
    const join = (found: KeyValue | undefined, nobody: Look['nobody']): Outlook =>
      this.#agreement.join({ found, nobody }, weight);
    return tellAcquire(this.#source, { kind: 'semaphore', name: this.name }, () =>
      onSession(this.#source, options, `acquire ${this.name}`, async (session, signal) => {
        const taken = await takeIfAdmitted(this.#request(session, weight), join, signal);
        return taken === undefined ? undefined : new Permit(taken.ticket, taken.token, weight);
      }),
    );
  }

  /**
   * Acquires, runs `work`, releases, and resolves with what it returned. Rejects with the reason of the loss when the
   * permits were lost before `work` was done, even if `work` went through.
   */
  async run<T>(work: (permit: Permit) => T | Promise<T>, options: AcquireOptions = {}): Promise<T> {
    return runUnder(
      () => this.acquire(options),
      work,
      (permit) => permit.release(),
    );
  }

  /**
   * Changes the limit for everybody, at once: more waiters go ahead, or none until enough was given back. Those who
   * declare the old limit or the new one go on working. It lasts until it is resized back to the first limit, or
   * `delete`. Of several at once the last to reach etcd counts. Rejects with the signal's reason or `TIMEOUT`, when others
   * resize too: the change has then been made or not. Safe to repeat. Where there is no limit yet, or users keep making and
   * removing it, it stands in line for a moment, as one permit would.
   */
  async resize(limit: number, options: WaitOptions = {}): Promise<void> {
    checkCount(limit, 'limit', 1);
    checkOptions(options, WAIT_OPTIONS, 'resize');
    return onSession(this.#source, options, `resize ${this.name}`, async (session, signal) => {
      const { client } = session;
      const last = await this.#agreement.resize(client, limit, { signal });
      if (last === undefined) return;
      const ticket = await takeTicket({ ...this.#request(session, 1), last }, signal);
      try {
        await this.#agreement.resize(client, limit, { signal, ticket });
      } finally {
        await withinLimit(session, ticket.leave());
      }
    });
  }

  /**
   * Forgets the agreed limit, a resize too. False, and nothing is changed, when somebody holds or waits. Rejects with the
   * signal's reason or `TIMEOUT`, when others resize it too: it was then done or not. Safe to repeat.
   */
  async delete(options: WaitOptions = {}): Promise<boolean> {
    checkOptions(options, WAIT_OPTIONS, 'delete');
    const { client } = this.#source;
    using wait = limitWait(client.clock, options, `delete ${this.name}`, [client.closed]);
    return await this.#agreement.remove(client, wait.signal);
  }

  /** Who holds and who waits, in order, with what weight, and the limit; other clients too. One linearizable read. */
  async inspect(options: CallOptions = {}): Promise<SemaphoreReport> {
    checkOptions(options, WAIT_OPTIONS, 'inspect');
    const besideKey = this.#agreement.key;
    const inspection = {
      besideKey,
      describe: (entry: LineEntry, kv: KeyValue): PermitEntry => ({ ...entry, weight: tagOf(kv).weight }),
      name: this.name,
      policy: whileItFits,
    };
    const read = await readLine(this.#source.client.kv, inspection, options);
    const limit = limitOf(read.kvs.find((kv) => kv.key === besideKey));
    return { ...reportLine(read, inspection), limit };
  }

  /** Takes a ticket together with the agreement on the limit. */
  async #take(session: Session, weight: number, signal: AbortSignal): Promise<Ticket> {
    const { client } = session;
    const line = lineIfUsed(client, { besideKey: this.#agreement.key, name: this.name });
    let seen: Look = { found: line?.live === true ? line.beside : this.#joined, nobody: undefined };
    for (let looks = 0; ; looks++) {
      const outlook = looks === 0 ? this.#guess(seen, weight) : this.#agreement.join(seen, weight);
      if (outlook !== undefined) {
        const request = { ...this.#request(session, weight), last: outlook.last };
        const ticket = await takeIf(request, outlook, signal);
        this.#joined = outlook.also === undefined ? seen.found : undefined;
        if (ticket !== undefined) return ticket;
      }
      // Somebody agreed on something else, or left as the last: look. Over and over, at growing intervals. What makes us
      // look again is only whether there is the limit: users who come and go leave even odds, or better, each time.
      if (looks > 0) await sleep(client.clock, backoffMs(looks - 1), signal);
      seen = await this.#agreement.look(client, signal);
    }
  }

  #guess(seen: Look, weight: number): Outlook | undefined {
    try {
      return this.#agreement.join(seen, weight);
    } catch {
      return undefined; // What we remember may be out of date: only a read refuses.
    }
  }

  /** Waits for admission, and no longer than the limit lets us hope. */
  #admission(ticket: Ticket, weight: number, signal: AbortSignal): Promise<bigint> {
    if (ticket.firstAt !== undefined) return admission(ticket, whileItFits, signal);
    const hopeless = (found: KeyValue | undefined): ConclaveError | undefined =>
      this.#agreement.hopeless(found, weight);
    return whileHopeful({ hopeless, since: ticket.createRevision, ticket }, signal, (limit) =>
      admission(ticket, whileItFits, limit),
    );
  }

  #checkWeight(options: AcquireOptions, where: string): number {
    checkOptions(options, [...WAIT_OPTIONS, 'weight'], where);
    const { weight = 1 } = options;
    return checkCount(weight, 'weight', 1);
  }

  #request(session: Session, weight: number): TicketRequest {
    return {
      besideKey: this.#agreement.key,
      name: this.name,
      policy: whileItFits,
      session,
      suffix: newSuffix(session),
      value: ownerValue(session, { weight }),
    };
  }
}
