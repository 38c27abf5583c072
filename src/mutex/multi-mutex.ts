/**
 * Several locks at once, all or nothing, without deadlock.
 *
 * Keys: `name/<lease id in hex>-<id>` below each name, bound to the lease, the same last part for all.
 * Invariant: all keys are created in one transaction, so they share one create revision and every line agrees on their
 * order: whoever is earlier in one line is earlier in all, and nobody waits for one who waits for him. The holder is the
 * first in every line. Excludes a plain Mutex, Go's `concurrency.Mutex` and `etcdctl lock` of any of the names.
 *
 * Not guaranteed: freedom from deadlock with a task that holds one lock and asks for another; ask for all at once.
 * And as for every lock: a holder that ignores `signal` does not stop when its lock is lost.
 */
import { compare } from '../etcd/kv/compare.js';
import type { Client } from '../etcd/client.js';
import type { CallOptions } from '../etcd/transport/call.js';
import { op } from '../etcd/kv/op.js';
import type { Session } from '../session/session.js';
import { ANY_SESSION, type AnySession, onSession } from '../session/sessions.js';
import { untilAnswered } from '../etcd/transport/until-answered.js';
import { withinLimit } from '../ticket/attempt.js';
import { Hold } from '../ticket/hold.js';
import { gaveUp } from '../ticket/gave-up.js';
import { firstOnly, ticketLost } from '../ticket/line-audience.js';
import { isTicket } from '../ticket/line-keys.js';
import { type LineReport, reportLine } from '../ticket/inspect.js';
import { ownerValue } from '../ticket/owner.js';
import { kvsOf, readOps } from '../ticket/read-line.js';
import { firstKv, type TicketRequest } from '../ticket/take.js';
import { keepIfAdmitted, MOST_RACES, takeAll } from '../ticket/taking.js';
import { tellAcquire } from '../ticket/tell-acquire.js';
import { Ticket } from '../ticket/ticket.js';
import { limitWait, sleep, WAIT_OPTIONS, type WaitOptions } from '../util/abort.js';
import { backoffMs } from '../util/backoff.js';
import { checkPlainName } from '../util/key-space.js';
import { checkInstance, checkOptions } from '../util/validate.js';
import { runUnder } from './admission.js';
import { newSuffix } from './tag.js';

/** etcd's limit of operations in one transaction. */
const MOST_NAMES = 128;

/** Several locks that are held. The token is greater than that of every earlier hold of any of the names. */
export class MultiLock extends Hold {
  /** The keys held, in the order of the names. */
  readonly keys: readonly string[];

  /** Made by `MultiMutex`. */
  constructor(tickets: readonly [Ticket, ...Ticket[]], fencingToken: bigint) {
    const [ticket, ...others] = tickets;
    super({
      fencingToken,
      guards: tickets.map(({ there }) => there),
      others,
      release: () => Ticket.leaveAll(tickets),
      ticket,
    });
    this.keys = tickets.map(({ key }) => key);
  }

  /**
   * Gives all locks back, in one transaction. Resolves once that is confirmed; rejects when it cannot be, and may then be
   * called again. Calling twice is safe.
   */
  unlock(): Promise<void> {
    return this.release();
  }
}

/**
 * @example
 * const both = new MultiMutex(session, ['accounts/1', 'accounts/2']);
 * await using lock = await both.lock({ timeoutMs: 5000 });
 */
export class MultiMutex {
  /** The names, each once. */
  readonly names: readonly string[];
  readonly #source: AnySession;

  /**
   * Makes nothing in etcd. A name given twice counts once. Throws TypeError for an empty name or one with a NUL,
   * RangeError for no name or more than 128, the most that etcd takes in one transaction.
   */
  constructor(session: AnySession, names: readonly string[]) {
    checkInstance(session, ANY_SESSION, "a multi-mutex's session");
    if (!Array.isArray(names)) throw new TypeError("a multi-mutex's names must be an array of strings");
    this.names = [...new Set(names.map((name) => checkPlainName(name, "a multi-mutex's name")))];
    const { length } = this.names;
    if (length < 1 || length > MOST_NAMES) {
      const text = `a multi-mutex takes 1 to ${String(MOST_NAMES)} names (etcd's limit for one transaction), not ${String(length)}`;
      throw new RangeError(text);
    }
    this.#source = session;
  }

