/**
 * A queue of durable jobs, which workers claim for as long as their sessions live.
 *
 * Keys, all below `name/.queue/`:
 *   body/<id>                                          the job's data, as JSON; there as long as the job is
 *   todo/waiting/<priority>/<number>/<id>              its entry while it waits
 *   todo/delayed/<due>/<priority>/<number>/<id>        ... until it lines up at wall-clock time <due>
 *   todo/active/<worker>/<priority>/<number>/<id>      ... while <worker> has it
 *   dead/<priority>/<number>/<id>                      ... when its attempts are used up
 *   control/tail/<priority>                            how many numbers of this priority have been given out
 *   control/worker/<worker>                            a worker is there; bound to its session's lease
 *   control/back, control/due, control/paused          what came back, what was delayed, whether nobody may claim
 *   lane/<worker>/push, lane/<worker>/work             see lane.ts; bound to the session's lease
 *
 * Invariants: a job has its body and exactly one entry, and every change of state is one guarded transaction that deletes
 * one entry and writes one. An active entry is written by its worker alone while that worker's key is there, and by any
 * worker, back to its place, once it is not. Its create revision is the claim's fencing token. Keys sort by priority, the
 * greatest first, then by number; numbers are given out in the order of the commits. Whatever makes a job ready changes
 * a key below control/, which all workers follow.
 *
 * Not guaranteed: that a job runs once (it runs again when its worker was lost; only `commit` makes its effect in etcd
 * happen once), that several workers start jobs strictly in order, and that delays are exact: they are by wall clocks.
 */
import { ConclaveError, hasCode } from '../errors/conclave-error.js';
import { compare } from '../etcd/compare.js';
import { op } from '../etcd/op.js';
import { Session } from '../session/session.js';
import { ownerValue } from '../ticket/owner.js';
import { limitWait, onAbort, orAborted, type WaitOptions } from '../util/abort.js';
import { checkInstance, checkOptions, shown } from '../util/validate.js';
import { boardOf } from './board.js';
import type { Claim } from './claim.js';
import { cleanUp } from './clean-up.js';
import { Desk } from './desk.js';
import { untilIdle } from './idle.js';
import { Job } from './job.js';
import { Lane } from './lane.js';
import { type JobState, Layout } from './layout.js';
import {
  countJobs,
  type DeadOptions,
  JOB_STATES,
  type JobInfo,
  listJobs,
  type QueueCounts,
  removeDead,
  retryDead,
} from './listing.js';
import { newMember } from './member.js';
import {
  checkIds,
  checkQueueOptions,
  newJob,
  type PushItem,
  type PushOptions,
  type QueueOptions,
} from './options.js';
import { Pusher, type PushResult } from './pusher.js';
import { type JobHandler, JobWorker, type ProcessOptions } from './worker.js';

/**
 * @example
 * await using queue = new JobQueue<{ to: string }>(session, 'mails');
 * await queue.push({ to: 'ada@example.org' });
 * await using worker = queue.process(async (job) => send(job.data.to), { concurrency: 4 });
 * await queue.idle();
 */
export class JobQueue<T = unknown> implements AsyncDisposable {
  readonly name: string;
  readonly #session: Session;
  readonly #layout: Layout;
  readonly #defaults: QueueOptions;
  readonly #pusher: Pusher;
  /** The workers, and what tells them that they cannot go on. */
  readonly #workers = new Map<JobWorker<T>, AbortController>();
  readonly #out = new Set<Job<T>>();
  readonly #closing = new AbortController();
  #pushLane: Promise<Lane> | undefined;
  #desk: Promise<Desk> | undefined;
  /** The same, once it is open. */
  #opened: Desk | undefined;
  #takers = 0;
  #closed: Promise<void> | undefined;

  /** Makes nothing in etcd. Throws TypeError for an empty name, or one that holds a NUL or the segment `.queue`. */
  constructor(session: Session, name: string, options: QueueOptions = {}) {
    checkInstance(session, { Session }, "a queue's session");
    this.#layout = new Layout(name);
    this.name = name;
    this.#session = session;
    this.#defaults = checkQueueOptions(options);
    this.#pusher = new Pusher(session, this.#layout, () => this.#openPushLane());
  }

