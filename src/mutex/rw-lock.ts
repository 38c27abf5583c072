/**
 * A read-write lock across machines.
 *
 * Keys: `name/<lease id in hex>-<id>`, one for each hold or wait, bound to the lease; the value is a small JSON of who it
 * is and its mode. `name.~upgrade`, bound to the lease, while a reader asks to become the writer.
 * Invariant: the holders are the leading readers of the line, or its first writer; the line is in the order of create
 * revisions. So a writer waits only for those before it, and readers that come after a waiting writer wait behind it.
 * A plain Mutex, Go's `concurrency.Mutex` and `etcdctl lock` of the same name are writers here, and wait for our keys.
 *
 * Not guaranteed: that a holder which ignores `signal` stops when its lock is lost; see `Hold.txn` and `fencingToken`.
 * A reader that upgrades goes ahead of those who wait, so writes under an upgrade are not in the order of arrival.
 */
import type { CallOptions } from '../etcd/transport/call.js';
import type { Session } from '../session/session.js';
import { ANY_SESSION, type AnySession, onSession } from '../session/sessions.js';
import type { Hold } from '../ticket/hold.js';
import { inspectLine, type LineReport } from '../ticket/inspect.js';
import { ownerValue } from '../ticket/owner.js';
import type { TicketRequest } from '../ticket/take.js';
import { takeIfAdmitted, takeTicket } from '../ticket/taking.js';
import { tellAcquire } from '../ticket/tell-acquire.js';
import type { Ticket } from '../ticket/ticket.js';
import { WAIT_OPTIONS, type WaitOptions } from '../util/abort.js';
import { checkPlainName } from '../util/key-space.js';
import { checkInstance, checkOptions } from '../util/validate.js';
import { admission, runUnder } from './admission.js';
import { type LockEntry, rwInspection } from './rw-inspect.js';
import { ReadLock, WriteLock } from './rw-holds.js';
import { readersOrWriter, upgradeKeyOf } from './rw-policy.js';
import { type LockMode, newSuffix } from './tag.js';

/**
 * @example
 * const lock = new RWLock(session, 'prices');
 * await lock.read(async () => readPrices());
 * await using write = await lock.writeLock({ timeoutMs: 5000 });
 */
export class RWLock {
  readonly name: string;
  readonly #source: AnySession;

  /** Makes nothing in etcd. Throws TypeError for an empty name, one with a NUL or with a segment like `.queue`. */
  constructor(session: AnySession, name: string) {
    checkInstance(session, ANY_SESSION, "a read-write lock's session");
    this.name = checkPlainName(name, "a read-write lock's name");
    this.#source = session;
  }

  /**
   * Resolves with a read hold once all ahead of us are readers. Rejects with the signal's reason, or `TIMEOUT`, after our
   * key has been removed; at once with `SESSION_LOST` when the session dies and `TICKET_LOST` when our key is removed
   * from outside. Calling it twice makes two holds; a task that reads and asks to read again may wait behind a writer
   * that waits for it.
   */
  async readLock(options: WaitOptions = {}): Promise<ReadLock> {
    return this.#lock('read', options, (ticket, token) => new ReadLock(ticket, token));
  }

  /** Resolves with the write hold once nobody is ahead of us. Rejects as `readLock` does. */
  async writeLock(options: WaitOptions = {}): Promise<WriteLock> {
    return this.#lock('write', options, (ticket, token) => new WriteLock(ticket, token));
  }

  /**
   * As `readLock`, but resolves with undefined, leaving nothing in etcd, when it cannot be had at once. Writes nothing
   * then, unless others go on writing below the name: it has then stood in line for a moment.
   */
  async tryReadLock(options: WaitOptions = {}): Promise<ReadLock | undefined> {
    return this.#tryLock('read', options, (ticket, token) => new ReadLock(ticket, token));
  }

  /** As `writeLock`, but resolves with undefined when it cannot be had at once, as `tryReadLock` does. */
  async tryWriteLock(options: WaitOptions = {}): Promise<WriteLock | undefined> {
    return this.#tryLock('write', options, (ticket, token) => new WriteLock(ticket, token));
  }

  /**
   * Runs `work` under a read lock and resolves with what it returned. Rejects with the reason of the loss when the lock
   * was lost before `work` was done, even if `work` went through.
   */
  async read<T>(work: (lock: ReadLock) => T | Promise<T>, options: WaitOptions = {}): Promise<T> {
    return runUnder(
      () => this.readLock(options),
      work,
      (lock) => lock.unlock(),
    );
  }

  /** Runs `work` under the write lock, as `read` does. */
  async write<T>(work: (lock: WriteLock) => T | Promise<T>, options: WaitOptions = {}): Promise<T> {
    return runUnder(
      () => this.writeLock(options),
      work,
      (lock) => lock.unlock(),
    );
  }

  /** Who holds and who waits, in order, and how; keys of other clients too. One linearizable read. */
  async inspect(options: CallOptions = {}): Promise<LineReport<LockEntry>> {
    checkOptions(options, WAIT_OPTIONS, 'inspect');
    return await inspectLine(this.#source.client, rwInspection(this.name), options);
  }

  #lock<H extends Hold>(
    mode: LockMode,
    options: WaitOptions,
    make: (ticket: Ticket, token: bigint) => H,
  ): Promise<H> {
    return this.#acquire(mode, options, async (session, signal) => {
      const ticket = await takeTicket(this.#request(session, mode), signal);
      return make(ticket, await admission(ticket, readersOrWriter, signal));
    });
  }

  #tryLock<H extends Hold>(
    mode: LockMode,
    options: WaitOptions,
    make: (ticket: Ticket, token: bigint) => H,
  ): Promise<H | undefined> {
    return this.#acquire(mode, options, async (session, signal) => {
      const taken = await takeIfAdmitted(this.#request(session, mode), (beside) => ({ beside }), signal);
      return taken === undefined ? undefined : make(taken.ticket, taken.token);
    });
  }

  async #acquire<H extends Hold | undefined>(
    mode: LockMode,
    options: WaitOptions,
    work: (session: Session, signal: AbortSignal) => Promise<H>,
  ): Promise<H> {
    checkOptions(options, WAIT_OPTIONS, `${mode}Lock`);
    return tellAcquire(this.#source, { kind: mode, name: this.name }, () =>
      onSession(this.#source, options, `${mode} lock ${this.name}`, work),
    );
  }

  #request(session: Session, mode: LockMode): TicketRequest {
    return {
      besideKey: upgradeKeyOf(this.name),
      name: this.name,
      policy: readersOrWriter,
      session,
      suffix: newSuffix(session),
      value: ownerValue(session, { mode }),
    };
  }
}