  /**
   * Resolves with the lock once we are first in every line. Rejects with the signal's reason, or `TIMEOUT`, after our
   * keys have been removed; at once with `SESSION_LOST` when the session dies and `TICKET_LOST` when one of our keys is
   * removed from outside. Calling twice makes two holds, of which the second waits for the first.
   */
  async lock(options: WaitOptions = {}): Promise<MultiLock> {
    return this.#acquire(options, 'lock', async (session, signal) => {
      const tickets = (await takeAll(this.#requests(session), signal)) ?? [];
      return await holdOrLeave(session, tickets, firstInAll(session.client, tickets, signal));
    });
  }

  /**
   * As `lock`, but resolves with undefined, leaving nothing in etcd, when somebody else holds one of the names or waits
   * for it. Writes nothing then, unless others go on writing below the names: it has then stood in line for a moment.
   */
  async tryLock(options: WaitOptions = {}): Promise<MultiLock | undefined> {
    return this.#acquire(options, 'tryLock', (session, signal) => this.#tryLock(session, signal));
  }

  async #tryLock(session: Session, signal: AbortSignal): Promise<MultiLock | undefined> {
    const requests = this.#requests(session);
    const prefixes = requests.map(({ name }) => ({ prefix: `${name}/` }));
    const { client } = session;
    for (let tries = 0; ; tries++) {
      const looks = readOps(this.names, { keysOnly: true });
      const { responses, revision } = await client.kv.txn({ then: looks }, { signal });
      const busy = responses.some((response, at) =>
        kvsOf(response).some((kv) => isTicket(kv, requests[at]?.name ?? '')),
      );
      if (busy) return undefined;
      // With as many names as a transaction has compares, there is no room for what the request itself compares.
      if (tries >= MOST_RACES || requests.length === MOST_NAMES)
        return await tryInLine(session, requests, signal);
      const guards = prefixes.map((prefix) => compare.modRevision(prefix, '<', revision + 1n));
      const tickets = await takeAll(requests, signal, { guards, impliesMissing: true });
      if (tickets !== undefined) return holdOf(tickets, tickets[0]?.createRevision ?? 0n);
      // Somebody else wrote in between; look again.
      await sleep(client.clock, backoffMs(tries), signal);
    }
  }

  /**
   * Locks, runs `work`, unlocks, and resolves with what it returned. Rejects with the reason of the loss when the lock
   * was lost before `work` was done, even if `work` went through.
   */
  async run<T>(work: (lock: MultiLock) => T | Promise<T>, options: WaitOptions = {}): Promise<T> {
    return runUnder(
      () => this.lock(options),
      work,
      (lock) => lock.unlock(),
    );
  }

  /** Who holds and who waits for each of the names, in order, all at one revision. One linearizable read. */
  async inspect(options: CallOptions = {}): Promise<ReadonlyMap<string, LineReport>> {
    checkOptions(options, WAIT_OPTIONS, 'inspect');
    const looks = readOps(this.names);
    const { responses, revision } = await this.#source.client.kv.txn({ then: looks }, options);
    return new Map(
      this.names.map((name, at) => {
        const kvs = kvsOf(responses[at]);
        return [name, reportLine({ kvs, revision }, { describe: (entry) => entry, name, policy: firstOnly })];
      }),
    );
  }

  async #acquire<H extends MultiLock | undefined>(
    options: WaitOptions,
    what: string,
    work: (session: Session, signal: AbortSignal) => Promise<H>,
  ): Promise<H> {
    checkOptions(options, WAIT_OPTIONS, what);
    const name = `${this.names.slice(0, 3).join(', ')}${this.names.length > 3 ? ', …' : ''}`;
    return tellAcquire(this.#source, { kind: 'multiMutex', name }, () =>
      onSession(this.#source, options, `${what} ${name}`, work),
    );
  }

  #requests(session: Session): TicketRequest[] {
    const suffix = newSuffix(session);
    const value = ownerValue(session);
    return this.names.map((name) => ({ name, session, suffix, value }));
  }
}