  /**
   * Adds a job. Resolves once it is in etcd; it cannot be lost then. Throws TypeError or RangeError, before any request,
   * for data that is not JSON-serializable or larger than a request may be. Rejects with `SESSION_LOST` when it was not
   * pushed, `UNKNOWN_OUTCOME` when the session ended before the answer came: with an `id`, pushing again is safe.
   */
  async push(data: T, options: PushOptions = {}): Promise<PushResult> {
    const [result] = await this.#push([newJob(data, options, this.#defaults, this.#wall)]);
    return result ?? { deduplicated: false, id: '' };
  }

  /**
   * Adds jobs in this order, up to 100 in a transaction. Resolves with a result for each once all are in etcd. All of
   * them are checked before the first request. Rejects as `push` does; some may have been pushed then.
   */
  async pushMany(items: Iterable<PushItem<T>>): Promise<PushResult[]> {
    const wall = this.#wall;
    const jobs = [...items].map((item: unknown) => {
      if (typeof item !== 'object' || item === null)
        throw new TypeError(`pushMany: each item must be an object with its data, not ${String(item)}`);
      const { data, ...options } = item as PushItem<T>;
      return newJob(data, options, this.#defaults, wall);
    });
    return this.#push(jobs);
  }

  /** Starts a worker, which takes jobs and gives them to `handler` until it is stopped, or the queue is closed. */
  process(handler: JobHandler<T>, options: ProcessOptions<T> = {}): JobWorker<T> {
    this.#throwIfOver();
    const over = new AbortController();
    const worker: JobWorker<T> = new JobWorker<T>(
      {
        clock: this.#session.client.clock,
        over: over.signal,
        stopped: async () => {
          this.#workers.delete(worker);
          await this.#leaveIfUnused();
        },
        take: (signal, recall) => this.#take(signal, recall),
      },
      handler,
      options,
    );
    this.#workers.set(worker, over);
    return worker;
  }

  /**
   * Resolves with one claimed job; acknowledge it with `ack` or `commit`. With `await using`, a job that was not handed in
   * counts as a failed attempt. Rejects with the signal's reason, or `TIMEOUT`; a job that was just then being claimed
   * goes back to its place. Rejects with `SESSION_LOST` when the session dies.
   */
  async dequeue(options: WaitOptions = {}): Promise<Job<T>> {
    checkOptions(options, ['signal', 'timeoutMs'], 'dequeue');
    this.#throwIfOver();
    using limit = limitWait(this.#session.client.clock, options, `dequeue from ${this.name}`, [
      this.#session.signal,
      this.#closing.signal,
    ]);
    this.#takers += 1;
    try {
      return await this.#take(limit.signal);
    } finally {
      this.#takers -= 1;
      await this.#leaveIfOver();
    }
  }

