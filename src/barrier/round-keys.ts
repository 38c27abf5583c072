/** The keys of a double barrier and every write to them: each may be sent again, and a copy that comes late does nothing. */
import { ConclaveError } from '../errors/conclave-error.js';
import { type Compare, compare } from '../etcd/kv/compare.js';
import { leaseHex } from '../etcd/lease/lease.js';
import { type Op, op, type TxnSpec } from '../etcd/kv/op.js';
import { untilAnswered } from '../etcd/transport/until-answered.js';
import type { Session } from '../session/session.js';
import type { Once } from './once.js';
import type { Ready, SeenParty } from './round-view.js';

/** A party of ours. */
export interface Party {
  readonly key: string;
  readonly createRevision: bigint;
}

/** A party of ours that is to come: its key, and the write that makes it. */
export interface Arrival {
  readonly key: string;
  readonly once: Once;
}

/** A round that one of our parties makes full. */
export interface FullRound {
  /** The create revision of its first party. */
  readonly first: bigint;
  /** Its last party: ours. */
  readonly last: Party;
  readonly count: number;
}

/** A party is made anew when what it needs was removed from outside. */
const ARRIVAL_TRIES = 3;

/** The keys of one double barrier, for one session. */
export class RoundKeys {
  /** What all keys of the barrier begin with. */
  readonly prefix: string;
  /** What the keys of parties begin with. */
  readonly party: string;
  /** The key that says which round was full last. */
  readonly ready: string;
  readonly #session: Session;

  constructor(session: Session, prefix: string) {
    this.#session = session;
    this.prefix = prefix;
    this.party = `${prefix}party/`;
    this.ready = `${prefix}ready`;
  }

  /** Makes a party's key, once. After a rejection it must be given up: only then it is not made any more. */
  async arrive({ key, once }: Arrival, value: string, signal: AbortSignal): Promise<Party> {
    const { leaseId } = this.#session;
    const spec = { else: [op.get(key)], if: [], then: [op.put(key, value, { leaseId })] };
    for (let tries = 1; tries <= ARRIVAL_TRIES; tries++) {
      const result = await once.write(spec, signal);
      if (result.applied) return { createRevision: result.revision, key };
      // Nobody else makes a key of this name: one that is there is ours, of a try whose answer was lost.
      const [found] = result.found;
      const party = found?.type === 'get' ? found.kvs[0] : undefined;
      if (party !== undefined) return { createRevision: party.createRevision, key };
      // The permit was removed: with its lease, which the next try is told, or by somebody else.
    }
    throw ticketLost(key);
  }

  /** Says that a round is full, unless anything was said since `seen`. */
  async declareReady({ count, first, last }: FullRound, seen: Ready, signal: AbortSignal): Promise<void> {
    const { client } = this.#session;
    const guards = [
      compare.modRevision(this.ready, '=', seen.modRevision),
      compare.createRevision(last.key, '=', last.createRevision),
    ];
    const value = `${String(first)} ${String(last.createRevision)} ${String(count)}`;
    const spec = { if: guards, then: [op.put(this.ready, value)] };
    await untilAnswered(client.clock, signal, () => client.kv.txn(spec, { idempotent: true, signal }));
  }

  /** Removes our party's key, for as long as the client is there. Resolves, once that is confirmed, with whether no other party is left. */
  async depart(party: Party): Promise<boolean> {
    const there = compare.createRevision(party.key, '=', party.createRevision);
    const others = op.get({ prefix: this.party }, { keysOnly: true, limit: 1 });
    const tidy = op.txn(this.#tidying(party.key));
    const spec = { else: [tidy, others], if: [there], then: [op.delete(party.key), tidy, others] };
    const { client } = this.#session;
    const write = () => client.kv.txn(spec, { idempotent: true });
    const { responses } = await untilAnswered(client.clock, client.closed, write);
    const last = responses.at(-1);
    return last?.type === 'get' && last.kvs.length === 0;
  }

  /**
   * Takes back an arrival, also one that is still on its way, for as long as the client is there: `ready` outlives the session. While others are there
   * `ready` is touched in the same breath, so that a declaration made on a view in which we still waited is refused: once
   * this is confirmed, no round is declared full with us in it.
   */
  async giveUp({ key, once }: Arrival, arriving: Promise<unknown>): Promise<void> {
    const { client } = this.#session;
    await arriving.catch(() => undefined);
    const touch = op.txn({
      else: [op.put(this.ready, '0')],
      if: [compare.exists(this.ready)],
      then: [op.put(this.ready, '', { ignoreValue: true })],
    });
    const callOff = op.delete(once.key);
    const spec = {
      else: [callOff, op.txn(this.#tidying(key))],
      if: [compare.exists(key)],
      then: [callOff, op.delete(key), op.txn(this.#tidying(key, touch))],
    };
    await untilAnswered(client.clock, client.closed, () => client.kv.txn(spec, { idempotent: true }));
  }

  /**
   * Removes parties on our lease that no object of this process is: an earlier life of the session left them. Resolves with
   * whether there were any.
   */
  async sweep(strangers: readonly SeenParty[]): Promise<boolean> {
    const { client, leaseId, signal } = this.#session;
    const mine = `${this.party}${leaseHex(leaseId)}-`;
    const left = strangers.filter(({ key }) => key.startsWith(mine));
    for (const { key, createRevision } of left) {
      const spec = { if: [compare.createRevision(key, '=', createRevision)], then: [op.delete(key)] };
      await untilAnswered(client.clock, signal, () => client.kv.txn(spec, { idempotent: true }));
    }
    return left.length > 0;
  }

  /** Removes what was said of full rounds, if nobody but `key` is there: those to come are later than any of them. */
  #tidying(key: string, otherwise?: Op): TxnSpec {
    return {
      else: otherwise === undefined ? [] : [otherwise],
      if: this.#alone(key),
      then: [op.delete(this.ready)],
    };
  }

  /** No other party than `key` is there, and that one may be. */
  #alone(key: string): Compare[] {
    const { party } = this;
    const afterKey = { end: `${party.slice(0, -1)}0`, start: `${key}\0` }; // '0' is the character after '/'.
    const beforeKey = { end: key, start: party };
    return [beforeKey, afterKey].map((range) => compare.createRevision(range, '=', 0n));
  }
}

/** Our party's key was removed by somebody else, or with its lease. */
export function ticketLost(key: string): ConclaveError {
  const text = `${key} was removed by somebody else while we waited; enter again`;
  return new ConclaveError('TICKET_LOST', text, { key });
}
