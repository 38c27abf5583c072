/**
 * A ticket: a lease-bound key `name/<suffix>`. Its create revision is its place in the line and the proof that a later
 * operation is still about this very ticket: everything done to it compares that revision, never the name alone.
 *
 * Taking one is a transaction that a compare guards (the key must not exist), so it can be repeated when its answer is
 * lost, and an answer that never comes is settled by looking: the key is then kept or removed. Nothing is left behind.
 */
import { ConclaveError, hasCode } from '../errors/conclave-error.js';
import { isTransient } from '../errors/transient.js';
import { type Compare, compare } from '../etcd/compare.js';
import { KeyValue } from '../etcd/key-value.js';
import { type Op, op, type TxnSpec } from '../etcd/op.js';
import type { Session } from '../session/session.js';
import { orAborted } from '../util/abort.js';
import { attempt, putDown, withinLimit } from './attempt.js';
import type { Line } from './line.js';
import { type Policy, ticketLost } from './line-audience.js';
import { inOrder, isTicket, rangeOf } from './line-keys.js';
import { lineOf } from './lines.js';
import { type Abandoned, sweeperOf } from './sweeper.js';
import {
  firstKv,
  isAdmitted,
  keyOf,
  removeAll,
  type Taken,
  takeIfEmpty,
  takeTogether,
  type Terms,
  type TicketRequest,
  writeNote,
} from './take.js';

export type { TicketRequest } from './take.js';
export { withinLimit } from './attempt.js';

/** What is known before a ticket is taken only if it would be admitted. */
export interface Outlook extends Terms {
  /** The key beside the line as it will be then. */
  readonly beside: KeyValue | undefined;
  /** As in the request. @default the request's */
  readonly last?: TxnSpec | undefined;
}

export class Ticket {
  readonly session: Session;
  readonly name: string;
  readonly key: string;
  readonly createRevision: bigint;
  /** The revision at which it was seen to be admitted when it was taken; undefined: others were ahead, or not looked. */
  readonly firstAt: bigint | undefined;
  /** What the key held when it was there before: a ticket of an earlier life on the same lease. */
  readonly found: KeyValue | undefined;
  readonly #request: TicketRequest;
  readonly #taken: Taken;
  #modRevision: bigint;
  #left: Promise<void> | undefined;

  private constructor(request: TicketRequest, taken: Taken) {
    this.#request = request;
    this.session = request.session;
    this.name = request.name;
    this.key = keyOf(request);
    this.createRevision = taken.createRevision;
    this.firstAt = taken.firstAt;
    this.found = taken.found;
    this.#taken = taken;
    this.#modRevision = taken.modRevision;
  }