/** Stands in every line, and leaves them again if it is not first in each. */
async function tryInLine(
  session: Session,
  requests: readonly TicketRequest[],
  signal: AbortSignal,
): Promise<MultiLock | undefined> {
  const tickets = (await takeAll(requests, signal)) ?? [];
  const admitted = await keepIfAdmitted(tickets, signal, () => Ticket.leaveAll(tickets));
  return admitted === undefined
    ? undefined
    : holdOrLeave(session, tickets, proofOfAll(session.client, tickets, signal));
}

/** The hold once `proof` is there; leaves all lines if that fails. */
async function holdOrLeave(
  session: Session,
  tickets: readonly Ticket[],
  proof: Promise<bigint>,
): Promise<MultiLock> {
  try {
    return holdOf(tickets, await proof);
  } catch (error) {
    const [told] = await Promise.all([
      Promise.all(tickets.map((ticket) => gaveUp(error, ticket))),
      withinLimit(session, Ticket.leaveAll(tickets)),
    ]);
    throw told.find((each) => each !== error) ?? error;
  }
}

function holdOf(tickets: readonly Ticket[], token: bigint): MultiLock {
  const [first, ...others] = tickets;
  if (first === undefined) throw new RangeError('a multi-mutex takes at least one name');
  return new MultiLock([first, ...others], token);
}

/**
 * Resolves with the revision that proves it once the tickets are first in every line. Rejects with `TICKET_LOST` as soon as
 * one of the keys goes, also while others are waited for, and with the signal's reason.
 */
async function firstInAll(client: Client, tickets: readonly Ticket[], signal: AbortSignal): Promise<bigint> {
  if (tickets.every(({ firstAt }) => firstAt !== undefined)) {
    signal.throwIfAborted();
    return tickets[0]?.firstAt ?? 0n;
  }
  const failed = new AbortController();
  using limit = limitWait(client.clock, { signal }, 'lock', [failed.signal]);
  const stops = tickets.map(({ createRevision, key, line }) =>
    line.follow({ createRevision, gone: () => failed.abort(ticketLost(key)), key }),
  );
  try {
    const waiting = tickets.filter(({ firstAt }) => firstAt === undefined);
    const [proof = 0n] = await Promise.all(waiting.map((ticket) => ticket.turn(firstOnly, limit.signal)));
    return tickets.length === 1 ? proof : await proofOfAll(client, tickets, limit.signal);
  } catch (error) {
    failed.abort(error);
    throw error;
  } finally {
    for (const stop of stops) stop();
  }
}

/**
 * The revision that proves that tickets which were each seen to be first are so together: who is first stays first for as
 * long as his key is there, and every line has told its part at a time of its own, maybe long ago. Goes on asking in an
 * outage; rejects with `TICKET_LOST` when one of them is gone.
 */
async function proofOfAll(
  { clock, kv }: Client,
  tickets: readonly Ticket[],
  signal: AbortSignal,
): Promise<bigint> {
  const looks = tickets.map(({ key }) => op.get(key, { keysOnly: true }));
  const question = { else: looks, if: tickets.map(({ there }) => there) };
  const { responses, revision, succeeded } = await untilAnswered(clock, signal, () =>
    kv.txn(question, { signal }),
  );
  if (succeeded) return revision;
  const gone = tickets.find(
    ({ createRevision }, at) => firstKv(responses[at])?.createRevision !== createRevision,
  );
  throw ticketLost((gone ?? tickets[0])?.key ?? '');
}
