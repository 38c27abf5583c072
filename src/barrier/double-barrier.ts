/**
 * A double barrier: `count` parties enter together, work, and leave together; then the next round can begin.
 *
 * Keys: `name/.double-barrier/party/<lease id in hex>-<id>`, one for each party, bound to its session's lease, from before
 * it enters until it leaves; `name/.double-barrier/ready`, durable, with the create revisions of the first
 * and the last party of the latest full round, and its count; `name/.once/<id>` while a party arrives (once.ts).
 * Invariant: parties of the round's count, created from its first party to its last, are inside; those after it wait.
 * `ready` moves only by a write that compares what it was, made by the party that is the `count`-th to wait, on a view of
 * the store in which that many wait and nobody is inside. So a round has `count` parties that were there at one revision,
 * and rounds never overlap. A party of another count that a full round has passed over is refused.
 * What a crashed round leaves behind has older revisions than any party to come: it can admit nobody, and it holds up the
 * next round only until the dead parties' leases end.
 *
 * Not guaranteed: that the parties of a full round live on. A party that crashes inside counts as having left, and one
 * that crashed while it waited counts as waiting, until its lease ends. When the last parties crash, or their session
 * ends without `leave`, `ready` stays until the next round has ended.
 */

import { ConclaveError } from '../errors/conclave-error.js';
import { leaseHex } from '../etcd/lease/lease.js';
import type { Session } from '../session/session.js';
import { ANY_SESSION, type AnySession, onSession } from '../session/sessions.js';
import { limitWait, orAborted, type WaitOptions, WAIT_OPTIONS } from '../util/abort.js';
import { checkCount, checkInstance, checkOptions } from '../util/validate.js';
import { follow, type View } from './follow.js';
import { keySpace } from '../util/key-space.js';
import { Once } from './once.js';
import { type Arrival, type Party, RoundKeys, ticketLost } from './round-keys.js';
import { isInside, partiesIn, readyIn, type SeenParty } from './round-view.js';
import { withinLimit } from './undo.js';
import { chance } from '../util/chance.js';

/** What a double barrier is. */
export interface DoubleBarrierOptions {
  /** How many parties make a round; at least 1. All parties must give the same. */
  readonly count: number;
}

type State =
  | { readonly is: 'outside' }
  | { readonly is: 'entering' | 'leaving' }
  | {
      readonly is: 'inside';
      readonly keys: RoundKeys;
      readonly party: Party;
      readonly round: bigint;
      readonly session: Session;
    };

/** Keys of parties that this process has made: others on the same lease are of an earlier life of the session. */
const living = new Set<string>();

/**
 * One object is one party.
 *
 * @example
 * const barrier = new DoubleBarrier(session, 'simulation', { count: 4 });
 * await barrier.enter();
 * await barrier.leave();
 */
export class DoubleBarrier {
  readonly name: string;
  readonly count: number;
  readonly #source: AnySession;
  readonly #prefix: string;
  #state: State = { is: 'outside' };

  /** Makes nothing in etcd. Throws TypeError or RangeError for a bad name (see `Barrier`) or count. */
  constructor(session: AnySession, name: string, options: DoubleBarrierOptions) {
    checkInstance(session, ANY_SESSION, "a double barrier's session");
    this.#prefix = keySpace(name, '.double-barrier', "a double barrier's name");
    this.name = name;
    checkOptions(options, ['count'], 'DoubleBarrier');
    this.count = checkCount(options.count, 'count', 1);
    this.#source = session;
  }

