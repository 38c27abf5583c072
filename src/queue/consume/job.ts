/**
 * A claimed job: what a handler gets, and `dequeue` resolves with. Its life is JOB_LIFE in lives.ts; whoever opened the
 * consumer tells it when it is lost, and whoever wants it back calls `giveBack`.
 */
import type { InspectOptions } from 'node:util';

import { ConclaveError, hasCode } from '../../errors/conclave-error.js';
import type { Compare } from '../../etcd/kv/compare.js';
import type { CallOptions } from '../../etcd/transport/call.js';
import type { TxnResult } from '../../etcd/kv/kv.js';
import { op, type TxnSpec } from '../../etcd/kv/op.js';
import type { Session } from '../../session/session.js';
import { sleep } from '../../util/abort.js';
import { backoffMs } from '../../util/backoff.js';
import { tell } from '../../util/channels.js';
import { checkOptions } from '../../util/validate.js';
import { checkDelay } from '../produce/options.js';
import type { QueueKeys } from '../store/keys.js';
import type { JobError } from '../store/record.js';
import { commitJob } from './commit.js';
import { type Consumer, notHeld } from './consumer.js';
import {
  following,
  JOB_LIFE,
  type JobLife,
  type JobLifeEvent,
  type SettleKind,
  type Settling,
} from './lives.js';
import { type Claim, type FailureOptions, type JobOutcome, outcomes } from './outcome.js';
import { asJson, asText, INSPECT } from '../../util/shown.js';

