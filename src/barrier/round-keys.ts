/** The keys of a double barrier and every write to them: all guarded, so that each may be sent again. */
import { hasCode } from '../errors/conclave-error.js';
import { type Compare, compare } from '../etcd/compare.js';
import { leaseHex } from '../etcd/lease.js';
import { type Op, op, type TxnSpec } from '../etcd/op.js';
import { untilAnswered } from '../etcd/until-answered.js';
import type { Session } from '../session/session.js';
import { sweeperOf } from '../ticket/sweeper.js';
import type { Ready, SeenParty } from './round-view.js';

/** A party of ours. */
export interface Party {
  readonly key: string;
  readonly createRevision: bigint;
}

/** A round that one of our parties makes full. */
export interface FullRound {
  /** The create revision of its first party. */
  readonly first: bigint;
  /** Its last party: ours. */
  readonly last: Party;
  readonly count: number;
}

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

  /** Makes a party's key. Rejects with `UNKNOWN_OUTCOME` when nobody knows whether it is there. */
  async arrive(key: string, value: string): Promise<Party> {
    const { client, leaseId } = this.#session;
    const put = op.put(key, value, { leaseId });
    const spec = { else: [op.get(key)], if: [compare.missing(key)], then: [put] };
    const result = await client.kv.txn(spec, { idempotent: true }).catch((error: unknown) => {
      if (hasCode(error, 'LEASE_NOT_FOUND')) this.#session.leaseIsGone();
      throw error;
    });
    const [found] = result.responses[0]?.type === 'get' ? result.responses[0].kvs : [];
    // Nobody else makes a key of this name: one that is there is ours, of a try whose answer was lost.
    return { createRevision: found?.createRevision ?? result.revision, key };
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
   * Takes back an arrival, for as long as the client is there: `ready` outlives the session. While others are there
   * `ready` is touched in the same breath, so that a declaration made on a view in which we still waited is refused: once
   * this is confirmed, no round is declared full with us in it.
   */
  async giveUp(key: string, arriving: Promise<unknown>): Promise<void> {
    const { client } = this.#session;
    const unknown = await arriving.then(
      () => false,
      (error: unknown) => hasCode(error, 'UNKNOWN_OUTCOME'),
    );
    const touch = op.txn({
      else: [op.put(this.ready, '0')],
      if: [compare.exists(this.ready)],
      then: [op.put(this.ready, '', { ignoreValue: true })],
    });
    const spec = {
      else: [op.txn(this.#tidying(key))],
      if: [compare.exists(key)],
      then: [op.delete(key), op.txn(this.#tidying(key, touch))],
    };
    await untilAnswered(client.clock, client.closed, () => client.kv.txn(spec, { idempotent: true }));
    const tidy = async (): Promise<void> => {
      await client.kv.txn(this.#tidying(key), { idempotent: true });
    };
    if (unknown) await sweeperOf(this.#session).sweep({ key, tidy }, arriving);
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
