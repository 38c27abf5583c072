/**
 * A queue of durable jobs, which workers claim for as long as their sessions live.
 *
 * Keys, all below `name/.queue/`:
 *   body/<id>                                          the job's data, as JSON; there as long as the job is
 *   todo/waiting/<priority>/<number>/<id>              its entry while it waits
 *   todo/delayed/<due>/<priority>/<number>/<id>        ... until it lines up at wall-clock time <due>
 *   todo/active/<worker>/<priority>/<number>/<id>      ... while <worker> has it
 *   dead/<priority>/<number>/<id>                      ... when its attempts are used up
 *   done/<until>/<priority>/<number>/<id>              ... when it is done and kept until wall-clock time <until>
 *   control/tail-sequence/<priority>                   put by whoever appends to this priority; see store/numbering.ts
 *   control/tail/<priority>                            of an earlier layout; only read
 *   control/worker/<worker>                            a worker is there; bound to its session's lease
 *   control/back, control/due, control/paused          what came back, what was delayed, whether nobody may claim
 *   control/scheduler                                  the client that appends due jobs; bound to a session's lease
 *   lane/<client>/<push|work|schedule|dead>            of one fenced writer each (store/); bound to the session's lease
 *
 * Invariants: a job has its body and exactly one entry, and every change of state is one guarded transaction that deletes
 * one entry and writes one. An active entry is written by its worker alone while that worker's key is there, and by any
 * worker, back to its place, once it is not. Its create revision is the claim's fencing token. Keys sort by priority, the
 * greatest first, then by number; whatever was appended before somebody begins to push has a smaller number than his job.
 * Whatever makes a job ready changes a key below control/, which all workers follow. A number is not one job's alone: <id>
 * tells those of one number apart. A job that was delayed, or is dead and tried again, gets a new number, at the end; one that
 * is released, or whose worker was lost, keeps its own, and is dead if that was its last attempt.
 *
 * Which file does what, in the order of a job's life:
 *   store/    keys, record, bodies: what is stored. numbering: where a job stands. pause. client-id: who writes.
 *             fenced-writer: a transaction that is applied once though its answer is lost. control-watch: what all follow.
 *   produce/  options: a job, checked. pushes: through one writer. producer: pushes go together. sequences: numbers are given out. append: a job waits again. forget: a job goes for good.
 *   upkeep/   delayed-scheduler: due jobs are appended. reaper: lost workers' jobs go back. clean-up: the last one leaves nothing.
 *   consume/  worker: slots, the handler. job: what it gets. lives: the states of both, and of the consumer, as tables.
 *             consumers: who uses which consumer; renewed-use: one after another. consumer: the loop that settles, claims and
 *             reads in one transaction, which round-trip builds and reads. backlog-cursor, backlog-line, returned-jobs: where to read. prefetcher: what to claim next.
 *             claim-txn: claiming. outcome: what can become of a job. commit: settled with the caller's writes. registration.
 *   inspect/  listing: counts, lists, dead jobs. idle: until nothing is left.
 *
 * Not guaranteed: that a job runs once (it runs again when its worker was lost; only `commit` makes its effect in etcd
 * happen once), that several workers start jobs strictly in order, and that delays are exact: they are by wall clocks.
 */
import { ConclaveError, hasCode } from '../errors/conclave-error.js';
import { Session } from '../session/session.js';
import { ANY_SESSION, type AnySession, endOf, onSession } from '../session/sessions.js';
import { ownerValue } from '../ticket/owner.js';
import { limitWait, type WaitOptions } from '../util/abort.js';
import { checkInstance, checkOptions, shown } from '../util/validate.js';
import { cleanUp } from './upkeep/clean-up.js';
import { Consumers, type ConsumerUse } from './consume/consumers.js';
import { untilIdle } from './inspect/idle.js';
import type { Job } from './consume/job.js';
import { type JobState, QueueKeys } from './store/keys.js';
import {
  countJobs,
  type DeadOptions,
  JOB_STATES,
  type JobInfo,
  listJobs,
  type QueueCounts,
  removeDead,
  retryDead,
} from './inspect/listing.js';
import { isPaused, RUNNING, setPause } from './store/pause.js';
import {
  checkIds,
  checkQueueOptions,
  newJob,
  type PushItem,
  type PushOptions,
  type QueueOptions,
} from './produce/options.js';
import type { NewJob, PushResult } from './produce/producer.js';
import { Pushes } from './produce/pushes.js';
import { RenewedUse } from './consume/renewed-use.js';
import { type JobHandler, JobWorker, type ProcessOptions } from './consume/worker.js';