  /**
   * Takes a ticket, or finds the one that the same lease took before. Rejects with the signal's reason when it aborts,
   * after the key has been removed or a limit of 3 s has passed; the removal then goes on until it is confirmed or the
   * session ends.
   */
  static async take(request: TicketRequest, signal: AbortSignal): Promise<Ticket> {
    const [ticket] = (await Ticket.#take([request], signal)) ?? [];
    if (ticket === undefined) throw notHeld(keyOf(request)); // Without terms there is nothing that can refuse it.
    return ticket;
  }

  /** As `take`, but only if the guards of `terms` hold; undefined, and nothing written, when they do not. */
  static async takeIf(
    request: TicketRequest,
    terms: Terms,
    signal: AbortSignal,
  ): Promise<Ticket | undefined> {
    return (await Ticket.#take([request], signal, terms))?.[0];
  }

  /**
   * As `take`, for several lines at once: all tickets have the same create revision, so that every line agrees on their
   * order. One session's; the suffixes must be new ones. Undefined, and nothing written: the guards of `terms` do not hold.
   */
  static async takeAll(
    requests: readonly TicketRequest[],
    signal: AbortSignal,
    terms: Terms = {},
  ): Promise<readonly Ticket[] | undefined> {
    return await Ticket.#take(requests, signal, terms);
  }

  /**
   * Gives tickets that were taken together back, in one transaction, as `leave` does. Their suffixes are used once, so
   * deleting the keys can hit no later ticket.
   */
  static leaveAll(tickets: readonly Ticket[]): Promise<void> {
    const [first, ...others] = tickets;
    if (first === undefined) return Promise.resolve();
    for (const { session, key } of others) sweeperOf(session).putDown(key);
    first.#left ??= first.#leave({ then: tickets.map(({ key }) => op.delete(key)) });
    return first.#left;
  }

  /**
   * Takes a ticket only if its policy admits it at once; undefined, and nothing ever written, when it does not. `plan`
   * looks at the key beside the line and says what it will be and what else the transaction does.
   */
  static async takeIfAdmitted(
    request: TicketRequest,
    plan: (beside: KeyValue | undefined, lineIsEmpty: boolean) => Outlook,
    signal: AbortSignal,
  ): Promise<Ticket | undefined> {
    const range = rangeOf(request);
    for (;;) {
      const { kvs, revision } = await request.session.client.kv.range(range, { signal });
      const line = inOrder(kvs, request.name);
      const beside = kvs.find((kv) => kv.key === request.besideKey);
      const { guards = [], also = [], beside: then, last = request.last } = plan(beside, line.length === 0);
      if (!isAdmitted(request, [...line, imagined(request, revision + 1n)], then)) return undefined;
      const unchanged = compare.modRevision(range, '<', revision + 1n);
      const terms = { also, guards: [...guards, unchanged] };
      const ticket = await Ticket.takeIf({ ...request, last }, terms, signal);
      // Undefined: somebody else wrote in between, so somebody gets on; look again.
      if (ticket !== undefined) return ticket;
    }
  }

  /** As `take`, but only when nobody else is in line; undefined, and nothing left in etcd, when somebody is. */
  static async takeIfFirst(request: TicketRequest, signal: AbortSignal): Promise<Ticket | undefined> {
    const { session } = request;
    const taken = await attempt(session, [claim(request)], signal, (onRepeat) =>
      takeIfEmpty(request, onRepeat),
    );
    if (taken === 'occupied') {
      putDown(session, [claim(request)]);
      return undefined;
    }
    if (taken !== 'unclear') return new Ticket(request, taken);
    // Other people's data, or our own earlier ticket, lies below the name: stand in line and look.
    const ticket = await Ticket.take(request, signal);
    if (ticket.firstAt !== undefined) return ticket;
    try {
      const firstAt = await ticket.#lookAhead(signal);
      if (firstAt !== undefined) return new Ticket(request, { ...ticket.#taken, firstAt });
    } catch (error) {
      await withinLimit(session, ticket.leave());
      throw error;
    }
    await ticket.leave();
    return undefined;
  }

  /** The line this ticket stands in. */
  get line(): Line {
    return lineOf(this.session.client, this.#request);
  }

  /** The revision of the last write to the key that we know of. */
  get modRevision(): bigint {
    return this.#modRevision;
  }

  /** The compare that holds only while this very ticket is there. */
  get there(): Compare {
    return compare.createRevision(this.key, '=', this.createRevision);
  }

  /** The compare that holds only while nobody has written to the key since we did. */
  get untouched(): Compare {
    return compare.modRevision(this.key, '=', this.#modRevision);
  }

  /**
   * Resolves once `policy` admits this ticket, with the revision that proves it. Rejects with `TICKET_LOST` when the key
   * was removed, and with the signal's reason. The ticket stays: leave it.
   */
  async turn(policy: Policy, signal: AbortSignal): Promise<bigint> {
    return this.line.turn(this.key, this.createRevision, policy, signal);
  }

  /**
   * Writes a new value to the key while `guards` hold, by default while it is there, and does what `also` says with it.
   * Resolves with the write's revision; rejects with `NOT_HELD` when the guards do not hold. Safe when the answer is
   * lost: the guarded write is sent again, and found.
   */
  async rewrite(
    value: string | Uint8Array,
    guards: readonly Compare[] = [this.there],
    also: readonly Op[] = [],
  ): Promise<bigint> {
    const { client, leaseId } = this.session;
    const put = op.put(this.key, value, { leaseId });
    const steps = { else: [op.get(this.key)], if: guards, then: [put, ...also] };
    const result = await client.kv.txn(steps, { idempotent: true });
    if (result.succeeded) {
      this.#modRevision = result.revision;
    } else {
      // A first try whose answer was lost has written just this; else the ticket is gone.
      const kv = firstKv(result.responses[0]);
      if (kv?.createRevision !== this.createRevision || !kv.value.equals(Buffer.from(value)))
        throw notHeld(this.key);
      this.#modRevision = kv.modRevision;
    }
    return this.#modRevision;
  }

  /**
   * Makes a ticket of an earlier life on this lease ours: writing to it makes this life's token greater. Rejects with
   * `TICKET_LOST` when it was removed meanwhile, and with the signal's reason.
   */
  async resume(value: string | Uint8Array, signal: AbortSignal): Promise<void> {
    try {
      await orAborted(this.rewrite(value, [this.there], writeNote(this.#request)), signal);
    } catch (error) {
      throw hasCode(error, 'NOT_HELD') ? ticketLost(this.key) : error;
    }
  }

  /**
   * Gives the ticket back: deletes the key if it is still this one. Rejects when that could not be confirmed; it is then
   * tried until it is, or the session ends, and calling again waits for that.
   */
  leave(): Promise<void> {
    this.#left ??= this.#leave(this.#removal());
    return this.#left;
  }

  /** As `leave`, unless the session has ended: its lease then decides, which may be resumed elsewhere. */
  async leaveIfAlive(): Promise<void> {
    if (this.session.alive) await this.leave();
  }

  async #leave(spec: TxnSpec): Promise<void> {
    const { session } = this;
    if (session.state === 'lost') return; // The lease takes the key with it.
    const removal = sweeperOf(session).remove(this.key, spec);
    try {
      await removal.firstTry;
    } catch (error) {
      if (!session.alive) return; // Closed meanwhile: its lease, revoked or running out, takes the key with it.
      this.#left = isTransient(error) ? removal.confirmed : undefined;
      throw error;
    }
  }

  /** Reads who is ahead of us; with nobody ahead, the revision that proves it. */
  async #lookAhead(signal: AbortSignal): Promise<bigint | undefined> {
    const { kvs, revision } = await this.session.client.kv.range(
      { prefix: `${this.name}/` },
      { keysOnly: true, maxCreateRevision: this.createRevision, signal },
    );
    const own = kvs.find((kv) => kv.key === this.key);
    if (own?.createRevision !== this.createRevision) throw ticketLost(this.key);
    return kvs.some((kv) => kv !== own && isTicket(kv, this.name)) ? undefined : revision;
  }

  static async #take(
    requests: readonly TicketRequest[],
    signal: AbortSignal,
    terms: Terms = {},
  ): Promise<readonly Ticket[] | undefined> {
    const [first] = requests;
    if (first === undefined) return [];
    const claims = requests.map(claim);
    const taken = await attempt(first.session, claims, signal, (onRepeat) =>
      takeTogether(requests, { onRepeat, terms }),
    );
    if (taken === undefined) putDown(first.session, claims);
    return taken?.flatMap((each, at) => {
      const request = requests[at];
      return request === undefined ? [] : [new Ticket(request, each)];
    });
  }

  #removal(): TxnSpec {
    const steps = removeAll(this.#request);
    // A ticket that somebody else removed may have left its note.
    const orphan = { if: [compare.missing(this.key)], then: steps };
    const plain = { else: steps.length > 1 ? [op.txn(orphan)] : [], if: [this.there], then: steps };
    const { last } = this.#request;
    if (last === undefined) return plain;
    const alone = compare.createRevision({ prefix: `${this.name}/` }, '=', this.createRevision);
    return {
      else: [op.txn(plain)],
      if: [alone, this.there, ...(last.if ?? [])],
      then: [...steps, ...(last.then ?? [])],
    };
  }
}

/** What an attempt to take this ticket may leave behind, and how to remove it. */
function claim(request: TicketRequest): Abandoned {
  const { last } = request;
  const empty = compare.createRevision({ prefix: `${request.name}/` }, '=', 0n);
  const tidy = last === undefined ? undefined : { ...last, if: [empty, ...(last.if ?? [])] };
  return { key: keyOf(request), removal: removeAll(request), tidy };
}

/** The key as it will be once it has been taken. */
function imagined(request: TicketRequest, revision: bigint): KeyValue {
  return new KeyValue({
    createRevision: revision,
    key: Buffer.from(keyOf(request)),
    lease: request.session.leaseId,
    modRevision: revision,
    value: Buffer.from(request.value),
    version: 1n,
  });
}

/** What was held is no longer held, so nothing was written. */
export function notHeld(key: string): ConclaveError {
  const text = `${key} is no longer held, so nothing was written: it was released, handed over or lost. Acquire it again.`;
  return new ConclaveError('NOT_HELD', text, { key });
}
