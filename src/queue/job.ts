/** A claimed job: what a handler gets, and `dequeue` resolves with. */
import { ConclaveError, hasCode } from '../errors/conclave-error.js';
import type { Compare } from '../etcd/compare.js';
import type { CallOptions } from '../etcd/call.js';
import type { TxnResult } from '../etcd/kv.js';
import { op, type TxnSpec } from '../etcd/op.js';
import type { Session } from '../session/session.js';
import { onAbort } from '../util/abort.js';
import { checkOptions } from '../util/validate.js';
import { checkDelay } from './options.js';
import { type Claim, type Ending, endings, type FailureOptions } from './claim.js';
import { commitJob } from './commit.js';
import { type Desk, notHeld } from './desk.js';
import type { Layout } from './layout.js';
import type { JobError } from './record.js';

/** What a job is made of. */
export interface JobTerms {
  readonly claim: Claim;
  readonly desk: Desk;
  readonly session: Session;
  readonly layout: Layout;
  /** Aborts when the worker wants the job back from its handler. */
  readonly recall?: AbortSignal | undefined;
  /** Told once, when the job is no longer ours. */
  readonly ended: () => void;
}

type Kind = 'ack' | 'nack' | 'release' | 'commit';

type State =
  | { readonly is: 'held' }
  | { readonly is: 'ending'; readonly kind: Kind; readonly done: Promise<unknown> }
  | { readonly is: 'ended'; readonly kind: Kind; readonly done: Promise<unknown> }
  /** A guarded write has shown that it is not ours. */
  | { readonly is: 'lost' };

/**
 * A job that is ours until it is handed in (`ack`, `nack`, `release`, `commit`) or the session ends.
 *
 * Guaranteed: `signal` aborts, and `held` is false, before another worker can get the job because our lease ran out. A
 * write through `txn` or `commit` is done only while the job is ours.
 * Not guaranteed: that a handler which ignores the signal stops, and that what it does elsewhere is done once.
 */
export class Job<T = unknown> implements AsyncDisposable {
  readonly id: string;
  /** What was pushed, as JSON brought it here. */
  readonly data: T;
  readonly priority: number;
  /** Which attempt this is; the first is 1. A worker's crash counts as one. */
  readonly attempt: number;
  readonly maxAttempts: number;
  /** Why earlier attempts failed, the latest ten. */
  readonly errors: readonly JobError[];
  /** Strictly greater than that of every earlier claim of this job. */
  readonly fencingToken: bigint;
  readonly #terms: JobTerms;
  #state: State = { is: 'held' };
  #controller: AbortController | undefined;
  #stops: (() => void)[] = [];

  constructor(terms: JobTerms, data: T) {
    const { place, record, token } = terms.claim;
    this.#terms = terms;
    this.id = place.id;
    this.data = data;
    this.priority = place.priority;
    this.attempt = record.attempts;
    this.maxAttempts = record.maxAttempts;
    this.errors = record.errors;
    this.fencingToken = token;
  }

  /** Aborts when the job is no longer ours: lost with the session, handed in, or wanted back by a worker that stops. */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      const controller = new AbortController();
      this.#controller = controller;
      const abort = (reason: unknown): void => controller.abort(reason);
      const { desk, recall, session } = this.#terms;
      this.#stops = [session.signal, desk.membership.removed, recall].map((each) => onAbort(each, abort));
      if (this.#state.is === 'ended') this.#silence(this.#handedIn());
      if (this.#state.is === 'lost') this.#silence(this.#notHeld());
    }
    return this.#controller.signal;
  }

  /** Whether it is still ours, by a synchronous look at the clock: right after a freeze, too. */
  get held(): boolean {
    return this.#state.is === 'held' && this.#isOurs;
  }

  /** Whether `ack`, `nack`, `release` or `commit` has been called and has not failed. */
  get handedIn(): boolean {
    return this.#state.is === 'ending' || this.#state.is === 'ended';
  }

  /** The compares to put into the `if` of any transaction that must only be done while the job is ours. */
  guard(): Compare[] {
    return this.#terms.desk.guard(this.#terms.claim);
  }

  /**
   * Runs a transaction that is done only while the job is ours. Rejects with `NOT_HELD` when it is not: then neither
   * `then` nor `else` has run. Rejects with `UNKNOWN_OUTCOME` when the answer was lost.
   */
  async txn(spec: TxnSpec, options: CallOptions = {}): Promise<TxnResult> {
    if (!this.held) throw this.#notHeld();
    const plain = (spec.if ?? []).length === 0;
    const steps = plain ? (spec.then ?? []) : [op.txn(spec)];
    const result = await this.#terms.session.client.kv.txn({ if: this.guard(), then: steps }, options);
    if (!result.succeeded) throw this.#lose();
    const [inner] = result.responses;
    if (plain || inner?.type !== 'txn') return result;
    return { responses: inner.responses, revision: result.revision, succeeded: inner.succeeded };
  }

  /**
   * The job is done, and goes. Resolves once that is so. Rejects with `NOT_HELD` when it was no longer ours (another
   * worker has it, or will), `UNKNOWN_OUTCOME` when the session ended before the answer came. Calling twice is safe.
   */
  ack(): Promise<void> {
    return this.#end('ack', () => this.#handIn({ to: 'done' }));
  }

