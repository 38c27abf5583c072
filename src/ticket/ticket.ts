/**
 * A ticket: a lease-bound key `name/<suffix>`. Its create revision is its place in the line and the proof that a later
 * operation is still about this very ticket: everything done to it compares that revision, never the name alone.
 *
 * Taking one is a transaction that a compare guards (the key must not exist), so it can be repeated when its answer is
 * lost, and an answer that never comes is settled by looking: the key is then kept or removed. Nothing is left behind.
 */
import { ConclaveError, hasCode } from '../errors/conclave-error.js';
import { type Compare, compare } from '../etcd/compare.js';
import type { KeyValue } from '../etcd/key-value.js';
import type { OpResult, TxnResult } from '../etcd/kv.js';
import { type Op, op } from '../etcd/op.js';
import type { Session } from '../session/session.js';
import { orAborted, sleep } from '../util/abort.js';
import { isTicket, type Line, type Policy, ticketLost } from './line.js';
import { lineOf } from './lines.js';
import { sweeperOf } from './sweeper.js';

/** What a ticket is to be. */
export interface TicketRequest {
  readonly session: Session;
  /** The lock's, election's or queue's name; the key is `name/suffix`. */
  readonly name: string;
  readonly suffix: string;
  readonly value: string | Uint8Array;
}

/** What a transaction that takes a ticket found. */
interface Taken {
  readonly createRevision: bigint;
  readonly modRevision: bigint;
  readonly firstAt: bigint | undefined;
  readonly found: KeyValue | undefined;
}

/** A transaction that takes a ticket gets this long; then its outcome is found out by looking. */
const TAKE_MS = 5000;
/** How long a caller who gave up waits for the key to be removed; the removal goes on after that. */
const CLEAN_UP_MS = 3000;

export class Ticket {
  readonly session: Session;
  readonly name: string;
  readonly key: string;
  readonly createRevision: bigint;
  /** The revision at which the key was seen to be first when it was taken; undefined: others were ahead, or not looked. */
  readonly firstAt: bigint | undefined;
  /** What the key held when it was there before: a ticket of an earlier life on the same lease. */
  readonly found: KeyValue | undefined;
  readonly #taken: Taken;
  #modRevision: bigint;
  #left: Promise<void> | undefined;

  private constructor(request: TicketRequest, taken: Taken) {
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
    const taken = await attempt(request, signal, () => takeOnce(request));
    return new Ticket(request, taken);
  }

  /** As `take`, but only when nobody else is in line; undefined, and nothing left in etcd, when somebody is. */
  static async takeIfFirst(request: TicketRequest, signal: AbortSignal): Promise<Ticket | undefined> {
    const taken = await attempt(request, signal, () => takeIfEmpty(request));
    if (taken === 'occupied') {
      sweeperOf(request.session).putDown(keyOf(request));
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
      await withinLimit(request.session, ticket.leave());
      throw error;
    }
    await ticket.leave();
    return undefined;
  }

  /** The line this ticket stands in. */
  get line(): Line {
    return lineOf(this.session.client, this.name);
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
   * Writes a new value to the key while it is there. Resolves with the write's revision; rejects with `NOT_HELD` when
   * the ticket is gone. Safe when the answer is lost: the guarded write is sent again, and found.
   */
  async rewrite(value: string | Uint8Array, guards: readonly Compare[] = [this.there]): Promise<bigint> {
    const { client, leaseId } = this.session;
    const steps = { else: [op.get(this.key)], if: guards, then: [op.put(this.key, value, { leaseId })] };
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
      await orAborted(this.rewrite(value), signal);
    } catch (error) {
      throw hasCode(error, 'NOT_HELD') ? ticketLost(this.key) : error;
    }
  }

  /**
   * Gives the ticket back: deletes the key if it is still this one. Rejects when that could not be confirmed; it is then
   * tried until it is, or the session ends, and calling again waits for that.
   */
  leave(): Promise<void> {
    this.#left ??= this.#leave();
    return this.#left;
  }

