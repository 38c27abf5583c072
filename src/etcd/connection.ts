import type { ClientDuplexStream, ClientReadableStream, Metadata, ServiceError } from '@grpc/grpc-js';

import { ConclaveError, hasCode } from '../errors/conclave-error.js';
import { isTransient } from '../errors/transient.js';
import type { ClientRpc } from '../proto/rpc.js';
import { services } from '../proto/services.js';
import { orAborted, sleep } from '../util/abort.js';
import { backoffMs } from '../util/backoff.js';
import type { Clock } from '../util/clock.js';
import { checkLimits } from '../util/validate.js';
import { type Answer, type Call, nobodyAnswers, outOfTime, unknownOutcome } from './call.js';
import { CallMetadata } from './call-metadata.js';
import { Endpoint } from './endpoint.js';
import { Picker } from './picker.js';
import { type Cancellable, send, type Surroundings } from './send.js';
import { type Failure, readFailure } from './status.js';
import type { TlsOptions } from './tls.js';
import { type AuthOptions, TokenSource } from './token.js';

interface ConnectionOptions {
  readonly endpoints: readonly string[];
  readonly tls: TlsOptions | undefined;
  readonly auth: AuthOptions | undefined;
  readonly timeoutMs: number;
  readonly clock: Clock;
}

/** With several members, a call that may be repeated is tried on the next one after this long without an answer. */
const ATTEMPT_MS = 1500;
/** A further try with less time than this is not made. */
const LEAST_TRY_MS = 5;
/** Answers that are true whether or not an earlier try of the same call was applied. */
const SETTLES = ['LEASE_EXISTS', 'LEASE_NOT_FOUND'] as const;
const TOKEN_REFUSED = ['INVALID_AUTH_TOKEN', 'AUTH_OLD_REVISION', 'USER_EMPTY'] as const;

/** The members of one cluster as one: picks a member for each call, tries again where that is safe, keeps deadlines. */
export class Connection {
  readonly clock: Clock;
  readonly timeoutMs: number;
  readonly token: TokenSource;
  readonly #endpoints: readonly Endpoint[];
  readonly #picker: Picker;
  readonly #open = new Set<Cancellable>();
  readonly #surroundings: Surroundings;
  readonly #closing = new AbortController();
  readonly #metadata: CallMetadata;

  constructor(options: ConnectionOptions) {
    this.clock = options.clock;
    this.timeoutMs = options.timeoutMs;
    this.#endpoints = options.endpoints.map((url) => new Endpoint(url, options.tls, options.clock));
    this.#picker = new Picker(this.#endpoints, options.clock);
    const { auth } = options;
    this.token = new TokenSource(auth === undefined ? undefined : () => this.#authenticate(auth));
    this.#metadata = new CallMetadata(this.token, options.clock);
    this.#surroundings = {
      clock: options.clock,
      closed: this.closed,
      judge: (failed, what, endpoint) => this.judge(failed, what, endpoint),
      open: this.#open,
    };
  }

  /** Aborts, with an error of code `CLOSED`, when the client is closed. */
  get closed(): AbortSignal {
    return this.#closing.signal;
  }

  get endpoints(): readonly Endpoint[] {
    return this.#endpoints;
  }

