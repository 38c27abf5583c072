/**
 * A barrier that one party holds closed while all others wait for it to open.
 *
 * Keys: `name/.barrier/held`, who holds it, a small JSON; and, unless it was held otherwise, `name/.barrier/holder`, bound
 * to the holder's lease. Both are written, and removed, in one transaction. `name/.once/<id>` for a moment (once.ts).
 * Invariant: the barrier is open while `held` is not there. It is broken while `held` is there, says that it has a
 * holder, and `holder` is not there: its holder died. Whoever waits, or comes to wait, is then told so.
 *
 * Not guaranteed: that a barrier stays open after a wait has ended: it may be held again at once. Not shared with Go's
 * `recipe.Barrier`, whose key has no lease and no owner.
 */
import { ConclaveError, hasCode } from '../errors/conclave-error.js';
import { Client } from '../etcd/client.js';
import { compare } from '../etcd/kv/compare.js';
import type { KeyValue } from '../etcd/kv/key-value.js';
import { op } from '../etcd/kv/op.js';
import type { Session } from '../session/session.js';
import { ANY_SESSION, type AnySession, endOf, onSession } from '../session/sessions.js';
import { type OwnerInfo, readOwner } from '../ticket/owner.js';
import { limitWait, orAborted, type WaitOptions, WAIT_OPTIONS } from '../util/abort.js';
import { checkInstance, checkOptions } from '../util/validate.js';
import { BarrierHold } from './barrier-hold.js';
import { closing, type IfHolderDies, type Keys } from './closing.js';
import { follow, isLimited, type View } from './follow.js';
import { keySpace } from '../util/key-space.js';
import { undo } from './undo.js';

/** How a barrier is held. */
export interface BarrierHoldOptions extends WaitOptions {
  /**
   * What becomes of the barrier when the holder's session ends before it was released. `'break'`: every wait rejects
   * with `BROKEN`, at once and from then on, until somebody holds it again or resets it: nobody goes on to work that was
   * only half prepared. `'open'`: it opens. `'stay'`: it stays closed, as Go's does, until it is reset; needs no session.
   * @default 'break'
   */
  readonly ifHolderDies?: IfHolderDies | undefined;
}

/** What a barrier looks like from outside. */
export interface BarrierState {
  readonly state: 'open' | 'held' | 'broken';
  /** Who holds it, or held it when it broke. */
  readonly owner: OwnerInfo | undefined;
}

/**
 * @example
 * const barrier = new Barrier(session, 'migration');
 * await using hold = await barrier.hold(); // elsewhere: await new Barrier(session, 'migration').wait()
 */
export class Barrier {
  readonly name: string;
  readonly #client: Client;
  readonly #source: AnySession | undefined;
  readonly #keys: Keys;
  readonly #prefix: string;
  #hold: BarrierHold | undefined;

  /**
   * Makes nothing in etcd. With a client instead of a session it can wait, and hold with `ifHolderDies: 'stay'`.
   * Throws TypeError for an empty name, one with a NUL or with a segment `.barrier`, `.double-barrier`, `.latch`, `.once` or `.queue`.
   */
  constructor(sessionOrClient: AnySession | Client, name: string) {
    checkInstance(sessionOrClient, { Client, ...ANY_SESSION }, "a barrier's session");
    this.#prefix = keySpace(name, '.barrier', "a barrier's name");
    this.name = name;
    this.#source = sessionOrClient instanceof Client ? undefined : sessionOrClient;
    this.#client = sessionOrClient instanceof Client ? sessionOrClient : sessionOrClient.client;
    this.#keys = { held: `${this.#prefix}held`, holder: `${this.#prefix}holder` };
  }

