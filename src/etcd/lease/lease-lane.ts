/**
 * One gRPC stream of keepalives. The server works on one request of a stream at a time, and answers in their order; so
 * what waits, waits for the first. When the stream breaks it is opened anew, on another member if there is one.
 */
import type { ServiceError } from '@grpc/grpc-js';

import { ConclaveError, hasCode } from '../../errors/conclave-error.js';
import type { LeaseKeepAliveRequestInput, LeaseKeepAliveResponse } from '../../proto/messages.gen.js';
import { services } from '../../proto/services.js';
import { OVER, sleep } from '../../util/abort.js';
import { backoffMs } from '../../util/backoff.js';
import type { Connection } from '../transport/connection.js';
import type { Endpoint } from '../transport/endpoint.js';
import type { WireStream } from '../transport/wire.js';
import { AskedLeases } from './asked.js';

/** Who a lane works for. Called synchronously; must not throw. */
export interface LaneOwner {
  /** The lane is open: requests may be sent. */
  opened(lane: LeaseLane): void;
  /** The server has answered the request for lease `id` that was sent at `sentAt`; 0 or less: it does not know it. */
  answered(lane: LeaseLane, answer: { id: bigint; sentAt: number; ttlSeconds: number }): void;
  /** The lane is broken, or cannot be opened; `unanswered` are the leases whose requests are lost. It opens again. */
  failing(lane: LeaseLane, error: ConclaveError, unanswered: readonly bigint[]): void;
  /** The stream is a new one, and its first answer does not fit to what was seen before: leases may be unknown there. */
  doubted(lane: LeaseLane): void;
  /** The server has passed over the request for lease `id`: it will not be answered. */
  passedOver(lane: LeaseLane, id: bigint): void;
}

type Stream = WireStream<LeaseKeepAliveRequestInput, LeaseKeepAliveResponse>;

type State =
  | { readonly phase: 'idle' }
  | { readonly phase: 'opening'; readonly stop: AbortController }
  | { readonly phase: 'open'; readonly stream: Stream; readonly endpoint: Endpoint }
  /** Nobody needs it any more: its owner may have said so when it heard that the stream failed. */
  | { readonly phase: 'closed' };

export class LeaseLane {
  readonly #connection: Connection;
  readonly #owner: LaneOwner;
  #state: State = { phase: 'idle' };
  #asked = new AskedLeases();
  #failures = 0;
  /** Whether the present stream has answered. */
  #hasAnswered = false;
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
    return this.#asked.first?.id;
  }

  /** Since when the server has been at the request it is at; undefined when nothing waits. */
  get busySince(): number | undefined {
    const { first } = this.#asked;
    return first && Math.max(first.sentAt, this.#heardAt);
  }

  /** How many leases wait for an answer. */
  get waiting(): number {
    return this.#asked.size;
  }

  /** The leases that wait for an answer. */
  get unanswered(): readonly bigint[] {
    return this.#asked.ids;
  }

  /** Asks to renew a lease that does not wait already. The lane must be open. */
  ask(id: bigint): void {
    if (this.#state.phase !== 'open') return;
    this.#asked.add({ id, sentAt: this.#connection.clock.now() });
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
    this.#asked = new AskedLeases();
    stream.cancel();
    this.#owner.failing(this, error, unanswered);
    this.open(endpoint);
  }

  /** Ends the stream, for good. */
  close(): void {
    const state = this.#state;
    this.#state = { phase: 'closed' };
    this.#asked = new AskedLeases();
    if (state.phase === 'open') state.stream.cancel();
    if (state.phase === 'opening') state.stop.abort(OVER);
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
      this.#hasAnswered = false;
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
      this.#owner.failing(this, known, []);
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

  #answered(stream: Stream, { ID: id, TTL, header }: LeaseKeepAliveResponse): void {
    if (this.#state.phase !== 'open' || this.#state.stream !== stream) return;
    this.#failures = 0;
    this.#heardAt = this.#connection.clock.now();
    const { history } = this.#connection;
    const isFirst = !this.#hasAnswered;
    this.#hasAnswered = true;
    const found = this.#asked.answered(id);
    if (found === undefined) return;
    for (const lost of found.lost) this.#owner.passedOver(this, lost.id);
    const { sentAt } = found.request;
    this.#state.endpoint.replied(this.#heardAt, sentAt);
    this.#owner.answered(this, { id, sentAt, ttlSeconds: Number(TTL) });
    if (isFirst && header != null && (history.isOther(header) || history.isBehind(header)))
      this.#owner.doubted(this);
  }
}