/** What a job is made of. */
export interface JobTerms {
  readonly claim: Claim;
  readonly consumer: Consumer;
  readonly session: Session;
  readonly keys: QueueKeys;
  /** Told once, when the job is no longer ours. */
  readonly ended: () => void;
}

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
  #state: JobLife = { declined: false, is: 'held' };
  readonly #entry: { modRevision: bigint };
  #controller: AbortController | undefined;
  /** Why the signal aborts. */
  #silenced: { readonly reason: unknown } | undefined;

  constructor(terms: JobTerms, data: T) {
    const { place, record, token } = terms.claim;
    this.#terms = terms;
    this.#entry = { modRevision: token };
    this.id = place.id;
    this.data = data;
    this.priority = place.priority;
    this.attempt = record.attempts;
    this.maxAttempts = record.maxAttempts;
    this.errors = record.errors;
    this.fencingToken = token;
  }

  /** What was pushed, and how far it has come; the token as a decimal string. */
  toJSON(): Record<string, unknown> {
    return asJson(this.#shown);
  }

  /** @internal */
  [INSPECT](_depth: number, options: InspectOptions): string {
    return asText('Job', this.#shown, options);
  }

  /** Aborts when the job is no longer ours: lost with the session, handed in, or wanted back by a worker that stops. */
  get signal(): AbortSignal {
    this.#controller ??= new AbortController();
    if (this.#silenced !== undefined) this.#controller.abort(this.#silenced.reason);
    return this.#controller.signal;
  }

  /** Whether it is still ours, by a synchronous look at the clock: right after a freeze, too. */
  get held(): boolean {
    return this.#state.is === 'held' && this.#isOurs;
  }

  /** Whether `ack`, `nack`, `release` or `commit` has been called and has not failed. */
  get handedIn(): boolean {
    return this.#state.is === 'settling' || this.#state.is === 'settled';
  }

  /** Whether the last `commit` was declined by its own conditions: then a handler that just returns has not succeeded. */
  get declined(): boolean {
    return this.#state.is === 'held' && this.#state.declined;
  }

  /** The compares to put into the `if` of any transaction that must only be done while the job is ours. */
  guard(): Compare[] {
    return this.#terms.consumer.guard(this.#terms.claim);
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
    return this.#settle('ack', () => this.#outcome(this.#done));
  }

  /**
   * This attempt failed. The job is tried again after its backoff (or `delayMs`), or is dead when that was its last
   * attempt (or `final`). Rejects as `ack` does. Calling twice is safe.
   */
  async nack(error: unknown, options: FailureOptions = {}): Promise<void> {
    checkOptions(options, ['delayMs', 'final'], 'nack');
    if (options.delayMs !== undefined) checkDelay(options.delayMs, 'delayMs');
    const { claim, session } = this.#terms;
    return this.#settle('nack', () =>
      this.#outcome(outcomes.failed(claim, error, session.client.clock.wall(), options)),
    );
  }

  /** Hands the job back to its place as if it had never been claimed. Rejects as `ack` does. Calling twice is safe. */
  release(): Promise<void> {
    return this.#settle('release', () => this.#outcome(outcomes.released(this.#terms.claim)));
  }

  /**
   * Acknowledges the job and does `then` in one transaction: both or neither, and at most once however often the job is
   * run. With `if`, both happen only when that holds too; otherwise `else` is done, the job stays ours, and `succeeded`
   * is false. The transaction may not touch the job's own keys. A commit that was declined is not done
   * later either, whatever copy of it is still on its way.
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
    const { claim, consumer, keys, session } = this.#terms;
    const run = async (): Promise<TxnResult> => {
      const commit = {
        body: keys.body(this.id),
        claim,
        ending: outcomes.steps(keys, claim, this.#done),
        entry: this.#entry,
        guard: this.guard(),
        session,
        worker: consumer.registration,
      };
      const result = await commitJob(commit, spec);
      if (result === undefined) throw notHeld(claim, undefined);
      return result;
    };
    return this.#settle('commit', run, ({ succeeded }) => !succeeded);
  }

  /**
   * Takes the job back from whoever has it, and releases it, however often etcd refuses that: a job of ours that nobody
   * works on would be stuck for as long as the session lives. The signal aborts at once, with `why`. Resolves when the job
   * is not ours any more. Never rejects.
   */
  async giveBack(why: unknown): Promise<void> {
    const { session } = this.#terms;
    this.#on({ what: 'recall' });
    this.#silence(why);
    for (let attempt = 0; ; attempt++) {
      await this.settled();
      if (this.#state.is !== 'recalled' || !this.#isOurs) return;
      if (attempt > 0) {
        const pauseMs = backoffMs(attempt - 1, { baseMs: 100, maxMs: 5000 });
        await sleep(session.client.clock, pauseMs, session.signal).catch(() => undefined);
      }
      await this.release().catch(() => undefined);
    }
  }

  /** Hands in what was not handed in, as a failed attempt. Never throws: what cannot be confirmed ends with the session. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#state.is === 'held')
      await this.nack(new Error('it was left without ack or nack')).catch(() => undefined);
    else await this.settled();
  }

  /** Resolves when nothing is under way; whatever came of it. */
  async settled(): Promise<void> {
    await this.#settling?.done.catch(() => undefined);
  }

  /** For whoever opened the consumer: the session has ended, or our worker's key is gone, for this reason. */
  lost(reason: unknown): void {
    tell('loss', () => ({ error: reason, fencingToken: this.fencingToken, id: this.id, kind: 'job' }));
    this.#silence(reason);
    this.#on({ what: 'lost' });
  }

  /** Ends the hold of a job that was seen not to be ours, and says why. */
  #lose(): ConclaveError {
    const reason = this.#notHeld();
    if (this.#state.is === 'held') this.lost(reason);
    return reason;
  }

  get #settling(): Settling | undefined {
    return 'settling' in this.#state ? this.#state.settling : undefined;
  }

  get #shown(): Readonly<Record<string, unknown>> {
    const { attempt, data, errors, fencingToken, held, id, maxAttempts, priority } = this;
    return { id, data, priority, attempt, maxAttempts, errors, fencingToken, held };
  }

  get #isOurs(): boolean {
    const { consumer, session } = this.#terms;
    return session.alive && !consumer.registration.removed.aborted;
  }

  get #done(): JobOutcome {
    const { claim, session } = this.#terms;
    return outcomes.done(claim, session.client.clock.wall());
  }

  #outcome(outcome: JobOutcome): Promise<void> {
    return this.#terms.consumer.settle(this.#terms.claim, outcome);
  }

  /** One way out, once. What fails for a reason that leaves the job ours may be tried again, or another way. */
  #settle<R>(kind: SettleKind, run: () => Promise<R>, isDeclined?: (result: R) => boolean): Promise<R> {
    if (this.#settling?.kind === kind) return this.#settling.done as Promise<R>;
    const accepted = this.#state.is === 'held' || (this.#state.is === 'recalled' && kind === 'release');
    if (!accepted || !this.#isOurs) return Promise.reject(this.#notHeld());
    const done = run().then(
      (result) => {
        this.#on({ what: isDeclined?.(result) === true ? 'declined' : 'settled' });
        return result;
      },
      (error: unknown) => {
        this.#on({ what: hasCode(error, 'NOT_HELD') || !this.#isOurs ? 'lost' : 'refused' });
        throw error;
      },
    );
    done.catch(() => undefined);
    this.#on({ settling: { done, kind }, what: 'settle' });
    return done;
  }

  #on(event: JobLifeEvent): void {
    const before = this.#state;
    this.#state = following(JOB_LIFE, before, event);
    if (this.#state === before) return;
    if (this.#state.is !== 'settled' && this.#state.is !== 'lost') return;
    this.#silence(this.#state.is === 'settled' ? this.#handedIn() : this.#notHeld());
    this.#terms.ended();
  }

  #silence(reason: unknown): void {
    this.#silenced ??= { reason };
    this.#controller?.abort(reason);
  }

  #handedIn(): ConclaveError {
    return new ConclaveError('NOT_HELD', `job ${JSON.stringify(this.id)} has been handed in`, {
      key: this.#terms.claim.key,
    });
  }

  #notHeld(): ConclaveError {
    const { claim, consumer, session } = this.#terms;
    const removed = consumer.registration.removed.reason as unknown;
    const handedIn = this.handedIn ? this.#handedIn() : undefined;
    return notHeld(claim, session.reason ?? removed ?? handedIn);
  }
}
