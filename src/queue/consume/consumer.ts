/**
 * Where the workers of one queue object fetch jobs and settle them. One transaction at a time settles all that is done,
 * claims as many jobs as are waited for, and reads what to claim next.
 *
 * A claim has one owner at any time: who fetched it; else, if nobody waits for it any more, this class, which releases it.
 */
import { ConclaveError, hasCode } from '../../errors/conclave-error.js';
import { passesByItself } from '../../errors/transient.js';
import { type Compare, compare } from '../../etcd/kv/compare.js';
import type { Session } from '../../session/session.js';
import { onAbort, orAborted, sleep } from '../../util/abort.js';
import { backoffMs } from '../../util/backoff.js';
import { soon, type Timer } from '../../util/clock.js';
import { Deferred } from '../../util/deferred.js';
import { thrownText, warn } from '../../util/warn.js';
import { type ControlEvent, type ControlWatch } from '../store/control-watch.js';
import { Turns } from '../store/returned.js';
import { schedulerOf } from '../upkeep/delayed-scheduler.js';
import { reaperOf } from '../upkeep/reaper.js';
import { BacklogCursor } from './backlog-cursor.js';
import { type Claimed, type Claimer, findClaims } from './claim-txn.js';
import { type Claim, type JobOutcome, outcomes } from './outcome.js';
import { Prefetcher } from './prefetcher.js';
import { endEarlierLives, Registration } from './registration.js';
import { answersOf, requeued, type Settlement, stepsOf, wereOurs, type Work } from './round-trip.js';

/** Of each kind in one transaction; see etcd's limit of 128 operations, which nested ones share. */
const MOST = 40;
/** How much later each further worker looks at what all of them have just been told of. */
const JITTER_MS = 0.5;
/**
 * How long a worker has nothing to do before it looks for jobs that came back and that others should have taken: at least
 * so long, and as long as so many of its transactions took.
 */
const HELP_MS = 20;
const HELP_TRIPS = 10;

export class Consumer {
  readonly #session: Session;
  readonly #control: ControlWatch;
  readonly #registration: Registration;
  readonly #claimer: Claimer;
  readonly #cursor = new BacklogCursor();
  readonly #prefetcher: Prefetcher;
  readonly #turns = new Turns();
  readonly #waiters = new Set<Deferred<Claim>>();
  readonly #leaveScheduler: () => Promise<void>;
  readonly #stops: (() => void)[];
  readonly #ending = new AbortController();
  /** Jobs that nobody works on, on their way back. */
  readonly #leftovers = new Set<Promise<void>>();
  #settlements: Settlement[] = [];
  #loop: Promise<void> | undefined;
  #timer: Timer | undefined;
  #helping: Timer | undefined;
  /** How long the last transaction took. */
  #tripMs = 0;
  #hasWarned = false;

