import type { ClientDuplexStream, ServiceError } from '@grpc/grpc-js';

import { ConclaveError, hasCode } from '../errors/conclave-error.js';
import type { LeaseKeepAliveRequestInput, LeaseKeepAliveResponse } from '../proto/messages.gen.js';
import { services } from '../proto/services.js';
import { sleep } from '../util/abort.js';
import { backoffMs } from '../util/backoff.js';
import type { Connection } from './connection.js';
import type { Endpoint } from './endpoint.js';

/** Who a lane works for. Called synchronously; must not throw. */
export interface LaneOwner {
  /** The lane is open: requests may be sent. */
  opened(lane: LeaseLane): void;
  /** The server has answered the request for lease `id` that was sent at `sentAt`; 0 or less: it does not know it. */
  answered(lane: LeaseLane, answer: { id: bigint; sentAt: number; ttlSeconds: number }): void;
  /** The lane is broken, or cannot be opened; `unanswered` are the leases whose requests are lost. It opens again. */
  failing(lane: LeaseLane, error: ConclaveError, unanswered: ReadonlySet<bigint>): void;
}

type Stream = ClientDuplexStream<LeaseKeepAliveRequestInput, LeaseKeepAliveResponse>;

type State =
  | { readonly phase: 'idle' }
  | { readonly phase: 'opening'; readonly stop: AbortController }
  | { readonly phase: 'open'; readonly stream: Stream; readonly endpoint: Endpoint };

/** A request that waits for its answer. */
interface Asked {
  readonly id: bigint;
  readonly sentAt: number;
}

/**
 * One gRPC stream of keepalives. The server works on one request of a stream at a time, and answers in their order; so
 * what waits, waits for the first. When the stream breaks it is opened anew, on another member if there is one.
 */
export class LeaseLane {
  readonly #connection: Connection;
  readonly #owner: LaneOwner;
  #state: State = { phase: 'idle' };
  #asked: Asked[] = [];
  #failures = 0;
  /** When the stream was opened or last heard of. */
  #heardAt = 0;

  constructor(connection: Connection, owner: LaneOwner) {
    this.#connection = connection;
    this.#owner = owner;
  }

  get phase(): State['phase'] {
    return this.#state.phase;
  }

  /** The member the stream is on; undefined while it is not open. */
  get endpoint(): Endpoint | undefined {
    return this.#state.phase === 'open' ? this.#state.endpoint : undefined;
  }

  /** Which lease the server is at; undefined when nothing waits. */
  get headId(): bigint | undefined {
    return this.#asked[0]?.id;
  }

  /** For how long the server has been at the request it is at; 0 when nothing waits. */
  get stuckMs(): number {
    const [head] = this.#asked;
    return head === undefined ? 0 : this.#connection.clock.now() - Math.max(head.sentAt, this.#heardAt);
  }

  /** The leases that wait for an answer. */
  get unanswered(): ReadonlySet<bigint> {
    return new Set(this.#asked.map(({ id }) => id));
  }

  /** Asks to renew a lease. Does nothing unless the lane is open. */
  ask(id: bigint): void {
    if (this.#state.phase !== 'open') return;
    this.#asked.push({ id, sentAt: this.#connection.clock.now() });
    this.#state.stream.write({ ID: id });
  }

  /** Opens the stream, unless it is or is being opened, and keeps trying; not on `avoid` if there is another member. */
  open(avoid?: Endpoint): void {
    if (this.#state.phase === 'idle' && !this.#connection.closed.aborted) void this.#open(avoid);
  }

  /** Gives the stream up for a new one. */
  fail(error: ConclaveError): void {
    if (this.#state.phase !== 'open') return;
    const { stream, endpoint } = this.#state;
    const unanswered = this.unanswered;
    this.#failures += 1;
    this.#state = { phase: 'idle' };
    this.#asked = [];
    stream.cancel();
    this.#owner.failing(this, error, unanswered);
    this.open(endpoint);
  }

  /** Ends the stream. The lane must not be used afterwards. */
  close(): void {
    const state = this.#state;
    this.#state = { phase: 'idle' };
    this.#asked = [];
    if (state.phase === 'open') state.stream.cancel();
    if (state.phase === 'opening') state.stop.abort();
  }

  async #open(avoid: Endpoint | undefined): Promise<void> {
    const stop = new AbortController();
    this.#state = { phase: 'opening', stop };
    const stillWanted = (): boolean => this.#state.phase === 'opening' && this.#state.stop === stop;
    try {
      if (this.#failures > 0) {
        const pauseMs = backoffMs(this.#failures - 1, { baseMs: 20, maxMs: 500 });
        await sleep(this.#connection.clock, pauseMs, stop.signal);
      }
      const { stream, endpoint } = await this.#connection.duplex(services.Lease.LeaseKeepAlive, {
        avoid,
        signal: stop.signal,
      });
      const token = this.#connection.token.current;
      stream.on('error', (error: ServiceError) => this.#streamError(stream, error, token));
      if (!stillWanted()) {
        stream.cancel();
        return;
      }
      stream.on('data', (answer: LeaseKeepAliveResponse) => this.#answered(stream, answer));
      stream.on('end', () => {
        if (this.#isOn(stream))
          this.fail(new ConclaveError('UNAVAILABLE', `keepalive: ${endpoint.url} ended it`));
      });
      this.#state = { endpoint, phase: 'open', stream };
      this.#heardAt = this.#connection.clock.now();
      this.#owner.opened(this);
    } catch (error) {
      if (!stillWanted()) return;
      this.#failures += 1;
      this.#state = { phase: 'idle' };
      if (this.#connection.closed.aborted) return;
      const known = hasCode(error)
        ? error
        : new ConclaveError('UNAVAILABLE', 'keepalive failed', { cause: error });
      this.#owner.failing(this, known, new Set());
      this.open(avoid);
    }
  }

  #isOn(stream: Stream): boolean {
    return this.#state.phase === 'open' && this.#state.stream === stream;
  }

  #streamError(stream: Stream, error: ServiceError, token: string | undefined): void {
    if (this.#state.phase !== 'open' || this.#state.stream !== stream) return;
    const failure = this.#connection.judge(error, 'keepalive', this.#state.endpoint);
    if (hasCode(failure.error, 'INVALID_AUTH_TOKEN', 'AUTH_OLD_REVISION', 'PERMISSION_DENIED')) {
      this.#connection.token.drop(token);
    }
    this.fail(failure.error);
  }

  #answered(stream: Stream, { ID: id, TTL }: LeaseKeepAliveResponse): void {
    if (this.#state.phase !== 'open' || this.#state.stream !== stream) return;
    this.#failures = 0;
    this.#heardAt = this.#connection.clock.now();
    const at = this.#asked.findIndex((asked) => asked.id === id);
    const [asked] = at < 0 ? [] : this.#asked.splice(at, 1);
    if (asked === undefined) return;
    this.#state.endpoint.replied(this.#heardAt, asked.sentAt);
    this.#owner.answered(this, { id, sentAt: asked.sentAt, ttlSeconds: Number(TTL) });
  }
}