/**
 * @example
 * await using queue = new JobQueue<{ to: string }>(session, 'mails');
 * await queue.push({ to: 'ada@example.org' });
 * await using worker = queue.process(async (job) => send(job.data.to), { concurrency: 4 });
 * await queue.idle();
 */
export class JobQueue<T = unknown> implements AsyncDisposable {
  readonly name: string;
  readonly #source: AnySession;
  readonly #layout: QueueKeys;
  readonly #defaults: QueueOptions;
  /** What this object has on each session; there is one, unless the session renews itself. */
  readonly #seats = new Map<Session, Seat<T>>();
  readonly #workers = new Set<JobWorker<T>>();
  /** Aborts when nothing may be taken any more. */
  readonly #closing = new AbortController();
  /** Aborts when nothing may be pushed any more either: until the workers have stopped their handlers may push. */
  readonly #closed = new AbortController();
  #stopFarewell: (() => void) | undefined;
  #done: Promise<void> | undefined;

  /** Makes nothing in etcd. Throws TypeError for an empty name, one with a NUL, or with a segment like `.queue`. */
  constructor(session: AnySession, name: string, options: QueueOptions = {}) {
    checkInstance(session, ANY_SESSION, "a queue's session");
    this.#layout = new QueueKeys(name);
    this.name = name;
    this.#source = session;
    this.#defaults = checkQueueOptions(options);
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
    this.#throwIfClosing();
    const source = this.#source;
    const { client } = source;
    const useOn = (session: Session): ConsumerUse<T> => this.#seat(session).consumers.use();
    const worker: JobWorker<T> = new JobWorker<T>(
      {
        clock: client.clock,
        queue: this.name,
        closedByCaller: () => isClosed(source) || client.closed.aborted,
        stopped: () => this.#workers.delete(worker),
        use: () => (source instanceof Session ? useOn(source) : new RenewedUse(source, useOn)),
      },
      handler,
      options,
    );
    this.#workers.add(worker);
    return worker;
  }

