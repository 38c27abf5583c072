/**
 * One object with everything, on a session that renews itself: what a program that is to live for months stands on.
 *
 * Whoever holds something when the session is lost has lost it, and is told as early as ever, by its signal. Whoever asks
 * for something while there is no session waits for the next one, within its own limits; workers of queues and
 * `election.run` go on with it by themselves.
 *
 * Not guaranteed: that work which was under way when the session was lost is done again, but for jobs: `mutex.run` rejects
 * with the loss, and works again at the next call.
 */
import { Barrier } from '../barrier/barrier.js';
import { DoubleBarrier, type DoubleBarrierOptions } from '../barrier/double-barrier.js';
import { Latch, type LatchOptions } from '../barrier/latch.js';
import { Election } from '../election/election.js';
import { Client } from '../etcd/client.js';
import { CLIENT_OPTIONS, type ClientOptions } from '../etcd/client-options.js';
import { LeasedKey, type LeasedKeyOptions } from '../leased/leased-key.js';
import { Leasing, type LeasingOptions } from '../leasing/leasing.js';
import { LockManager } from '../mutex/lock-manager.js';
import { MultiMutex } from '../mutex/multi-mutex.js';
import { Mutex } from '../mutex/mutex.js';
import { RWLock } from '../mutex/rw-lock.js';
import { Semaphore, type SemaphoreOptions } from '../mutex/semaphore.js';
import { JobQueue } from '../queue/job-queue.js';
import type { QueueOptions } from '../queue/produce/options.js';
import { Session, type SessionState } from '../session/session.js';
import { type RenewalOptions, Sessions } from '../session/sessions.js';
import type { Bytes } from '../util/bytes.js';
import { checkLimits, checkMs, checkOptions } from '../util/validate.js';
import { onSignals } from './signals.js';

/** Options of `connect`. */
export interface ConnectOptions extends ClientOptions, RenewalOptions {
  /**
   * All keys begin with this in etcd, and nowhere else: `client` is that of the namespace.
   * @default none
   */
  readonly namespace?: Bytes | undefined;
  /** Gives up connecting. */
  readonly signal?: AbortSignal | undefined;
}

/** How a `Conclave` is doing. */
export interface Health {
  /** Whether what is held is held, and what is asked for can be had: there is a session. */
  readonly ok: boolean;
  /** The session's state; `lost` while the next one is being opened. */
  readonly state: SessionState;
  /** The endpoint that calls go to. */
  readonly endpoint: string;
  readonly leaseId: bigint;
  /** Until the session is lost unless a keepalive is answered before. */
  readonly leaseRemainingMs: number;
  /** How long the last answered keepalive took; undefined before the first one. */
  readonly roundTripMs: number | undefined;
  /** How many sessions were lost since `connect`. */
  readonly sessionsLost: number;
  /** Why the next session could not be opened yet. */
  readonly lastError: unknown;
}

/** How a `Conclave` is closed. */
export interface CloseOptions {
  /** Within this many milliseconds it is closed, whatever happens. @default 10000 */
  readonly graceMs?: number | undefined;
}

const SESSION_OPTIONS = ['label', 'marginMs', 'ttlSeconds'] as const;
const GRACE_MS = 10_000;

/** Made by `connect`. Wherever a `Session` is taken, a `Conclave` may be given. */
export class Conclave extends Sessions implements AsyncDisposable {
  /** The client, or the one that its namespace is of. */
  readonly #whole: Client;
  #done: Promise<void> | undefined;

  private constructor(first: Session, options: RenewalOptions, whole: Client) {
    super(first, options);
    this.#whole = whole;
  }

  /** @internal `connect` is the way to one. */
  static on(first: Session, options: RenewalOptions, whole: Client): Conclave {
    return new Conclave(first, options, whole);
  }

  /** A lock across machines. */
  mutex(name: string): Mutex {
    return new Mutex(this, name);
  }

  /** A lock on several names at once. */
  multiMutex(names: readonly string[]): MultiMutex {
    return new MultiMutex(this, names);
  }

  /** A lock that many may read under, and one may write. */
  rwLock(name: string): RWLock {
    return new RWLock(this, name);
  }

  /** So many permits, which all share. */
  semaphore(name: string, options: SemaphoreOptions): Semaphore {
    return new Semaphore(this, name, options);
  }

  /** Locks by name below a prefix, as in the browser's `navigator.locks`. */
  locks(prefix?: string): LockManager {
    return new LockManager(this, { prefix });
  }

  /** Leader election. */
  election(name: string): Election {
    return new Election(this, name);
  }

