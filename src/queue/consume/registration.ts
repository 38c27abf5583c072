/**
 * Being one of a queue's workers: a key bound to the session's lease, and a fenced writer. While the key is there, the jobs that we
 * claimed are ours; who removes it, by hand or with the lease, ends that.
 */
import { ConclaveError } from '../../errors/conclave-error.js';
import { type Compare, compare } from '../../etcd/kv/compare.js';
import { op } from '../../etcd/kv/op.js';
import type { Session } from '../../session/session.js';
import { ownerValue } from '../../ticket/owner.js';
import type { ControlWatch, ControlEvent } from '../store/control-watch.js';
import { FencedWriter } from '../store/fenced-writer.js';
import { clientIdsOf, forgetClientId, isEarlierLife, newClientId } from '../store/client-id.js';

/** One worker's place among the workers of a queue. */
export class Registration {
  readonly workerId: string;
  /** For what this worker alone writes. */
  readonly writer: FencedWriter;
  /** Our key, and its create revision. */
  readonly key: string;
  readonly joinedAt: bigint;
  readonly #session: Session;
  readonly #control: ControlWatch;
  readonly #removed = new AbortController();
  readonly #stopListening: () => void;

  private constructor(
    session: Session,
    control: ControlWatch,
    writer: FencedWriter,
    joined: { id: string; revision: bigint },
  ) {
    this.#session = session;
    this.#control = control;
    this.writer = writer;
    this.workerId = joined.id;
    this.key = control.layout.worker(joined.id);
    this.joinedAt = joined.revision;
    this.#stopListening = control.use((event) => this.#changed(event));
  }

  /** Joins the workers. */
  static async join(session: Session, control: ControlWatch): Promise<Registration> {
    const { layout: keys } = control;
    const id = newClientId(session);
    const writer = await FencedWriter.open(session, keys.lane(id, 'work'));
    try {
      const put = op.put(keys.worker(id), ownerValue(session), { leaseId: session.leaseId });
      const { revision } = await writer.run({ then: [put] });
      return new Registration(session, control, writer, { id, revision });
    } catch (error) {
      // What comes of it ends with the session, unless this goes through.
      if (session.alive) void writer.close([op.delete(keys.worker(id))]).catch(() => undefined);
      throw error;
    }
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
    await this.#leave();
    forgetClientId(this.#session, this.workerId);
  }

  async #leave(): Promise<void> {
    if (await this.writer.close([op.delete(this.key)])) return;
    // Somebody has removed our writer's key: that must not keep us among the workers.
    await this.#session.client.kv.txn(
      { if: [this.working], then: [op.delete(this.key)] },
      { idempotent: true },
    );
  }

  #changed(event: ControlEvent): void {
    const { workers, readAt } = this.#control;
    const missed =
      event.what === 'all' && (event.reverted || readAt > this.joinedAt) && !workers.has(this.workerId);
    if (missed || (event.what === 'left' && event.member === this.workerId)) void this.#gone();
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
 * A session resumed by its lease id keeps alive the workers and writers of its earlier life, which are nobody's any more.
 * Removes them, so that the workers' jobs go back to their places, and that a remnant of that life can do nothing.
 * Resolves with the names of the workers.
 */
export async function endEarlierLives(session: Session, control: ControlWatch): Promise<string[]> {
  const { client, layout: keys, workers } = control;
  const isEarlier = (id: string): boolean => isEarlierLife(session, id);
  const { kvs } = await client.kv.range({ prefix: keys.lanes + clientIdsOf(session) }, { keysOnly: true });
  const lanes = kvs.filter(({ key }) => isEarlier(key.slice(keys.lanes.length).split('/')[0] ?? ''));
  const earlier = [...workers].filter(isEarlier);
  const left = [...earlier.map((id) => keys.worker(id)), ...lanes.map(({ key }) => key)];
  for (const key of left) await client.kv.txn({ then: [op.delete(key)] }, { idempotent: true });
  return earlier;
}
