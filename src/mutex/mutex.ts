/**
 * A lock across machines.
 *
 * Keys: `name/<lease id in hex>`, one for each session, bound to its lease; the value is a small JSON of who it is.
 * Invariant: the holder is the key with the lowest create revision; on one session, the one task that has its turn.
 * Excludes Go's `concurrency.Mutex` and `etcdctl lock` of the same name. First come, first served, by create revision;
 * tasks of one process on one session in the order of their calls.
 *
 * Not guaranteed: that a holder which ignores `signal` stops working when its lock is lost. Writes that must not happen
 * then go through `lock.txn`, or carry `fencingToken` to a resource that compares it.
 */
import type { CallOptions } from '../etcd/transport/call.js';
import type { Session } from '../session/session.js';
import { ANY_SESSION, type AnySession, onSession } from '../session/sessions.js';
import { withinLimit } from '../ticket/attempt.js';
import { gaveUp } from '../ticket/gave-up.js';
import { firstOnly } from '../ticket/line-audience.js';
import { Hold } from '../ticket/hold.js';
import { inspectLine, type LineEntry, type LineReport } from '../ticket/inspect.js';
import { ownerValue } from '../ticket/owner.js';
import { type Place, placeOf } from '../ticket/place.js';
import type { TicketRequest } from '../ticket/take.js';
import { takeIfFirst, takeTicket } from '../ticket/taking.js';
import { tellAcquire } from '../ticket/tell-acquire.js';
import type { Ticket } from '../ticket/ticket.js';
import type { EndTurn } from '../ticket/turns.js';
import { hasCode } from '../errors/conclave-error.js';
import { orAborted, WAIT_OPTIONS, type WaitOptions } from '../util/abort.js';
import { promised } from '../util/promised.js';
import { checkPlainName } from '../util/key-space.js';
import { checkInstance, checkOptions } from '../util/validate.js';
import { runUnder } from './admission.js';

/** A held lock. */
export class Lock extends Hold {
  /**
   * Gives the lock back, to the next task of this process if nobody waits elsewhere. Resolves once that is confirmed;
   * rejects when it cannot be, and may then be called again. Calling twice is safe.
   */
  unlock(): Promise<void> {
    return this.release();
  }
}

/**
 * @example
 * const mutex = new Mutex(session, 'orders/42');
 * await using lock = await mutex.lock({ timeoutMs: 5000 });
 * await lock.txn({ then: [op.put('orders/42/state', 'done')] });
 */
export class Mutex {
  readonly name: string;
  readonly #source: AnySession;

  /** Makes nothing in etcd. Throws TypeError for an empty name, one with a NUL or with a segment like `.queue`. */
  constructor(session: AnySession, name: string) {
    checkInstance(session, ANY_SESSION, "a mutex's session");
    this.name = checkPlainName(name, "a mutex's name");
    this.#source = session;
  }

  /**
   * Resolves with the lock once it is ours. Rejects with the signal's reason, or `TIMEOUT`, after our key has been
   * removed; at once with `SESSION_LOST` when the session dies and `TICKET_LOST` when our key is removed from outside.
   */
  lock(options: WaitOptions = {}): Promise<Lock> {
    return promised(() => {
      checkOptions(options, WAIT_OPTIONS, 'lock');
      return tellAcquire(this.#source, { kind: 'mutex', name: this.name }, () =>
        onSession(this.#source, options, `lock ${this.name}`, (session, signal) =>
          this.#lock(session, signal),
        ),
      );
    });
  }

  /** As `lock`, but resolves with undefined, leaving nothing in etcd, when somebody else holds it or waits for it. */
  async tryLock(options: WaitOptions = {}): Promise<Lock | undefined> {
    checkOptions(options, WAIT_OPTIONS, 'tryLock');
    return tellAcquire(this.#source, { kind: 'mutex', name: this.name }, () =>
      onSession(this.#source, options, `lock ${this.name}`, (session, signal) =>
        this.#tryLock(session, signal),
      ),
    );
  }