  /** No worker claims a job any more, anywhere, until `resume`; what is claimed goes on. Pausing twice does nothing. */
  async pause(): Promise<void> {
    const { paused } = this.#layout;
    const spec = { if: [compare.missing(paused)], then: [op.put(paused, ownerValue(this.#session))] };
    await this.#session.client.kv.txn(spec, { idempotent: true });
  }

  /** Ends the pause. Resuming twice does nothing. */
  async resume(): Promise<void> {
    await this.#session.client.kv.txn({ then: [op.delete(this.#layout.paused)] }, { idempotent: true });
  }

  /** Whether the queue is paused. */
  async isPaused(): Promise<boolean> {
    return (await this.#session.client.kv.get(this.#layout.paused, { keysOnly: true })) !== undefined;
  }

  /** How many jobs there are in each state, at one revision. The cost grows with the number of jobs. */
  counts(): Promise<QueueCounts> {
    return countJobs(this.#session.client, this.#layout);
  }

  /** Iterates over the jobs of a state in their order, as they are when it begins. */
  jobs(state: JobState): AsyncGenerator<JobInfo<T>, void, undefined> {
    if (!JOB_STATES.includes(state))
      throw new TypeError(`state must be one of ${JOB_STATES.join(', ')}, not ${shown(state)}`);
    return listJobs<T>(this.#session.client, this.#layout, state);
  }

  /** Lines dead jobs up again, with all their attempts. Resolves with how many. */
  async retryDead(options: DeadOptions = {}): Promise<number> {
    checkOptions(options, ['ids'], 'retryDead');
    return retryDead(this.#session, this.#layout, checkIds(options.ids, 'retryDead'));
  }

  /** Removes dead jobs for good. Resolves with how many. */
  async removeDead(options: DeadOptions = {}): Promise<number> {
    checkOptions(options, ['ids'], 'removeDead');
    return removeDead(this.#session, this.#layout, checkIds(options.ids, 'removeDead'));
  }

  /**
   * Resolves once nothing waits, is delayed or active: every job is done or dead. It is proven by a read; more may have
   * been pushed since. Rejects with the signal's reason, `TIMEOUT`, or `SESSION_LOST`.
   */
  async idle(options: WaitOptions = {}): Promise<void> {
    checkOptions(options, ['signal', 'timeoutMs'], 'idle');
    return untilIdle(this.#session.client, this.#layout, options, this.#session.signal);
  }

  /**
   * Stops this object's workers as `worker.stop()` does, hands back the jobs that were dequeued and not handed in, and
   * leaves. The last one to leave an empty queue leaves no key behind. Closing twice gives the first call's promise.
   */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  /** As `close()`, but never throws: what is bound to the session goes with it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close().catch(() => undefined);
  }

  get #wall(): number {
    return Math.floor(this.#session.client.clock.wall());
  }

  #throwIfOver(): void {
    this.#closing.signal.throwIfAborted();
    this.#session.throwIfEnded();
  }

  async #push(jobs: Parameters<Pusher['push']>[0]): Promise<PushResult[]> {
    this.#throwIfOver();
    try {
      return await this.#pusher.push(jobs);
    } catch (error) {
      // Somebody has removed our lane: the next push opens another.
      if (hasCode(error, 'NOT_HELD')) this.#pushLane = undefined;
      throw error;
    }
  }

  #openPushLane(): Promise<Lane> {
    this.#pushLane ??= Lane.open(this.#session, this.#layout.lane(newMember(this.#session), 'push')).catch(
      (error: unknown) => {
        this.#pushLane = undefined;
        throw error;
      },
    );
    return this.#pushLane;
  }

  #openDesk(): Promise<Desk> {
    this.#desk ??= Desk.open(this.#session, boardOf(this.#session.client, this.#layout)).then(
      (desk) => {
        this.#opened = desk;
        onAbort(desk.ended, (reason) => {
          for (const over of this.#workers.values()) over.abort(reason);
        });
        return desk;
      },
      (error: unknown) => {
        this.#desk = undefined;
        throw error;
      },
    );
    return this.#desk;
  }

  async #take(signal: AbortSignal, recall?: AbortSignal): Promise<Job<T>> {
    const { desk, claim } = await this.#claim(signal);
    const job: Job<T> = new Job<T>(
      {
        claim,
        desk,
        ended: () => this.#out.delete(job),
        layout: this.#layout,
        recall,
        session: this.#session,
      },
      claim.data as T,
    );
    this.#out.add(job);
    return job;
  }

  async #claim(signal: AbortSignal): Promise<{ readonly desk: Desk; readonly claim: Claim }> {
    try {
      const desk = await orAborted(this.#openDesk(), signal);
      return { claim: await desk.take(signal), desk };
    } catch (error) {
      signal.throwIfAborted();
      // Whatever the end of the session did to a request of ours, for who waits for a job this is the reason.
      this.#session.throwIfEnded();
      throw error;
    }
  }

  /** Where nothing can be taken any more we need not stay: who takes next joins anew. */
  async #leaveIfOver(): Promise<void> {
    if (this.#opened?.ended.aborted === true) await this.#leaveIfUnused();
  }

  async #leaveIfUnused(): Promise<void> {
    const removed = this.#opened?.membership.removed.aborted === true;
    if (removed) this.#out.clear(); // None of them is ours any more.
    if (this.#workers.size + this.#takers + this.#out.size > 0) return;
    const desk = this.#desk;
    this.#desk = this.#opened = undefined;
    await (await desk?.catch(() => undefined))?.close(this.#closedError());
  }

  async #close(): Promise<void> {
    const workers = [...this.#workers.keys()].map((worker) => worker.stop());
    this.#closing.abort(this.#closedError());
    await Promise.all(workers);
    await Promise.all([...this.#out].map((job) => job.giveBack()));
    await this.#pusher.idle();
    this.#out.clear();
    await this.#leaveIfUnused();
    if (!this.#session.alive) return;
    await (await this.#pushLane)?.close();
    await cleanUp(this.#session.client, this.#layout);
  }

  #closedError(): ConclaveError {
    return new ConclaveError('CLOSED', `the queue ${this.name} was closed`);
  }
}