  async #leave(): Promise<void> {
    const { session } = this;
    if (session.state === 'lost') return; // The lease takes the key with it.
    const removal = sweeperOf(session).remove(this.key, this.there);
    try {
      await removal.firstTry;
    } catch (error) {
      if (!session.alive) return; // Closed meanwhile: its lease, revoked or running out, takes the key with it.
      this.#left = removal.confirmed;
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
}

function keyOf({ name, suffix }: TicketRequest): string {
  return `${name}/${suffix}`;
}

function firstKv(response: OpResult | undefined): KeyValue | undefined {
  return response?.type === 'get' ? response.kvs[0] : undefined;
}

/** Runs `take`; when it is given up, or nobody can tell what came of it, undoes it. */
async function attempt<T>(request: TicketRequest, signal: AbortSignal, take: () => Promise<T>): Promise<T> {
  signal.throwIfAborted();
  const { session } = request;
  const sweeper = sweeperOf(session);
  const key = keyOf(request);
  await sweeper.takeUp(key, signal);
  const taking = take();
  try {
    return await orAborted(taking, signal);
  } catch (error) {
    if (hasCode(error, 'LEASE_NOT_FOUND')) session.leaseIsGone();
    if (signal.aborted || hasCode(error, 'UNKNOWN_OUTCOME')) {
      await withinLimit(session, sweeper.sweep(key, taking));
    } else {
      sweeper.putDown(key);
    }
    session.throwIfEnded();
    throw error;
  }
}

/** Looking at who is first spares the wait; whoever follows the line already takes the proof from there. */
function look({ session, name }: TicketRequest): Op[] {
  if (lineOf(session.client, name).live) return [];
  return [op.get({ prefix: `${name}/` }, { keysOnly: true, limit: 1, sort: { by: 'create', order: 'asc' } })];
}

/** One guarded transaction: create the key, and see in the same breath who is first. */
async function takeOnce(request: TicketRequest): Promise<Taken> {
  const { session, value } = request;
  const key = keyOf(request);
  const looking = look(request);
  const put = op.put(key, value, { leaseId: session.leaseId });
  const result = await session.client.kv.txn(
    { else: [op.get(key), ...looking], if: [compare.missing(key)], then: [put, ...looking] },
    { idempotent: true, timeoutMs: TAKE_MS },
  );
  return readTaken(request, result);
}

/** As `takeOnce`, but only if there is no key below the name at all. */
async function takeIfEmpty(request: TicketRequest): Promise<Taken | 'occupied' | 'unclear'> {
  const { session, name, value } = request;
  const key = keyOf(request);
  const prefix = { prefix: `${name}/` };
  const firstFew = op.get(prefix, { keysOnly: true, limit: 100, sort: { by: 'create', order: 'asc' } });
  const put = op.put(key, value, { leaseId: session.leaseId });
  const result = await session.client.kv.txn(
    { else: [op.get(key), firstFew], if: [compare.createRevision(prefix, '=', 0n)], then: [put] },
    { idempotent: true, timeoutMs: TAKE_MS },
  );
  if (result.succeeded) {
    return {
      createRevision: result.revision,
      firstAt: result.revision,
      found: undefined,
      modRevision: result.revision,
    };
  }
  const [own, ahead] = result.responses;
  if (firstKv(own) !== undefined) return 'unclear';
  const others = ahead?.type === 'get' ? ahead.kvs : [];
  return others.some((kv) => isTicket(kv, name)) ? 'occupied' : 'unclear';
}

function readTaken(request: TicketRequest, result: TxnResult): Taken {
  const key = keyOf(request);
  const firstAt = firstKv(result.responses[1])?.key === key ? result.revision : undefined;
  if (result.succeeded) {
    return { createRevision: result.revision, firstAt, found: undefined, modRevision: result.revision };
  }
  const found = firstKv(result.responses[0]);
  if (found?.leaseId !== request.session.leaseId) {
    const owner = found?.leaseId === undefined ? 'no lease' : `lease ${found.leaseId.toString(16)}`;
    const text = `${key} is bound to ${owner}, not to our session's: somebody else wrote it. Delete it, or use another name.`;
    throw new ConclaveError('TICKET_LOST', text, { key });
  }
  const fromLostTry = found.value.equals(Buffer.from(request.value));
  return {
    createRevision: found.createRevision,
    firstAt,
    found: fromLostTry ? undefined : found,
    modRevision: found.modRevision,
  };
}

/** Waits for a clean-up, but not longer than its limit, and whatever comes of it. */
export async function withinLimit(session: Session, cleanUp: Promise<void>): Promise<void> {
  const stop = new AbortController();
  const limit = sleep(session.client.clock, CLEAN_UP_MS, stop.signal).catch(() => undefined);
  await Promise.race([cleanUp.catch(() => undefined), limit]);
  stop.abort();
}

/** What was held is no longer held, so nothing was written. */
export function notHeld(key: string): ConclaveError {
  const text = `${key} is no longer held, so nothing was written: it was released, handed over or lost. Acquire it again.`;
  return new ConclaveError('NOT_HELD', text, { key });
}