  /**
   * Resolves with one claimed job; acknowledge it with `ack` or `commit`. With `await using`, a job that was not handed in
   * counts as a failed attempt. Rejects with the signal's reason, or `TIMEOUT`; a job that was just then being claimed
   * goes back to its place. Rejects with `SESSION_LOST` when the session dies.
   */
  async dequeue(options: WaitOptions = {}): Promise<Job<T>> {
    checkOptions(options, ['signal', 'timeoutMs'], 'dequeue');
    this.#throwIfClosing();
    const what = `dequeue from ${this.name}`;
    using limit = limitWait(this.#source.client.clock, options, what, [this.#closing.signal]);
    return await onSession(this.#source, { signal: limit.signal }, what, async (session, signal) => {
      const use = this.#seat(session).consumers.use();
      try {
        return await use.take(signal);
      } finally {
        void use.end({ linger: !this.#closing.signal.aborted });
      }
    });
  }

  /** No worker claims a job any more, anywhere, until `resume`; what is claimed goes on. Pausing twice does nothing. */
  async pause(): Promise<void> {
    await this.#setPause((session) => ownerValue(session));
  }

  /** Ends the pause. Resuming twice does nothing. */
  async resume(): Promise<void> {
    await this.#setPause(() => RUNNING);
  }

  async #setPause(value: (session: Session) => string): Promise<void> {
    const tidy = (): Promise<void> => cleanUp(this.#source.client, this.#layout);
    await this.#onSession('pause or resume', (session) =>
      setPause(session, this.#layout, value(session), tidy),
    );
  }

  /** Whether the queue is paused. */
  async isPaused(): Promise<boolean> {
    return isPaused(await this.#source.client.kv.get(this.#layout.paused));
  }

  /** How many jobs there are in each state, at one revision. The cost grows with the number of jobs. */
  counts(): Promise<QueueCounts> {
    return countJobs(this.#source.client, this.#layout);
  }

  /** Iterates over the jobs of a state in their order, as they are when it begins. */
  jobs(state: JobState): AsyncGenerator<JobInfo<T>, void, undefined> {
    if (!JOB_STATES.includes(state))
      throw new TypeError(`state must be one of ${JOB_STATES.join(', ')}, not ${shown(state)}`);
    return listJobs<T>(this.#source.client, this.#layout, state);
  }

  /** Lines dead jobs up again, with all their attempts. Resolves with how many. */
  async retryDead(options: DeadOptions = {}): Promise<number> {
    checkOptions(options, ['ids'], 'retryDead');
    const ids = checkIds(options.ids, 'retryDead');
    return this.#onSession('retryDead', (session) => retryDead(session, this.#layout, ids));
  }

  /** Removes dead jobs for good. Resolves with how many. */
  async removeDead(options: DeadOptions = {}): Promise<number> {
    checkOptions(options, ['ids'], 'removeDead');
    const ids = checkIds(options.ids, 'removeDead');
    return this.#onSession('removeDead', (session) => removeDead(session, this.#layout, ids));
  }

  /**
   * Resolves once nothing waits, is delayed or active: every job is done or dead. It is proven by a read; more may have
   * been pushed since. Rejects with the signal's reason, `TIMEOUT`, or `SESSION_LOST`.
   */
  async idle(options: WaitOptions = {}): Promise<void> {
    checkOptions(options, ['signal', 'timeoutMs'], 'idle');
    return untilIdle(this.#source.client, this.#layout, options, endOf(this.#source));
  }

  /**
   * Stops this object's workers as `worker.stop()` does, hands back the jobs that were dequeued and not handed in, and
   * leaves. Nothing is taken any more from now on; pushing is refused once the workers have stopped, so their handlers can
   * end what they do. The last one to leave an empty queue leaves no key behind. Closing twice gives the first call's
   * promise; inside a handler of this queue, which would wait for itself, it resolves at once.
   */
  close(): Promise<void> {
    const isHandling = this.#isHandling;
    this.#done ??= this.#close();
    return isHandling ? Promise.resolve() : this.#done;
  }

  /** As `close()`, but never throws: what is bound to the session goes with it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close().catch(() => undefined);
  }

  get #isHandling(): boolean {
    return [...this.#workers].some((worker) => worker.isHandling);
  }

  get #wall(): number {
    return Math.floor(this.#source.client.clock.wall());
  }

  /** Whoever closes the sessions closes this queue first. */
  #sayFarewell(): void {
    if (this.#source instanceof Session) return;
    this.#stopFarewell ??= this.#source.beforeClose({
      end: async (timeoutMs) => {
        for (const worker of this.#workers) void worker.stop({ timeoutMs });
        void this.close();
        await this.#done;
      },
      isInside: () => this.#isHandling,
    });
  }

  #throwIfClosing(): void {
    this.#closing.signal.throwIfAborted();
    endOf(this.#source);
  }

  async #push(jobs: readonly NewJob[]): Promise<PushResult[]> {
    this.#closed.signal.throwIfAborted();
    // Of several some may have been pushed, and of one whose answer was lost nobody knows.
    const again = (error: unknown): boolean => jobs.length === 1 && hasCode(error, 'SESSION_LOST');
    return this.#onSession('push', (session) => this.#seat(session).pushes.push(jobs), { again });
  }

  async #onSession<R>(
    what: string,
    work: (session: Session) => Promise<R>,
    options: { readonly again: false | ((error: unknown) => boolean) } = { again: false },
  ): Promise<R> {
    if (this.#source instanceof Session) return work(this.#source);
    const text = `${what} (queue ${this.name})`;
    return onSession(this.#source, { signal: this.#closed.signal }, text, work, options);
  }

  #seat(session: Session): Seat<T> {
    let seat = this.#seats.get(session);
    if (seat !== undefined) return seat;
    for (const each of this.#seats.keys()) if (!each.alive) this.#seats.delete(each);
    seat = { consumers: new Consumers(session, this.#layout), pushes: new Pushes(session, this.#layout) };
    this.#seats.set(session, seat);
    this.#sayFarewell();
    return seat;
  }

  async #close(): Promise<void> {
    const closed = new ConclaveError('CLOSED', `the queue ${this.name} was closed`);
    this.#closing.abort(closed);
    const workers = [...this.#workers];
    for (const worker of workers) void worker.stop();
    await Promise.allSettled(workers.map((worker) => worker.finished));
    this.#closed.abort(closed);
    this.#stopFarewell?.();
    const seats = [...this.#seats];
    await Promise.all(seats.map(([, { consumers }]) => consumers.close()));
    await Promise.all(seats.map(([, { pushes }]) => pushes.close()));
    const session = this.#source instanceof Session ? this.#source : this.#source.session;
    if (session.alive) await cleanUp(session.client, this.#layout);
  }
}

/** What a queue object has on one session. */
interface Seat<T> {
  readonly consumers: Consumers<T>;
  readonly pushes: Pushes;
}

function isClosed(source: AnySession): boolean {
  return source instanceof Session ? hasCode(source.reason, 'CLOSED') : source.closed.aborted;
}