  /**
   * Closes the barrier. Rejects with `ALREADY_HELD` when somebody (or this object) holds it; a broken barrier is taken
   * over. Rejects with the signal's reason, or `TIMEOUT`, after what it wrote was removed, or after 3 s when etcd cannot be
   * reached: the removal then goes on until it is confirmed or the client is closed. Likewise `SESSION_LOST`, and
   * `UNKNOWN_OUTCOME` or `UNAVAILABLE` when no member answered within the client's time limit, whatever `timeoutMs` is.
   */
  async hold(options: BarrierHoldOptions = {}): Promise<BarrierHold> {
    checkOptions(options, ['ifHolderDies', 'signal', 'timeoutMs'], 'Barrier.hold');
    const mode = checkMode(options.ifHolderDies);
    const what = `hold barrier ${this.name}`;
    if (this.#source !== undefined) {
      const close = (session: Session, signal: AbortSignal): Promise<BarrierHold> =>
        this.#close(mode, signal, session);
      return await onSession(this.#source, options, what, close, { again: false });
    }
    if (mode !== 'stay') {
      throw new TypeError(
        `Barrier.hold: without a session only ifHolderDies: 'stay' is possible, not '${mode}'`,
      );
    }
    using limit = limitWait(this.#client.clock, options, what);
    return await this.#close(mode, limit.signal, undefined);
  }

  async #close(mode: IfHolderDies, signal: AbortSignal, session: Session | undefined): Promise<BarrierHold> {
    signal.throwIfAborted();
    const attempt = closing({
      client: this.#client,
      keys: this.#keys,
      mode,
      name: this.name,
      session,
    });
    const writing = attempt.write(signal);
    try {
      const revision = await orAborted(writing, signal);
      const hold = new BarrierHold({
        client: this.#client,
        keys: this.#keys,
        mode,
        onReleased: () => {
          if (this.#hold === hold) this.#hold = undefined;
        },
        prefix: this.#prefix,
        revision,
        session,
      });
      this.#hold = hold;
      return hold;
    } catch (error) {
      // Refused for sure: then there is nothing to undo.
      if (!hasCode(error, 'ALREADY_HELD')) await undo(this.#client, writing, attempt.undoing);
      session?.throwIfEnded();
      throw error;
    }
  }

  /**
   * Opens the barrier that this object holds. Rejects with `NOT_HELD` when it holds none (it was released, reset or lost)
   * and when its session has ended, so that the barrier broke. Calls at the same time share one release, and its outcome;
   * one that could not be confirmed (`UNKNOWN_OUTCOME`) may be called again, which finds out.
   */
  async release(): Promise<void> {
    if (this.#hold === undefined) throw notHolding(this.name);
    await this.#hold.release();
  }

  /**
   * Resolves once the barrier was seen open: at once if nobody holds it. Rejects with `BROKEN` when its holder has died,
   * the signal's reason, `TIMEOUT`, `SESSION_LOST`, or `CLOSED`; never resolves because a watch ended. It writes nothing.
   * It goes on while no member answers. Only one without `signal` and `timeoutMs`, begun then, rejects with `UNAVAILABLE`
   * or `DEADLINE_EXCEEDED` after the client's time limit.
   */
  async wait(options: WaitOptions = {}): Promise<void> {
    checkOptions(options, WAIT_OPTIONS, 'wait');
    const ended = this.#source === undefined ? [] : [endOf(this.#source)];
    using limit = limitWait(this.#client.clock, options, `wait for barrier ${this.name}`, ended);
    const timeUp = ({ keys }: View): string | undefined => heldBy(keys.get(this.#keys.held));
    const following = { patient: isLimited(options), signal: limit.signal, timeUp };
    let first: bigint | undefined;
    for await (const { keys } of follow(this.#client, this.#prefix, following)) {
      const held = keys.get(this.#keys.held);
      if (held === undefined) return;
      first ??= held.createRevision;
      // Closed by another key than before: it was open in between.
      if (held.createRevision !== first) return;
      if (isBroken(held, keys.get(this.#keys.holder))) throw broken(this.name, held);
    }
  }

  /** How the barrier is now. A linearizable read. */
  async inspect(): Promise<BarrierState> {
    const { kvs } = await this.#client.kv.range({ prefix: this.#prefix });
    const held = kvs.find((kv) => kv.key === this.#keys.held);
    if (held === undefined) return { owner: undefined, state: 'open' };
    const holder = kvs.find((kv) => kv.key === this.#keys.holder);
    return { owner: readOwner(held), state: isBroken(held, holder) ? 'broken' : 'held' };
  }

  /**
   * Opens the barrier whoever held it, also a broken one. Resolves with whether there was anything to open. The holder,
   * if it lives, finds its writes through `txn` refused. It does not touch who holds it after it was open in between.
   * Rejects with `UNKNOWN_OUTCOME` when the answer was lost.
   */
  async reset(): Promise<boolean> {
    const { held, holder } = this.#keys;
    const kv = await this.#client.kv.get(held);
    if (kv === undefined) return false;
    // The create revision stays when a broken barrier is taken over. Another one: it was open in between.
    const { succeeded } = await this.#client.kv.txn({
      if: [compare.createRevision(held, '=', kv.createRevision)],
      then: [op.delete(held), op.delete(holder)],
    });
    return succeeded;
  }
}

function checkMode(mode: unknown = 'break'): IfHolderDies {
  if (mode === 'break' || mode === 'open' || mode === 'stay') return mode;
  throw new TypeError(`ifHolderDies must be 'break', 'open' or 'stay', not ${JSON.stringify(mode)}`);
}

/** Whether the holder that `held` speaks of is gone. Both keys are of one revision of the store. */
function isBroken(held: KeyValue, holder: KeyValue | undefined): boolean {
  return readOwner(held)['ifHolderDies'] === 'break' && holder?.modRevision !== held.modRevision;
}

function heldBy(held: KeyValue | undefined): string | undefined {
  if (held === undefined) return undefined;
  const { host, pid, since } = readOwner(held);
  return `held by process ${String(pid)} on ${String(host)} since ${String(since)}`;
}

function broken(name: string, held: KeyValue): ConclaveError {
  const { host, pid } = readOwner(held);
  const text = `barrier ${name} is broken: its holder (process ${String(pid)} on ${String(host)}) died without releasing it; hold it again, or reset it`;
  return new ConclaveError('BROKEN', text, { key: held.key });
}

function notHolding(name: string): ConclaveError {
  return new ConclaveError('NOT_HELD', `barrier ${name} is not held by this object; hold it first`, {
    key: name,
  });
}
