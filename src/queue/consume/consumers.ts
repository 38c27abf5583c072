/**
 * The consumers of one queue object, one after another. The first who wants a job opens one, all who do share it, and it
 * leaves when nobody uses it. A user belongs to the consumer that was there when it came, for its whole life: what ends
 * another one is no concern of its own. The life of each is CONSUMER_LIFE in lives.ts.
 */
import { ConclaveError } from '../../errors/conclave-error.js';
import { passesByItself } from '../../errors/transient.js';
import type { Session } from '../../session/session.js';
import { onAbort, orAborted, sleep, waitAtMost } from '../../util/abort.js';
import { backoffMs } from '../../util/backoff.js';
import type { Timer } from '../../util/clock.js';
import { Deferred } from '../../util/deferred.js';
import { controlWatchOf } from '../store/control-watch.js';
import type { QueueKeys } from '../store/keys.js';
import { Consumer } from './consumer.js';
import { Job } from './job.js';
import { CONSUMER_LIFE, type ConsumerEvent, type ConsumerState, following } from './lives.js';

/** How long a consumer stays that only `dequeue` has used: who dequeues in a loop need not join each time. */
const LINGER_MS = 1000;
/** How long a closing queue waits for what was dequeued to be back. */
const GIVE_BACK_MS = 3000;

/** The use of a consumer by a worker, or by a `dequeue`. */
export interface ConsumerUse<T> {
  /** Aborts, with the reason, when no job can be had here any more and nobody here has asked for that. */
  readonly ended: AbortSignal;
  /** Resolves with a job; rejects with the signal's reason, or with why none can be had. */
  take(signal: AbortSignal): Promise<Job<T>>;
  /** Ends the use. The last one to end it lets the consumer leave; resolves when that is done. With `linger`, it leaves later. */
  end(options?: { readonly linger: boolean }): Promise<void>;
}

export class Consumers<T> {
  readonly #session: Session;
  readonly #keys: QueueKeys;
  readonly #lives = new Set<ConsumerLife<T>>();

  constructor(session: Session, keys: QueueKeys) {
    this.#session = session;
    this.#keys = keys;
  }

