/** The keys of a double barrier and every write to them: all guarded, so that each may be sent again. */
import { hasCode } from '../errors/conclave-error.js';
import { compare } from '../etcd/compare.js';
import { leaseHex } from '../etcd/lease.js';
import { op } from '../etcd/op.js';
import type { Session } from '../session/session.js';
import { sweeperOf } from '../ticket/sweeper.js';
import type { Ready, SeenParty } from './round-view.js';
import { untilAnswered } from '../etcd/until-answered.js';

/** A party of ours. */
export interface Party {
  readonly key: string;
  readonly createRevision: bigint;
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

  constructor(session: Session, name: string) {
    this.#session = session;
    this.prefix = `${name}/double-barrier/`;
    this.party = `${this.prefix}party/`;
    this.ready = `${this.prefix}ready`;
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

  /** Says that the round which this party completes is full, unless anything was said since `seen`. */
  async declareReady(party: Party, seen: Ready, signal: AbortSignal): Promise<void> {
    const { client } = this.#session;
    const guards = [
      compare.modRevision(this.ready, '=', seen.modRevision),
      compare.createRevision(party.key, '=', party.createRevision),
    ];
    const spec = { if: guards, then: [op.put(this.ready, String(party.createRevision))] };
    await untilAnswered(client.clock, signal, () => client.kv.txn(spec, { idempotent: true, signal }));
  }

  /** Removes our party's key. Resolves, once that is confirmed, with whether no other party is left. */
  async depart(party: Party): Promise<boolean> {
    const there = compare.createRevision(party.key, '=', party.createRevision);
    const others = op.get({ prefix: this.party }, { keysOnly: true, limit: 1 });
    const spec = { else: [others], if: [there], then: [op.delete(party.key), others] };
    const { client, signal } = this.#session;
    const write = () => client.kv.txn(spec, { idempotent: true });
    const { responses } = await untilAnswered(client.clock, signal, write);
    const last = responses.at(-1);
    return last?.type === 'get' && last.kvs.length === 0;
  }

  /**
   * Takes back an arrival. `ready` is touched in the same breath, so that a declaration made on a view in which we still
   * waited is refused: once we have told our caller that we did not enter, no round is declared full with us in it.
   */
  async giveUp(key: string, arriving: Promise<unknown>): Promise<void> {
    const { client, signal } = this.#session;
    const unknown = await arriving.then(
      () => false,
      (error: unknown) => hasCode(error, 'UNKNOWN_OUTCOME'),
    );
    const touch = op.txn({
      else: [op.put(this.ready, '0')],
      if: [compare.exists(this.ready)],
      then: [op.put(this.ready, '', { ignoreValue: true })],
    });
    const others = op.get({ prefix: this.party }, { keysOnly: true, limit: 1 });
    const spec = { else: [others], if: [compare.exists(key)], then: [op.delete(key), touch, others] };
    const write = () => client.kv.txn(spec, { idempotent: true });
    const { responses } = await untilAnswered(client.clock, signal, write);
    if (unknown) await sweeperOf(this.#session).sweep({ key }, arriving);
    const last = responses.at(-1);
    if (last?.type === 'get' && last.kvs.length === 0) await this.tidy();
  }

  /** Removes what was said of full rounds, if there is no party: those to come are later than any of these rounds. */
  async tidy(): Promise<void> {
    const { client, signal } = this.#session;
    const nobody = compare.createRevision({ prefix: this.party }, '=', 0n);
    const write = () =>
      client.kv.txn({ if: [nobody], then: [op.delete(this.ready)] }, { idempotent: true, signal });
    await untilAnswered(client.clock, signal, write);
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
}