  /** What one party holds closed while others wait. */
  barrier(name: string): Barrier {
    return new Barrier(this, name);
  }

  /** So many parties enter together, and leave together. One object is one party. */
  doubleBarrier(name: string, options: DoubleBarrierOptions): DoubleBarrier {
    return new DoubleBarrier(this, name, options);
  }

  /** Opens once it was counted down. */
  latch(name: string, options: LatchOptions): Latch {
    return new Latch(this, name, options);
  }

  /**
   * Puts a key that comes back with the next session, or when it is removed by hand, until it is closed. Resolves and rejects
   * as `LeasedKey.put`.
   */
  leasedKey(key: string, value: Bytes, options: LeasedKeyOptions = {}): Promise<LeasedKey> {
    return LeasedKey.put(this, key, value, options);
  }

  /** Reads from memory what nobody else wants to write, for as long as all writers do it this way. */
  leasing(options: LeasingOptions): Leasing {
    return new Leasing(this, options);
  }

  /** A queue of durable jobs. Its workers go on with the next session when one is lost. */
  queue<T = unknown>(name: string, options: QueueOptions = {}): JobQueue<T> {
    return new JobQueue<T>(this, name, options);
  }

  /** How it is doing at this moment, without asking anybody: for a `/healthz`. */
  health(): Health {
    const { session } = this;
    const { state } = session;
    return {
      endpoint: this.client.endpoint,
      lastError: this.lastFailure,
      leaseId: session.leaseId,
      leaseRemainingMs: session.remainingMs,
      ok: state === 'active' || state === 'jeopardy',
      roundTripMs: session.roundTripMs,
      sessionsLost: this.sessionCount - (state === 'lost' ? 0 : 1),
      state,
    };
  }

  /**
   * Stops in order. Workers take no more jobs and end those they have, or hand them back without using up an attempt;
   * `election.run` stops its leader and resigns. Then nothing can be acquired any more, all that is still held is given
   * back with the lease, and the client is closed. Resolves when that is done, after `graceMs` at the latest: what is left
   * then goes with the lease. Never rejects. Closing twice gives the first call's promise; a handler or a leader that would
   * wait for itself is not kept waiting.
   */
  close(options: CloseOptions = {}): Promise<void> {
    checkOptions(options, ['graceMs'], 'close');
    const graceMs = checkMs(options.graceMs ?? GRACE_MS, 'graceMs');
    const { waitsForItself } = this;
    this.#done ??= this.#close(graceMs);
    return waitsForItself ? Promise.resolve() : this.#done;
  }

  /**
   * Closes when this process gets SIGTERM or SIGINT, and then ends it as the signal would have; a second signal ends it at
   * once. Returns how to take that back.
   */
  closeOnSignals(options: CloseOptions = {}): () => void {
    checkOptions(options, ['graceMs'], 'closeOnSignals');
    if (options.graceMs !== undefined) checkMs(options.graceMs, 'graceMs');
    return onSignals(() => this.close(options));
  }

  /** As `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(graceMs: number): Promise<void> {
    await this.endSessions(graceMs);
    await this.#whole.close();
  }
}

/**
 * Connects to etcd and opens a session that renews itself. Rejects with `UNAVAILABLE` when no endpoint answers within
 * the client's time limit, with what etcd has against us, or with the signal's reason; nothing is left then.
 *
 * @example
 * await using conclave = await connect({ endpoints: ['http://127.0.0.1:2379'] });
 * await conclave.mutex('orders/42').run(async (lock) => ship(lock.signal));
 */
export async function connect(options: ConnectOptions = {}): Promise<Conclave> {
  checkOptions(options, [...CLIENT_OPTIONS, ...SESSION_OPTIONS, 'namespace', 'signal'], 'connect');
  const { auth, batch, clock, endpoints, syncIntervalMs, timeoutMs, tls, ...other } = options;
  checkLimits({ signal: options.signal });
  return connectWith(new Client({ auth, batch, clock, endpoints, syncIntervalMs, timeoutMs, tls }), other);
}

/** @internal The same with a client that is there, which is closed with it. */
export async function connectWith(
  whole: Client,
  { namespace, signal, ...renewal }: Omit<ConnectOptions, keyof ClientOptions>,
): Promise<Conclave> {
  try {
    const client = namespace === undefined ? whole : whole.namespace(namespace);
    return Conclave.on(await Session.open(client, { ...renewal, signal }), renewal, whole);
  } catch (error) {
    await whole.close();
    throw error;
  }
}
