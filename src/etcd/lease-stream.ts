import type { ClientDuplexStream, ServiceError } from '@grpc/grpc-js';

import { ConclaveError, hasCode } from '../errors/conclave-error.js';
import type { LeaseKeepAliveRequestInput, LeaseKeepAliveResponse } from '../proto/messages.gen.js';
import { services } from '../proto/services.js';
import { sleep } from '../util/abort.js';
import { backoffMs } from '../util/backoff.js';
import type { Timer } from '../util/clock.js';
import type { Connection } from './connection.js';
import type { Endpoint } from './endpoint.js';
import { readFailure } from './status.js';

/** What happens to a lease that is kept alive. Called synchronously; must not throw. */
export interface LeaseListener {
  /** The server renewed the lease when asked at monotonic time `sentAt`; it now lasts `ttlSeconds` from then at least. */
  renewed(sentAt: number, ttlSeconds: number): void;
  /** The server does not know the lease: it expired or was revoked. Nothing follows. */
  expired(): void;
  /** Renewing does not work at the moment; it goes on being tried. */
  failing(error: ConclaveError): void;
}

interface Entry {
  readonly id: bigint;
  readonly listeners: Set<LeaseListener>;
  ttlMs: number;
  dueAt: number;
}

type Stream = ClientDuplexStream<LeaseKeepAliveRequestInput, LeaseKeepAliveResponse>;

type State =
  | { readonly phase: 'idle' }
  | { readonly phase: 'opening'; readonly stop: AbortController }
  | {
      readonly phase: 'open';
      readonly stream: Stream;
      readonly endpoint: Endpoint;
      readonly openedAt: number;
      /**
       * When each unanswered request was sent, by lease. Answers come in the order of the requests, also those to
       * requests made for somebody who has left meanwhile.
       */
      readonly unanswered: Map<bigint, number[]>;
    };

type Open = Extract<State, { readonly phase: 'open' }>;

/** An unanswered request is repeated this often. */
const REPEAT_MS = 500;
/** After this long without any answer the stream is given up for one on another member. */
const SILENCE_MS = 1600;