  /**
   * Resolves once `count` parties, we among them, are there and the round before has been left by all: with the round's
   * number, an etcd revision, the same for all its parties and greater than that of every earlier round. Parties beyond
   * `count` wait for the next round.
   *
   * Rejects with `ALREADY_HELD` when this object has entered already, `MISMATCH` when the first of the parties there
   * gives another count, or a full round that did passed over us, `TICKET_LOST` when our key is removed from outside,
   * `SESSION_LOST`, `CLOSED`, `UNAVAILABLE` or `UNKNOWN_OUTCOME` when our key could not be made within the client's time
   * limit; with the signal's reason or `TIMEOUT`. Always after our key has been removed: a round that was full by then
   * counts us as having entered and left. When etcd cannot be reached it rejects after 3 s, and the removal goes on until
   * it is confirmed, the client is closed or the lease ends; until then a round may count us.
   */
  async enter(options: WaitOptions = {}): Promise<bigint> {
    checkOptions(options, WAIT_OPTIONS, 'enter');
    const enter = (session: Session, signal: AbortSignal): Promise<bigint> => this.#enter(session, signal);
    return await onSession(this.#source, options, `enter ${this.name}`, enter, { again: false });
  }

  async #enter(session: Session, signal: AbortSignal): Promise<bigint> {
    if (this.#state.is !== 'outside') throw alreadyInside(this.name, this.#state.is);
    signal.throwIfAborted();
    this.#state = { is: 'entering' };
    const { client } = session;
    const keys = new RoundKeys(session, this.#prefix);
    const key = `${keys.party}${leaseHex(session.leaseId)}-${chance.id(12)}`;
    living.add(key);
    const once = new Once({ client, name: this.name, session });
    const arrival: Arrival = { key, once };
    const value = JSON.stringify({ count: this.count, pid: process.pid });
    const arriving = keys.arrive(arrival, value, signal);
    try {
      const party = await orAborted(arriving, signal);
      const round = await this.#admitted(keys, party, signal);
      this.#state = { is: 'inside', keys, party, round, session };
      return round;
    } catch (error) {
      await withinLimit(client, keys.giveUp(arrival, arriving));
      living.delete(key);
      this.#state = { is: 'outside' };
      session.throwIfEnded();
      throw error;
    } finally {
      void once.end();
    }
  }

  /**
   * Leaves, and resolves once every party of the round has left or died. Rejects with `NOT_HELD` when this object has
   * not entered; with the signal's reason, `TIMEOUT`, `SESSION_LOST` or `CLOSED` when that was not seen: we have left all
   * the same, once the removal of our key reaches etcd or with our session, and may enter again.
   */
  async leave(options: WaitOptions = {}): Promise<void> {
    checkOptions(options, WAIT_OPTIONS, 'leave');
    const state = this.#state;
    if (state.is !== 'inside') throw notInside(this.name, state.is);
    const { keys, party, round, session } = state;
    using limit = limitWait(session.client.clock, options, `leave ${this.name}`, [session.signal]);
    this.#state = { is: 'leaving' };
    try {
      const wasLast = await orAborted(keys.depart(party), limit.signal);
      if (!wasLast) await this.#left(keys, round, limit.signal);
    } finally {
      living.delete(party.key);
      this.#state = { is: 'outside' };
    }
  }

  async #admitted(keys: RoundKeys, party: Party, signal: AbortSignal): Promise<bigint> {
    let swept = false;
    const timeUp = (view: View): string => this.#whoIsThere(keys, view);
    const following = { patient: true, signal, timeUp };
    for await (const view of follow(this.#source.client, keys.prefix, following)) {
      if (view.keys.get(party.key)?.createRevision !== party.createRevision) throw ticketLost(party.key);
      const ready = readyIn(view, keys.ready);
      const parties = partiesIn(view, keys.party);
      const inside = parties.filter((each) => isInside(each, ready));
      if (inside.some(({ key }) => key === party.key)) return ready.last;
      // A full round has passed over us: it has another count.
      if (party.createRevision <= ready.last) throw mismatch(this.name, this.count, ready.count);
      const waiting = parties.filter(({ createRevision }) => createRevision > ready.last);
      // The first to come says how many make a round; others that came with another count are about to be refused.
      const agreed = (inside[0] ?? waiting[0])?.count;
      if (agreed !== this.count) throw mismatch(this.name, this.count, agreed);
      if (!swept) {
        swept = true;
        // What is removed here is still in this view: judge the next one.
        if (await keys.sweep(parties.filter(({ key }) => !living.has(key)))) continue;
      }
      // The one who makes the round full says so: nobody else has to, for if it dies the round is not full.
      const alike = waiting.filter(({ count }) => count === agreed);
      const [first] = alike;
      if (inside.length === 0 && first !== undefined && alike[this.count - 1]?.key === party.key) {
        const round = { count: this.count, first: first.createRevision, last: party };
        await keys.declareReady(round, ready, signal);
      }
    }
    throw ticketLost(party.key); // Never: following does not end by itself.
  }

  async #left(keys: RoundKeys, round: bigint, signal: AbortSignal): Promise<void> {
    const stayers = (view: View): readonly SeenParty[] =>
      partiesIn(view, keys.party).filter(
        ({ count, createRevision }) => createRevision <= round && count === this.count,
      );
    const timeUp = (view: View): string => `${stayers(view).length} of ${this.count} have not left`;
    for await (const view of follow(this.#source.client, keys.prefix, { patient: true, signal, timeUp })) {
      if (stayers(view).length === 0) return;
    }
  }

  /** Why nobody is let in: too few have come, or the round before has not been left by all. */
  #whoIsThere(keys: RoundKeys, view: View): string {
    const ready = readyIn(view, keys.ready);
    const parties = partiesIn(view, keys.party);
    const inside = parties.filter((each) => isInside(each, ready)).length;
    if (inside > 0) return `${inside} of ${this.count} of the round before have not left`;
    return `${parties.length} of ${this.count} have come`;
  }
}

function alreadyInside(name: string, is: string): ConclaveError {
  const text = `double barrier ${name}: this object is ${is} already; leave first, or use one object for each party`;
  return new ConclaveError('ALREADY_HELD', text, { key: name });
}

function notInside(name: string, is: string): ConclaveError {
  const text = `double barrier ${name}: this object has not entered (it is ${is}); enter first`;
  return new ConclaveError('NOT_HELD', text, { key: name });
}

function mismatch(name: string, ours: number, theirs: number | undefined): ConclaveError {
  const text = `double barrier ${name} is entered by parties with count ${String(theirs)}, ours is ${String(ours)}: all must give the same`;
  return new ConclaveError('MISMATCH', text, { key: name });
}