  /**
   * Locks, runs `work`, unlocks, and resolves with what it returned. Rejects with the reason of the loss when the lock
   * was lost before `work` was done, even if `work` went through.
   */
  async run<T>(work: (lock: Lock) => T | Promise<T>, options: WaitOptions = {}): Promise<T> {
    return runUnder(
      () => this.lock(options),
      work,
      (lock) => lock.unlock(),
    );
  }

  /**
   * Who holds and who waits, in order; keys of other clients too. One linearizable read. Tasks that share a session share
   * its key, so they appear once.
   */
  async inspect(options: CallOptions = {}): Promise<LineReport> {
    checkOptions(options, WAIT_OPTIONS, 'inspect');
    const inspection = { describe: (entry: LineEntry) => entry, name: this.name, policy: firstOnly };
    return await inspectLine(this.#source.client, inspection, options);
  }

  #lock(session: Session, signal: AbortSignal): Promise<Lock> {
    const place = placeOf(session, this.name);
    return place.enter(signal).then((endTurn) => lockInTurn(place, signal, endTurn));
  }

  async #tryLock(session: Session, signal: AbortSignal): Promise<Lock | undefined> {
    const place = placeOf(session, this.name);
    if (place.busy) return undefined;
    const endTurn = await place.enter(signal);
    try {
      const ticket = await takeIfFirst(requestAt(place), signal);
      if (ticket !== undefined) return await wait(place, ticket, signal, endTurn);
    } catch (error) {
      endTurn();
      throw error;
    }
    endTurn();
    return undefined;
  }
}

/** What is done by the one task of this process that has the turn at the session's key. */
async function lockInTurn(place: Place, signal: AbortSignal, endTurn: EndTurn): Promise<Lock> {
  try {
    const handed = await takeOver(place, signal);
    if (handed !== undefined) return hold(place, handed, handed.modRevision, endTurn);
    const ticket = await takeTicket(requestAt(place), signal);
    return await wait(place, ticket, signal, endTurn);
  } catch (error) {
    endTurn();
    throw error;
  }
}

function requestAt({ name, session, suffix }: Place): TicketRequest {
  return { name, session, suffix, value: ownerValue(session) };
}

/** Takes the ticket that the previous task of this process kept, by writing to it: the write's revision is our token. */
async function takeOver(place: Place, signal: AbortSignal): Promise<Ticket | undefined> {
  const kept = place.takeKept();
  if (kept === undefined) return undefined;
  const writing = kept.rewrite(ownerValue(place.session));
  try {
    await orAborted(writing, signal);
    signal.throwIfAborted();
    return kept;
  } catch (error) {
    // At once, so that a newer attempt waits for it. A write that arrives after the removal is refused.
    await withinLimit(place.session, kept.leave());
    if (hasCode(error, 'NOT_HELD')) return undefined;
    throw error;
  }
}

/** Waits for the ticket's turn; leaves the line if that fails. */
async function wait(place: Place, ticket: Ticket, signal: AbortSignal, endTurn: () => void): Promise<Lock> {
  try {
    const proof = ticket.firstAt ?? (await ticket.turn(firstOnly, signal));
    signal.throwIfAborted();
    return hold(place, ticket, proof > ticket.modRevision ? proof : ticket.modRevision, endTurn);
  } catch (error) {
    const [told] = await Promise.all([gaveUp(error, ticket), withinLimit(place.session, ticket.leave())]);
    throw told;
  }
}

function hold(place: Place, ticket: Ticket, fencingToken: bigint, endTurn: () => void): Lock {
  let leaving = false;
  const release = async (): Promise<void> => {
    // What is being removed must not be handed on: the removal would then end the next task's hold.
    if (!leaving && place.keep(ticket)) {
      endTurn();
      return;
    }
    leaving = true;
    try {
      await ticket.leave();
    } finally {
      endTurn();
    }
  };
  const lost = (): void => {
    leaving = true;
    void ticket.leaveIfAlive().then(endTurn, endTurn);
  };
  return new Lock({ fencingToken, lost, release, ticket });
}