  private constructor(session: Session, control: ControlWatch, registration: Registration) {
    const { workerId, working } = registration;
    this.#session = session;
    this.#control = control;
    this.#claimer = { keys: control.layout, unpaused: () => control.sinceUnpaused, workerId, working };
    this.#registration = registration;
    this.#prefetcher = new Prefetcher(this.#cursor, control, workerId);
    this.#leaveScheduler = schedulerOf(control).use(session);
    this.#stops = [
      control.use((event) => this.#changed(event)),
      reaperOf(control).use(),
      () => void this.#leaveScheduler(),
      () => registration.stopListening(),
      ...[session.signal, registration.removed].map((signal) =>
        onAbort(signal, (reason) => this.#end(reason)),
      ),
    ];
  }

  /** Joins the workers of the queue. Resolves when jobs can be taken; an abort takes back what was registered. */
  static async open(session: Session, control: ControlWatch, signal: AbortSignal): Promise<Consumer> {
    const consumer = new Consumer(session, control, await Registration.join(session, control));
    try {
      await orAborted(orAborted(consumer.#getReady(), consumer.ended), signal);
    } catch (error) {
      await consumer.close().catch(() => undefined);
      throw error;
    }
    consumer.#changed({ reverted: false, what: 'all' });
    return consumer;
  }

  async #getReady(): Promise<void> {
    const reaper = reaperOf(this.#control);
    await this.#control.ready;
    for (const workerId of await endEarlierLives(this.#session, this.#control)) await reaper.reap(workerId);
    await reaper.scanned;
  }

  /** Aborts when nothing can be taken here any more. */
  get ended(): AbortSignal {
    return this.#ending.signal;
  }

  /** Our place among the workers, without which no job is ours. */
  get registration(): Registration {
    return this.#registration;
  }

  /** Resolves with a claimed job, first come first served; rejects when the signal aborts or the session ends. */
  async fetch(signal: AbortSignal): Promise<Claim> {
    this.ended.throwIfAborted();
    signal.throwIfAborted();
    const waiter = new Deferred<Claim>();
    const stop = onAbort(signal, (reason) => {
      this.#waiters.delete(waiter);
      waiter.reject(reason);
    });
    this.#waiters.add(waiter);
    this.#kick();
    try {
      return await waiter.promise;
    } finally {
      stop();
    }
  }

  /** Settles a claimed job. Rejects with `NOT_HELD` when it was no longer ours, `UNKNOWN_OUTCOME` when nobody knows. */
  async settle(claim: Claim, outcome: JobOutcome): Promise<void> {
    if (!this.#session.alive) throw notHeld(claim, this.#session.signal.reason);
    const done = new Deferred<void>();
    this.#settlements.push({ claim, done, outcome });
    this.#kick();
    await done.promise;
  }

  /** Leaves the workers. Nothing may be fetched any more; resolves when what was to be settled is. For one call. */
  async close(): Promise<void> {
    this.#end(new ConclaveError('CLOSED', 'this consumer has left the queue'));
    while (this.#loop !== undefined || this.#leftovers.size > 0)
      await Promise.all([this.#loop, ...this.#leftovers]);
    await this.#leaveScheduler();
    if (this.#session.alive) await this.#registration.leave();
  }

  /** What holds only while we hold the job of this claim. */
  guard(claim: Claim): Compare[] {
    return [compare.createRevision(claim.key, '=', claim.token), this.#registration.working];
  }

  #end(reason: unknown): void {
    if (!this.ended.aborted) {
      this.#ending.abort(reason);
      for (const stop of this.#stops) stop();
      this.#timer?.cancel();
      this.#helping?.cancel();
    }
    this.#rejectWaiters(reason);
  }

  #rejectWaiters(reason: unknown): void {
    for (const waiter of this.#waiters) waiter.reject(reason);
    this.#waiters.clear();
  }

  #rejectSettlements(settlements: readonly Settlement[], reason: unknown): void {
    const isKnown = this.#session.alive || hasCode(reason, 'UNKNOWN_OUTCOME');
    for (const { claim, done } of settlements) done.reject(isKnown ? reason : notHeld(claim, reason));
  }

  #changed(event: ControlEvent): void {
    if (event.what === 'all') {
      this.#cursor.reset(this.#control.tails);
      this.#prefetcher.cameBack();
    }
    if (event.what === 'appended') {
      this.#cursor.grew(event.priority, event.tail, event.first);
      this.#prefetcher.cameAhead(event.priority);
    }
    if (event.what === 'back') {
      for (const returned of event.returned) this.#cursor.back(returned);
      this.#prefetcher.cameBack();
    }
    if (event.what === 'failed') this.#end(event.error);
    if (this.#loop !== undefined || this.#waiters.size === 0 || this.#timer !== undefined) return;
    const delayMs = this.#control.jitterMs(JITTER_MS);
    if (delayMs === 0) {
      this.#kick();
      return;
    }
    this.#timer = this.#session.client.clock.setTimer(delayMs, () => {
      this.#timer = undefined;
      this.#kick();
    });
  }

  get #hasWork(): boolean {
    if (this.#settlements.length > 0) return true;
    return this.#waiters.size > 0 && !this.#control.paused && this.#prefetcher.promising;
  }

  #kick(): void {
    if (this.#loop !== undefined) return;
    if (!this.#hasWork) {
      this.#helpLater();
      return;
    }
    this.#loop = this.#run().finally(() => {
      this.#loop = undefined;
      this.#kick();
    });
  }

  /** Looks for what others should have taken, if there is nothing else to do for a moment. */
  #helpLater(): void {
    if (this.#helping !== undefined || this.#waiters.size === 0 || this.#control.paused) return;
    if (!this.#cursor.hasLeftovers) return;
    const delayMs = Math.max(HELP_MS, HELP_TRIPS * this.#tripMs) + this.#control.jitterMs(JITTER_MS);
    this.#helping = this.#session.client.clock.setTimer(delayMs, () => {
      this.#helping = undefined;
      if (this.#loop !== undefined || this.#hasWork) return;
      this.#cursor.beIdle();
      this.#kick();
    });
  }

  async #run(): Promise<void> {
    for (let failures = 0; ;) {
      // Handlers that end in this turn of the event loop go together.
      await new Promise<void>((resolve) => soon(this.#session.client.clock, resolve));
      if (!this.#hasWork) return;
      const settlements = this.#settlements.splice(0, MOST);
      const { clock } = this.#session.client;
      const from = clock.now();
      try {
        await this.#roundTrip(settlements);
        this.#tripMs = clock.now() - from;
        failures = 0;
      } catch (error) {
        this.#prefetcher.notTried();
        this.#rejectSettlements(settlements, error);
        if (passesByItself(error) && this.#session.alive) await this.#pause(failures++);
        else this.#rejectWaiters(error);
      }
    }
  }

  /** Who waits for a job goes on waiting while etcd refuses to give one; what is to be settled waits for the next try. */
  async #pause(failures: number): Promise<void> {
    const pauseMs = backoffMs(failures, { baseMs: 20, maxMs: 500 });
    await sleep(this.#session.client.clock, pauseMs, this.#session.signal).catch(() => undefined);
  }

  async #roundTrip(settlements: readonly Settlement[]): Promise<void> {
    const want = this.#control.paused ? 0 : Math.min(this.#waiters.size, MOST);
    const returned = this.#turns.take(requeued(settlements));
    // What goes back to its place now may be ahead of what was read.
    for (const each of returned) this.#cursor.back(each);
    if (returned.length > 0) this.#prefetcher.cameBack();
    const picks = this.#prefetcher.picks(want);
    const work: Work = { picks, reads: this.#prefetcher.plan(want), returned, settlements };
    if (settlements.length + picks.length > 0) await this.#write(work);
    else if (work.reads.length > 0)
      this.#prefetcher.learn((await this.#session.client.kv.txn({ then: work.reads })).responses);
  }

  async #write(work: Work): Promise<void> {
    const { picks, settlements } = work;
    const outcome = await this.#registration.writer.run({ then: stepsOf(this.#claimer, work) });
    if (outcome.is !== 'applied') {
      await this.#findOut(work, outcome.revision);
      return;
    }
    const { claimed, reads, settled } = answersOf(this.#claimer, work, outcome);
    this.#resolveSettlements(settlements, settled);
    if (claimed === undefined) this.#prefetcher.notTried();
    else this.#prefetcher.tried(picks);
    for (const each of claimed ?? []) this.#give(each);
    this.#prefetcher.learn(reads);
  }

  /** It was applied at `revision`, and its answer is lost. Each half is found out even if the other cannot be. */
  async #findOut({ picks, settlements }: Work, revision: bigint): Promise<void> {
    await wereOurs(this.#session, settlements, revision).then(
      (ours) => this.#resolveSettlements(settlements, ours),
      (error: unknown) => this.#rejectSettlements(settlements, unknownOutcome(error)),
    );
    if (picks.length > 0)
      for await (const each of findClaims(this.#session, this.#claimer, picks)) this.#give(each);
    this.#prefetcher.tried(picks);
  }

  #resolveSettlements(settlements: readonly Settlement[], wasOurs: readonly boolean[]): void {
    for (const [at, { claim, done }] of settlements.entries()) {
      if (wasOurs[at] === true) done.resolve();
      else done.reject(notHeld(claim, undefined));
    }
  }

  /** Gives a claimed job to whoever has waited longest, or back if nobody does any more. */
  #give(claimed: Claimed): void {
    const { claim } = claimed;
    const [waiter] = this.#waiters;
    if (claimed.is === 'spoilt') {
      this.#dispose(claim, outcomes.spoilt(claim, claimed.why, this.#session.client.clock.wall()));
    } else if (claimed.is === 'unreadable' || waiter === undefined) {
      if (claimed.is === 'unreadable') this.#warn(claim, claimed.why);
      this.#dispose(claim, outcomes.released(claim));
    } else {
      this.#waiters.delete(waiter);
      waiter.resolve(claim);
    }
  }

  /** It is said once: whose link is too slow for one job is so for the others. */
  #warn({ place, record }: Claim, why: unknown): void {
    if (this.#hasWarned) return;
    this.#hasWarned = true;
    const size = record.bytes === undefined ? '' : `, ${String(record.bytes)} bytes,`;
    warn(
      'CONCLAVE_SLOW_LINK',
      `the data of job ${JSON.stringify(place.id)}${size} does not come within the client's time limit, so the job goes ` +
        `back to its place for others: ${thrownText(why)}`,
    );
  }

  #dispose(claim: Claim, outcome: JobOutcome): void {
    const done = this.#insist(claim, outcome).finally(() => this.#leftovers.delete(done));
    this.#leftovers.add(done);
  }

  /** Settles a job that nobody works on. What etcd refuses is tried again, since the job is ours as long as we live. */
  async #insist(claim: Claim, outcome: JobOutcome): Promise<void> {
    const { clock } = this.#session.client;
    for (let attempt = 0; this.#session.alive; attempt++) {
      try {
        await this.settle(claim, outcome);
        return;
      } catch (error) {
        if (hasCode(error, 'NOT_HELD')) return;
      }
      await sleep(clock, backoffMs(attempt, { baseMs: 100, maxMs: 5000 }), this.#session.signal).catch(
        () => undefined,
      );
    }
  }
}

/** The job is not ours any more: the session ended, or somebody removed its key. */
export function notHeld(claim: Pick<Claim, 'key' | 'place'>, cause: unknown): ConclaveError {
  const text =
    `job ${JSON.stringify(claim.place.id)} is no longer held by this worker: it goes to another one, or has been ` +
    'handed in already; nothing was written';
  return new ConclaveError('NOT_HELD', text, { cause, key: claim.key });
}

function unknownOutcome(cause: unknown): ConclaveError {
  const text =
    'what was handed in was applied, unless the job had been taken away; it could not be seen which';
  return new ConclaveError('UNKNOWN_OUTCOME', text, { cause });
}