  /** How long a reply takes, by the slowest last one of any member. */
  get replyMs(): number {
    return Math.max(...this.#endpoints.map((endpoint) => endpoint.replyMs));
  }

  /** The member with this URL. Throws RangeError when it is none of ours. */
  endpoint(url: string): Endpoint {
    const found = this.#endpoints.find((endpoint) => endpoint.url === url);
    if (found === undefined) {
      throw new RangeError(`${url} is none of this client's endpoints: ${this.#urls()}`);
    }
    return found;
  }

  /**
   * Makes a call. Rejects with a ConclaveError: `UNKNOWN_OUTCOME` for a write whose answer was lost, `UNAVAILABLE` or
   * `DEADLINE_EXCEEDED` when nobody answered in time, `CLOSED`, or etcd's own error.
   */
  async unary<Request, Reply>(call: Call<Request, Reply>): Promise<Reply> {
    const { kind, signal, timeoutMs = this.timeoutMs } = call;
    checkLimits(call);
    signal?.throwIfAborted();
    this.closed.throwIfAborted();
    const deadline = this.clock.now() + timeoutMs;
    let last: Failure | undefined;
    let ambiguous = false;
    let refusals = 0;
    for (let attempt = 0; ; attempt++) {
      const leftMs = deadline - this.clock.now();
      // What is left after a failure may be too short to learn anything: the failure says more.
      if (leftMs <= (last === undefined ? 0 : LEAST_TRY_MS))
        throw outOfTime(call, timeoutMs, last, ambiguous);
      const answer = await this.#attempt(call, leftMs);
      if ('reply' in answer) return answer.reply;
      const { failure } = answer;
      last = failure;
      ambiguous ||= failure.ambiguous;
      if (this.token.renewable && refusals < 2 && hasCode(failure.error, ...TOKEN_REFUSED)) {
        refusals += 1;
        continue;
      }
      if (failure.ambiguous && kind === 'write') throw unknownOutcome(call, failure);
      if (!failure.transient) {
        // An earlier try may have been applied; only what tells about the lease itself settles that.
        const unclear = ambiguous && kind !== 'read' && !hasCode(failure.error, ...SETTLES);
        throw unclear ? unknownOutcome(call, failure) : failure.error;
      }
      if (failure.ambiguous) call.onRepeat?.();
      const pauseMs =
        attempt < this.#endpoints.length - 1 ? 0 : backoffMs(attempt, { baseMs: 20, maxMs: 400 });
      const restMs = Math.max(0, Math.min(pauseMs, deadline - this.clock.now()));
      if (pauseMs > 0) await orAborted(sleep(this.clock, restMs, signal), this.closed);
    }
  }

  /** Opens a bidirectional stream on a member that answers. */
  async duplex<Request, Reply>(
    rpc: ClientRpc<Request, Reply>,
    options: { readonly signal: AbortSignal; readonly avoid?: Endpoint | undefined },
  ): Promise<{ readonly stream: ClientDuplexStream<Request, Reply>; readonly endpoint: Endpoint }> {
    const endpoint = await this.#picker.pick(options.signal, options.avoid);
    options.signal.throwIfAborted();
    const metadata = (await this.#metadata.get(options.signal)).clone();
    metadata.set('hasleader', 'true');
    options.signal.throwIfAborted();
    this.closed.throwIfAborted();
    const stream = endpoint.channel.makeBidiStreamRequest(
      rpc.path,
      rpc.requestSerialize,
      rpc.responseDeserialize,
      metadata,
    );
    this.#open.add(stream);
    stream.once('close', () => this.#open.delete(stream));
    return { endpoint, stream };
  }

  /** Opens a stream of answers to one request. It carries no deadline. */
  async download<Request, Reply>(
    rpc: ClientRpc<Request, Reply>,
    request: Request,
    options: { readonly signal?: AbortSignal | undefined; readonly endpoint?: Endpoint | undefined },
  ): Promise<ClientReadableStream<Reply>> {
    const signal = options.signal ?? this.closed;
    const endpoint = options.endpoint ?? (await this.#picker.pick(signal));
    const metadata = await this.#metadata.get(signal);
    signal.throwIfAborted();
    this.closed.throwIfAborted();
    const stream = endpoint.channel.makeServerStreamRequest(
      rpc.path,
      rpc.requestSerialize,
      rpc.responseDeserialize,
      request,
      metadata,
    );
    this.#open.add(stream);
    stream.once('close', () => this.#open.delete(stream));
    return stream;
  }

  /**
   * Reads the status of a call that any member could have been asked. While there are others, one that turns out not to be
   * etcd, or does not let us in, is no reason to give up.
   */
  judge(failed: ServiceError, what: string, endpoint: Endpoint): Failure {
    const failure = readFailure(failed, what, endpoint);
    const { error } = failure;
    if (endpoint.lastReplyAt > 0 || !hasCode(error, 'NOT_ETCD', 'TLS_FAILED')) return failure;
    endpoint.unfit = true;
    if (this.#endpoints.every(({ unfit }) => unfit)) return failure;
    const { cause, etcd, message } = error;
    return { ...failure, error: new ConclaveError('UNAVAILABLE', message, { cause, etcd }), transient: true };
  }

  /** Ends every call and stream with code `CLOSED` and closes every channel. */
  close(): void {
    if (this.closed.aborted) return;
    this.#closing.abort(new ConclaveError('CLOSED', 'the client is closed'));
    for (const call of this.#open) call.cancel();
    this.#open.clear();
    for (const endpoint of this.#endpoints) endpoint.close();
  }

  #urls(): string {
    return this.#endpoints.map((endpoint) => endpoint.url).join(', ');
  }

  /** One try, within `leftMs`: pick a member, send, read the answer. */
  async #attempt<Request, Reply>(call: Call<Request, Reply>, leftMs: number): Promise<Answer<Reply>> {
    const startedAt = this.clock.now();
    const endpoint =
      call.endpoint ??
      this.#picker.readyNow ??
      (await this.#picker.pickWithin(leftMs, [call.signal, this.closed]));
    call.signal?.throwIfAborted();
    this.closed.throwIfAborted();
    if (endpoint === undefined) return { failure: nobodyAnswers(call.what, this.#urls()) };
    let metadata: Metadata;
    try {
      metadata =
        this.token.renewable && call.rpc.path !== services.Auth.Authenticate.path
          ? await this.#metadata.within(leftMs, call)
          : this.#metadata.with(undefined);
    } catch (error) {
      call.signal?.throwIfAborted();
      this.closed.throwIfAborted();
      if (!hasCode(error)) throw error;
      return { failure: { ambiguous: false, error, transient: isTransient(error) } };
    }
    call.signal?.throwIfAborted();
    this.closed.throwIfAborted();
    const token = this.token.current;
    const restMs = leftMs - (this.clock.now() - startedAt);
    const others = this.#endpoints.length > 1 && call.endpoint === undefined;
    const limitMs = others && call.kind !== 'write' ? Math.min(restMs, ATTEMPT_MS) : restMs;
    const answer = await send(call, { endpoint, limitMs, metadata }, this.#surroundings);
    if ('failure' in answer) {
      if (hasCode(answer.failure.error, ...TOKEN_REFUSED)) this.token.drop(token);
      else if (answer.failure.transient && others) this.#picker.avoid(endpoint);
    }
    return answer;
  }

  async #authenticate(auth: AuthOptions): Promise<string> {
    const reply = await this.unary({
      kind: 'read',
      request: { name: auth.username, password: auth.password },
      rpc: services.Auth.Authenticate,
      what: `authenticate user ${JSON.stringify(auth.username)}`,
    });
    return reply.token;
  }
}
