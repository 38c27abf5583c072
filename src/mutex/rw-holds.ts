/** What `RWLock` gives: a reader's hold, which may become the writer's, and the writer's, which may become a reader's. */
import { ConclaveError } from '../errors/conclave-error.js';
import { withinLimit } from '../ticket/attempt.js';
import { Hold } from '../ticket/hold.js';
import { ownerValue } from '../ticket/owner.js';
import { notHeld, type Ticket } from '../ticket/ticket.js';
import { limitWait, WAIT_OPTIONS, type WaitOptions } from '../util/abort.js';
import { checkOptions } from '../util/validate.js';
import { becomeWriter } from './rw-upgrade.js';

/** An upgrade under way, which a release waits for. */
interface Pending {
  upgrade: Promise<unknown> | undefined;
}

/**
 * A read lock that is held, maybe with others. Its token is greater than that of every earlier write hold, and smaller
 * than that of every later one; readers that hold together may have the same.
 */
export class ReadLock extends Hold {
  readonly #pending: Pending;

  /** Made by `RWLock`. */
  constructor(ticket: Ticket, fencingToken: bigint) {
    const pending: Pending = { upgrade: undefined };
    const release = async (): Promise<void> => {
      await pending.upgrade;
      await ticket.leave();
    };
    super({ fencingToken, release, ticket });
    this.#pending = pending;
  }

  /**
   * Gives the lock back. Resolves once that is confirmed; rejects when it cannot be, and may then be called again.
   * Calling twice is safe. An upgrade under way is withdrawn first.
   */
  unlock(): Promise<void> {
    return this.release();
  }

  /**
   * Becomes the writer. Resolves once we are the only reader, with the write hold; this one has then ended. Goes ahead
   * of everybody who waits, since a writer ahead of us would wait for us; readers that come after the request wait.
   * Rejects at once with `DEADLOCK` when another reader has asked before, with `TICKET_LOST` (its key is `name.~upgrade`)
   * when our request was removed from outside, with the signal's reason or `TIMEOUT`: then we read on as before and
   * nothing is left behind. Rejects with `NOT_HELD`, `TICKET_LOST` or `SESSION_LOST` when
   * nothing is held any more. Calling it again while it waits rejects with `DEADLOCK`.
   */
  async upgrade(options: WaitOptions = {}): Promise<WriteLock> {
    checkOptions(options, WAIT_OPTIONS, 'upgrade');
    if (!this.held) throw notHeld(this.key);
    if (this.#pending.upgrade !== undefined) {
      const text = `${this.key} is being upgraded already`;
      throw new ConclaveError('DEADLOCK', text, { key: this.key });
    }
    const upgrade = this.#upgrade(options);
    this.#pending.upgrade = upgrade.catch(() => undefined);
    try {
      return await upgrade;
    } finally {
      this.#pending.upgrade = undefined;
    }
  }

  async #upgrade(options: WaitOptions): Promise<WriteLock> {
    const { session } = this.ticket;
    using limit = limitWait(session.client.clock, options, `upgrade ${this.key}`, [this.signal]);
    const upgraded = await becomeWriter(this.ticket, limit.signal);
    if ('lost' in upgraded) {
      this.lost(upgraded.lost);
      await withinLimit(session, this.ticket.leave());
      throw upgraded.lost;
    }
    if (!this.held) throw notHeld(this.key); // Given back meanwhile: the key goes.
    this.ended(new ConclaveError('NOT_HELD', `${this.key} was upgraded`, { key: this.key }));
    this.passedOn();
    return new WriteLock(this.ticket, upgraded.token);
  }
}

/** A write lock that is held, by us alone. */
export class WriteLock extends Hold {
  readonly #given: { back: boolean };

  /** Made by `RWLock`. */
  constructor(ticket: Ticket, fencingToken: bigint) {
    const given = { back: false };
    const release = (): Promise<void> => {
      given.back = true;
      return ticket.leave();
    };
    super({ fencingToken, release, ticket });
    this.#given = given;
  }

  /**
   * Gives the lock back. Resolves once that is confirmed; rejects when it cannot be, and may then be called again.
   * Calling twice is safe.
   */
  unlock(): Promise<void> {
    return this.release();
  }

  /**
   * Becomes a reader without a gap: no writer gets in between, and readers that wait behind us are let in. The write hold
   * ends with the call, since they may be let in before the answer is here; resolves with the read hold. Rejects with
   * `NOT_HELD` when the lock is not ours any more; when the outcome cannot be found out, with that error, and the lock is
   * given up.
   */
  async downgrade(): Promise<ReadLock> {
    if (!this.held) throw notHeld(this.key);
    const { ticket } = this;
    this.ended(new ConclaveError('NOT_HELD', `${this.key} was downgraded`, { key: this.key }));
    let token: bigint;
    try {
      token = await ticket.rewrite(ownerValue(ticket.session, { mode: 'read' }));
    } catch (error) {
      await withinLimit(ticket.session, ticket.leave());
      throw error;
    }
    if (this.#given.back || !ticket.session.alive) throw notHeld(this.key); // The key goes.
    this.passedOn();
    return new ReadLock(ticket, token);
  }
}