  /** Starts a use of the consumer that is there or joins, or of a new one. */
  use(): ConsumerUse<T> {
    for (const life of this.#lives) if (life.isUsable) return life.use();
    const life: ConsumerLife<T> = new ConsumerLife<T>(this.#session, this.#keys, () =>
      this.#lives.delete(life),
    );
    this.#lives.add(life);
    return life.use();
  }

  /**
   * Nobody uses them any more: jobs that were dequeued and not settled go back, and all leave. Resolves when that is done,
   * or at least under way when etcd refuses it.
   */
  async close(): Promise<void> {
    await Promise.all([...this.#lives].map((life) => life.close()));
  }
}

/** The life of one consumer. */
class ConsumerLife<T> {
  readonly #session: Session;
  readonly #keys: QueueKeys;
  readonly #whenGone: () => void;
  readonly #opening: Promise<Consumer>;
  readonly #jobs = new Set<Job<T>>();
  readonly #ended = new AbortController();
  /** Aborts when nobody waits any more for it to have joined. */
  readonly #leaving = new AbortController();
  readonly #gone = new Deferred<void>();
  #state: ConsumerState = { is: 'joining' };
  #consumer: Consumer | undefined;
  #uses = 0;
  #stops: (() => void)[] = [];
  #linger: Timer | undefined;

  constructor(session: Session, keys: QueueKeys, whenGone: () => void) {
    this.#session = session;
    this.#keys = keys;
    this.#whenGone = whenGone;
    this.#opening = this.#open();
    this.#opening.catch(() => undefined);
    this.#stops.push(onAbort(session.signal, (reason) => this.#fail(reason)));
  }

  /** Whether it takes users. */
  get isUsable(): boolean {
    return this.#state.is === 'joining' || this.#state.is === 'open' || this.#state.is === 'idle';
  }

  use(): ConsumerUse<T> {
    this.#uses += 1;
    this.#on({ what: 'used' });
    let used = true;
    return {
      ended: this.#ended.signal,
      take: (signal) => this.#take(signal),
      end: async ({ linger } = { linger: false }) => {
        if (used) this.#uses -= 1;
        used = false;
        this.#checkUnused();
        if (linger || !this.#isUnused) return;
        this.#on({ what: 'dismissed' });
        await this.#gone.promise;
      },
    };
  }

  async close(): Promise<void> {
    const why = new ConclaveError('CLOSED', 'the queue was closed');
    const back = Promise.all([...this.#jobs].map((job) => job.giveBack(why)));
    await waitAtMost(this.#session.client.clock, GIVE_BACK_MS, back);
    if (this.#isUnused) this.#on({ what: 'dismissed' });
    // Who still uses it has been told, and is just about to end that. With jobs that etcd does not take back it stays.
    if (this.#jobs.size === 0) await this.#gone.promise;
  }

  /** Joins, however often etcd refuses that for a reason that passes, unless nobody wants it any more. */
  async #open(): Promise<Consumer> {
    const { client, signal } = this.#session;
    const control = controlWatchOf(client, this.#keys);
    for (let attempt = 0; ; attempt++) {
      try {
        const consumer = await Consumer.open(this.#session, control, this.#leaving.signal);
        this.#stops.push(onAbort(consumer.ended, (reason) => this.#fail(reason)));
        this.#consumer = consumer;
        this.#on({ what: 'opened' });
        this.#checkUnused();
        return consumer;
      } catch (error) {
        if (!passesByItself(error) || !this.#session.alive || !this.isUsable) {
          // Whatever the end of the session did to a request of ours, for who waits for a job that is the reason.
          this.#fail(this.#session.reason ?? error);
          throw error;
        }
      }
      const pauseMs = backoffMs(attempt, { baseMs: 50, maxMs: 2000 });
      await sleep(client.clock, pauseMs, AbortSignal.any([signal, this.#leaving.signal])).catch(
        () => undefined,
      );
    }
  }

  async #take(signal: AbortSignal): Promise<Job<T>> {
    try {
      const consumer = await orAborted(this.#opening, signal);
      const claim = await consumer.fetch(signal);
      // After a freeze, the answer may be read before the session's end is noticed.
      this.#session.throwIfEnded();
      const job: Job<T> = new Job<T>(
        { claim, consumer, ended: () => this.#settled(job), keys: this.#keys, session: this.#session },
        claim.data as T,
      );
      this.#jobs.add(job);
      return job;
    } catch (error) {
      signal.throwIfAborted();
      this.#session.throwIfEnded();
      this.#ended.signal.throwIfAborted();
      throw error;
    }
  }

  #settled(job: Job<T>): void {
    this.#jobs.delete(job);
    this.#checkUnused();
  }

  get #isUnused(): boolean {
    return this.#uses === 0 && this.#jobs.size === 0;
  }

  #checkUnused(): void {
    if (this.#isUnused) this.#on({ what: 'unused' });
  }

  /** Nothing can be taken. Without the session, or our worker's key, the jobs are not ours either. */
  #fail(reason: unknown): void {
    this.#on({ reason, what: 'failed' });
    const isRegistered = this.#session.alive && this.#consumer?.registration.removed.aborted !== true;
    if (!isRegistered) for (const job of [...this.#jobs]) job.lost(reason);
  }

  #on(event: ConsumerEvent): void {
    const before = this.#state;
    this.#state = following(CONSUMER_LIFE, before, event);
    if (this.#state === before) return;
    this.#linger?.cancel();
    switch (this.#state.is) {
      case 'idle':
        this.#linger = this.#session.client.clock.setTimer(LINGER_MS, () => this.#on({ what: 'dismissed' }));
        return;
      case 'over':
        this.#ended.abort(this.#state.reason);
        this.#checkUnused();
        return;
      case 'leaving':
        for (const stop of this.#stops) stop();
        this.#leaving.abort(new Error('nobody waits for this consumer any more'));
        void this.#leave().then(() => this.#on({ what: 'left' }));
        return;
      case 'gone':
        this.#whenGone();
        this.#gone.resolve();
    }
  }

  async #leave(): Promise<void> {
    const consumer = await this.#opening.catch(() => undefined);
    await consumer?.close().catch(() => undefined);
  }
}