  /**
   * This attempt failed. The job is tried again after its backoff (or `delayMs`), or is dead when that was its last
   * attempt (or `final`). Rejects as `ack` does. Calling twice is safe.
   */
  async nack(error: unknown, options: FailureOptions = {}): Promise<void> {
    checkOptions(options, ['delayMs', 'final'], 'nack');
    if (options.delayMs !== undefined) checkDelay(options.delayMs, 'delayMs');
    const { claim, session } = this.#terms;
    return this.#end('nack', () =>
      this.#handIn(endings.failed(claim, error, session.client.clock.wall(), options)),
    );
  }

  /** Hands the job back to its place as if it had never been claimed. Rejects as `ack` does. Calling twice is safe. */
  release(): Promise<void> {
    return this.#end('release', () => this.#handIn(endings.back(this.#terms.claim)));
  }

  /**
   * Acknowledges the job and does `then` in one transaction: both or neither, and at most once however often the job is
   * run. With `if`, both happen only when that holds too; otherwise `else` is done, the job stays ours, and `succeeded`
   * is false. The transaction may not touch the job's own keys.
   *
   * Resolves once it is done. If its answer was lost and the outcome was found by looking, `responses` is empty. Rejects
   * with `NOT_HELD` when the job was no longer ours: nothing was done then. Rejects with `UNKNOWN_OUTCOME` when the
   * session ended before the answer came. When etcd refuses the transaction, the job stays ours. A second
   * commit rejects with `NOT_HELD`.
   */
  async commit(spec: TxnSpec): Promise<TxnResult> {
    // Unlike an ack, a second commit is another one: what it was to do has not been done.
    if (this.#state.is !== 'held') throw this.#notHeld();
    checkOptions(spec, ['if', 'then', 'else'], 'commit');
    const { claim, desk, layout, session } = this.#terms;
    const done = this.#end('commit', async () => {
      const commit = {
        body: layout.body(this.id),
        claim,
        ending: endings.steps(layout, claim, { to: 'done' }),
        guard: this.guard(),
        session,
        worker: desk.membership,
      };
      const result = await commitJob(commit, spec);
      if (result === undefined) throw notHeld(claim, undefined);
      if (!result.succeeded) this.#state = { is: 'held' };
      return result;
    });
    return done;
  }

  /** Hands the job back if it is still held; else waits for what became of it. Never throws. For the queue's closing. */
  async giveBack(): Promise<void> {
    if (this.#state.is === 'held') await this.release().catch(() => undefined);
    else await this.#settled();
  }

  /** Hands in what was not handed in, as a failed attempt. Never throws: what cannot be confirmed ends with the session. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#state.is === 'held')
      await this.nack(new Error('it was left without ack or nack')).catch(() => undefined);
    else await this.#settled();
  }

  async #settled(): Promise<void> {
    if ('done' in this.#state) await this.#state.done.catch(() => undefined);
  }

  /** Ends the hold of a job that was seen not to be ours, and says why. */
  #lose(): ConclaveError {
    const reason = this.#notHeld();
    if (this.#state.is !== 'held') return reason;
    this.#state = { is: 'lost' };
    this.#silence(reason);
    this.#terms.ended();
    return reason;
  }

  get #isOurs(): boolean {
    const { desk, session } = this.#terms;
    return session.alive && !desk.membership.removed.aborted;
  }

  #handIn(ending: Ending): Promise<void> {
    return this.#terms.desk.handIn(this.#terms.claim, ending);
  }

  /** One way out, once. What fails for a reason that leaves the job ours may be tried again, or another way. */
  #end<R>(kind: Kind, run: () => Promise<R>): Promise<R> {
    const state = this.#state;
    if (state.is !== 'held') {
      return 'done' in state && state.kind === kind
        ? (state.done as Promise<R>)
        : Promise.reject(this.#notHeld());
    }
    if (!this.#isOurs) return Promise.reject(this.#notHeld());
    const done = run().then(
      (result) => {
        if (this.#state.is === 'ending') this.#ended(kind, done);
        return result;
      },
      (error: unknown) => {
        if (hasCode(error, 'NOT_HELD') || !this.#isOurs) this.#ended(kind, done);
        else this.#state = { is: 'held' };
        throw error;
      },
    );
    done.catch(() => undefined);
    this.#state = { done, is: 'ending', kind };
    return done;
  }

  #ended(kind: Kind, done: Promise<unknown>): void {
    this.#state = { done, is: 'ended', kind };
    this.#silence(this.#handedIn());
    this.#terms.ended();
  }

  #silence(reason: unknown): void {
    for (const stop of this.#stops) stop();
    this.#stops = [];
    this.#controller?.abort(reason);
  }

  #handedIn(): ConclaveError {
    return new ConclaveError('NOT_HELD', `job ${JSON.stringify(this.id)} has been handed in`, {
      key: this.#terms.claim.key,
    });
  }

  #notHeld(): ConclaveError {
    const { claim, desk, session } = this.#terms;
    const removed = desk.membership.removed.reason as unknown;
    const handedIn = this.handedIn ? this.#handedIn() : undefined;
    return notHeld(claim, session.reason ?? removed ?? handedIn);
  }
}