/** One gRPC stream that keeps all leases of a client alive. It is open only while there are leases. */
export class LeaseStream {
  readonly #connection: Connection;
  readonly #entries = new Map<bigint, Entry>();
  #state: State = { phase: 'idle' };
  #timer: Timer | undefined;
  #failures = 0;
  #lastAnswerAt = 0;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  /**
   * Keeps lease `id` alive, asking a third of its life after the last renewal, which was sent at `sentAt`. Returns how
   * to stop. Several listeners on one lease share its requests.
   */
  maintain(id: bigint, ttlSeconds: number, sentAt: number, listener: LeaseListener): () => void {
    const ttlMs = ttlSeconds * 1000;
    const entry = this.#entries.get(id) ?? {
      dueAt: sentAt + ttlMs / 3,
      id,
      listeners: new Set(),
      ttlMs,
    };
    entry.dueAt = Math.min(entry.dueAt, sentAt + ttlMs / 3);
    this.#entries.set(id, entry);
    entry.listeners.add(listener);
    this.#schedule();
    return () => {
      entry.listeners.delete(listener);
      if (entry.listeners.size === 0) this.#remove(entry);
    };
  }

  get #now(): number {
    return this.#connection.clock.now();
  }

  #remove(entry: Entry): void {
    if (this.#entries.get(entry.id) !== entry) return;
    this.#entries.delete(entry.id);
    if (this.#entries.size === 0) this.#rest();
  }

  /** Nothing is left to keep alive. */
  #rest(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    const state = this.#state;
    this.#state = { phase: 'idle' };
    if (state.phase === 'open') state.stream.cancel();
    if (state.phase === 'opening') state.stop.abort();
  }

  /** Sets the timer to the moment the next request is due. */
  #schedule(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    if (this.#entries.size === 0 || this.#connection.closed.aborted) return;
    let next = Infinity;
    for (const entry of this.#entries.values()) next = Math.min(next, entry.dueAt);
    this.#timer = this.#connection.clock.setTimer(next - this.#now, () => this.#tick());
  }

  #tick(): void {
    const state = this.#state;
    if (state.phase === 'idle') void this.#open(undefined);
    else if (state.phase === 'open') {
      if (this.#silent(state)) {
        state.endpoint.suspectUntil = this.#now + REPEAT_MS * 4;
        this.#lost(
          state.stream,
          new ConclaveError('UNAVAILABLE', `keepalive: ${state.endpoint.url} does not answer`),
        );
        return;
      }
      this.#sendDue(state);
    }
    if (state.phase === 'open') this.#schedule();
  }

  #silent({ openedAt, unanswered }: Open): boolean {
    const heardAt = Math.max(this.#lastAnswerAt, openedAt);
    for (const [oldest] of unanswered.values()) {
      if (oldest !== undefined && this.#now - Math.max(oldest, heardAt) >= SILENCE_MS) return true;
    }
    return false;
  }

  #sendDue({ stream, unanswered }: Open): void {
    const now = this.#now;
    for (const entry of this.#entries.values()) {
      if (entry.dueAt > now) continue;
      const sent = unanswered.get(entry.id) ?? [];
      sent.push(now);
      unanswered.set(entry.id, sent);
      entry.dueAt = now + REPEAT_MS;
      stream.write({ ID: entry.id });
    }
  }

  async #open(avoid: Endpoint | undefined): Promise<void> {
    const stop = new AbortController();
    this.#state = { phase: 'opening', stop };
    const stillWanted = (): boolean => this.#state.phase === 'opening' && this.#state.stop === stop;
    try {
      if (this.#failures > 0) {
        await sleep(
          this.#connection.clock,
          backoffMs(this.#failures - 1, { baseMs: 20, maxMs: 500 }),
          stop.signal,
        );
      }
      const { stream, endpoint } = await this.#connection.duplex(services.Lease.LeaseKeepAlive, {
        avoid,
        signal: stop.signal,
      });
      if (!stillWanted()) {
        stream.on('error', () => undefined);
        stream.cancel();
        return;
      }
      const open: Open = { endpoint, openedAt: this.#now, phase: 'open', stream, unanswered: new Map() };
      this.#state = open;
      const token = this.#connection.token.current;
      stream.on('data', (answer: LeaseKeepAliveResponse) => this.#answered(stream, answer));
      stream.on('end', () =>
        this.#lost(stream, new ConclaveError('UNAVAILABLE', `keepalive: ${endpoint.url} ended it`)),
      );
      stream.on('error', (error: ServiceError) => {
        const failure = readFailure(error, 'keepalive', endpoint.url);
        if (hasCode(failure.error, 'INVALID_AUTH_TOKEN', 'AUTH_OLD_REVISION', 'PERMISSION_DENIED')) {
          this.#connection.token.drop(token);
        }
        this.#lost(stream, failure.error);
      });
      this.#sendDue(open);
      this.#schedule();
    } catch (error) {
      if (!stillWanted()) return;
      this.#failures += 1;
      this.#state = { phase: 'idle' };
      if (this.#connection.closed.aborted) return;
      this.#report(error);
      void this.#open(avoid);
    }
  }

  #answered(stream: Stream, answer: LeaseKeepAliveResponse): void {
    if (this.#state.phase !== 'open' || this.#state.stream !== stream) return;
    this.#failures = 0;
    this.#lastAnswerAt = this.#now;
    this.#state.endpoint.lastReplyAt = this.#lastAnswerAt;
    const entry = this.#entries.get(answer.ID);
    const sent = this.#state.unanswered.get(answer.ID);
    const sentAt = sent?.shift();
    if (sent?.length === 0) this.#state.unanswered.delete(answer.ID);
    if (entry === undefined || sentAt === undefined) return;
    const ttlSeconds = Number(answer.TTL);
    if (ttlSeconds <= 0) {
      this.#entries.delete(entry.id);
      for (const listener of [...entry.listeners]) listener.expired();
      if (this.#entries.size === 0) this.#rest();
    } else {
      entry.ttlMs = ttlSeconds * 1000;
      entry.dueAt = sentAt + entry.ttlMs / 3;
      for (const listener of [...entry.listeners]) listener.renewed(sentAt, ttlSeconds);
    }
    this.#schedule();
  }

  #lost(stream: Stream, error: ConclaveError): void {
    const state = this.#state;
    if (state.phase !== 'open' || state.stream !== stream) return;
    this.#failures += 1;
    this.#state = { phase: 'idle' };
    stream.cancel();
    const now = this.#now;
    for (const entry of this.#entries.values()) {
      if (state.unanswered.has(entry.id)) entry.dueAt = now;
    }
    if (this.#connection.closed.aborted || this.#entries.size === 0) return;
    this.#report(error);
    void this.#open(state.endpoint);
  }

  #report(error: unknown): void {
    const known =
      error instanceof ConclaveError
        ? error
        : new ConclaveError('UNAVAILABLE', 'keepalive failed', { cause: error });
    for (const entry of [...this.#entries.values()]) {
      for (const listener of [...entry.listeners]) listener.failing(known);
    }
  }
}
