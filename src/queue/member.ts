/**
 * Being one of a queue's workers: a key bound to the session's lease, and a lane. While the key is there, the jobs that we
 * claimed are ours; who removes it, by hand or with the lease, ends that.
 */
import { nanoid } from 'nanoid';

import { ConclaveError } from '../errors/conclave-error.js';
import { type Compare, compare } from '../etcd/compare.js';
import { leaseHex } from '../etcd/lease.js';
import { op } from '../etcd/op.js';
import type { Session } from '../session/session.js';
import { ownerValue } from '../ticket/owner.js';
import type { Board, BoardChange } from './board.js';
import { Lane } from './lane.js';

const ours = new WeakMap<Session, Set<string>>();

/** A new name for somebody who pushes or works: the lease and a part that nobody has used before. */
export function newMember(session: Session): string {
  const member = `${leaseHex(session.leaseId)}.${nanoid(8)}`;
  ours.set(session, (ours.get(session) ?? new Set()).add(member));
  return member;
}

/** One worker's place among the workers of a queue. */
export class Membership {
  readonly member: string;
  readonly lane: Lane;
  /** Our key, and its create revision. */
  readonly key: string;
  readonly joinedAt: bigint;
  readonly #session: Session;
  readonly #board: Board;
  readonly #removed = new AbortController();
  readonly #stopListening: () => void;

  private constructor(
    session: Session,
    board: Board,
    lane: Lane,
    joined: { member: string; revision: bigint },
  ) {
    this.#session = session;
    this.#board = board;
    this.lane = lane;
    this.member = joined.member;
    this.key = board.layout.worker(joined.member);
    this.joinedAt = joined.revision;
    this.#stopListening = board.use((change) => this.#changed(change));
  }

  /** Joins the workers. */
  static async join(session: Session, board: Board): Promise<Membership> {
    const { layout } = board;
    const member = newMember(session);
    const lane = await Lane.open(session, layout.lane(member, 'work'));
    const put = op.put(layout.worker(member), ownerValue(session), { leaseId: session.leaseId });
    const { revision } = await lane.run({ then: [put] });
    return new Membership(session, board, lane, { member, revision });
  }

  /** Aborts with `NOT_HELD` when our key was removed from outside while the session went on. */
  get removed(): AbortSignal {
    return this.#removed.signal;
  }

  /** Holds while our key is there, which is at most as long as the session's lease. */
  get working(): Compare {
    return compare.createRevision(this.key, '=', this.joinedAt);
  }

  /** No more news of us. */
  stopListening(): void {
    this.#stopListening();
  }

  /** Leaves the workers. */
  async leave(): Promise<void> {
    if (await this.lane.close([op.delete(this.key)])) return;
    // Somebody has removed our lane: that must not keep us among the workers.
    await this.#session.client.kv.txn(
      { if: [this.working], then: [op.delete(this.key)] },
      { idempotent: true },
    );
  }

  #changed(change: BoardChange): void {
    const { workers, readAt } = this.#board;
    const missed = change.what === 'all' && readAt > this.joinedAt && !workers.has(this.member);
    if (missed || (change.what === 'left' && change.member === this.member)) void this.#gone();
  }

  /** Usually it is the lease that is gone: then the session says so to everybody. */
  async #gone(): Promise<void> {
    await this.#session.checkLease().catch(() => undefined);
    if (!this.#session.alive) return;
    const text = `${this.key} was removed by somebody else, so this worker is none any more: its jobs go to others; start a new one`;
    this.#removed.abort(new ConclaveError('NOT_HELD', text, { key: this.key }));
  }
}

/**
 * A session resumed by its lease id keeps alive the workers and lanes of its earlier life, which are nobody's any more.
 * Removes them, so that the workers' jobs go back to their places, and that a remnant of that life can do nothing.
 * Resolves with the names of the workers.
 */
export async function endEarlierLives(session: Session, board: Board): Promise<string[]> {
  const { client, layout, workers } = board;
  const prefix = `${leaseHex(session.leaseId)}.`;
  const isEarlier = (member: string): boolean =>
    member.startsWith(prefix) && ours.get(session)?.has(member) !== true;
  const { kvs } = await client.kv.range({ prefix: layout.lanes + prefix }, { keysOnly: true });
  const lanes = kvs.filter(({ key }) => isEarlier(key.slice(layout.lanes.length).split('/')[0] ?? ''));
  const earlier = [...workers].filter(isEarlier);
  const keys = [...earlier.map((member) => layout.worker(member)), ...lanes.map(({ key }) => key)];
  for (const key of keys) await client.kv.txn({ then: [op.delete(key)] }, { idempotent: true });
  return earlier;
}
