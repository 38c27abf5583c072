/** The members of one cluster as one: makes calls, opens streams, and ends them all when it is closed. */
import type { ClientReadableStream, ServiceError } from '@grpc/grpc-js';

import { ConclaveError, hasCode } from '../../errors/conclave-error.js';
import type { ClientRpc } from '../../proto/rpc.js';
import { services } from '../../proto/services.js';
import { sleep } from '../../util/abort.js';
import { backoffMs } from '../../util/backoff.js';
import type { Clock } from '../../util/clock.js';
import { shown } from '../../util/validate.js';
import type { Call } from './call.js';
import { CallMetadata } from './call-metadata.js';
import { Caller } from './caller.js';
import { Endpoint } from './endpoint.js';
import { given } from './given.js';
import { History } from './history.js';
import { openParts, type Parts, type PartsCall } from './parts.js';
import { Picker } from './picker.js';
import type { Cancellable } from './send.js';
import { type Circumstances, type Failure, readFailure } from './status.js';
import { Roster } from './roster.js';
import { type AuthOptions, TokenSource } from './token.js';
import type { Transport, WireStream } from './wire.js';

interface ConnectionOptions {
  readonly endpoints: readonly string[];
  readonly transport: Transport;
  readonly auth: AuthOptions | undefined;
  /** Whether etcd may know us by the name in our certificate. */
  readonly certified?: boolean;
  readonly timeoutMs: number;
  readonly clock: Clock;
}

/** How long a member may take to say that it serves. */
const SERVES_MS = 1000;
/** For how long others are preferred to a learner. */
const LEARNER_MS = 10_000;
/** How many passwords of a function may be refused, one after the other. */
const MOST_REFUSALS = 5;

export class Connection {
  readonly clock: Clock;
  readonly timeoutMs: number;
  readonly token: TokenSource;
  readonly history = new History();
  readonly #roster: Roster;
  readonly #picker: Picker;
  readonly #caller: Caller;
  readonly #open = new Set<Cancellable>();
  /** Those of them that go on for as long as they are wanted, each with its member. */
  readonly #streams = new Map<Cancellable, Endpoint>();
  readonly #closing = new AbortController();
  readonly #metadata: CallMetadata;
  readonly #isCertified: boolean;

  constructor(options: ConnectionOptions) {
    this.clock = options.clock;
    this.timeoutMs = options.timeoutMs;
    const make = (url: string): Endpoint => new Endpoint(url, options.transport, options.clock);
    this.#roster = new Roster(options.endpoints, make);
    this.#picker = new Picker(this.#roster, options.clock, (endpoint) => this.#serves(endpoint));
    const { auth } = options;
    this.#isCertified = auth === undefined && options.certified === true;
    this.token =
      auth === undefined
        ? new TokenSource(undefined)
        : new TokenSource(() => this.#authenticate(auth), isAsked(auth.password ?? auth.token));
    this.#metadata = new CallMetadata(this.token, options.clock);
    const surroundings = {
      clock: options.clock,
      closed: this.closed,
      judge: (...status: Parameters<Connection['judge']>) => this.judge(...status),
      open: this.#open,
    };
    this.#caller = new Caller(
      {
        history: this.history,
        members: this.#roster,
        metadata: this.#metadata,
        picker: this.#picker,
        surroundings,
        token: this.token,
      },
      options.timeoutMs,
    );
  }

  /** Aborts, with an error of code `CLOSED`, when the client is closed. */
  get closed(): AbortSignal {
    return this.#closing.signal;
  }

  /** The one that calls go to. */
  get preferred(): Endpoint | undefined {
    return this.#picker.preferred;
  }

  get endpoints(): readonly Endpoint[] {
    return this.#roster.all;
  }

  /** How long a reply takes, by the slowest last one of any member. */
  get replyMs(): number {
    return Math.max(...this.endpoints.map((endpoint) => endpoint.replyMs));
  }

  /** The member with this URL. Throws TypeError when it is no string, and RangeError when it is none of ours. */
  endpoint(url: string): Endpoint {
    if (typeof url !== 'string') throw new TypeError(`endpoint must be a string, not ${shown(url)}`);
    const found = this.endpoints.find((endpoint) => endpoint.url === url);
    if (found === undefined) {
      throw new RangeError(`${url} is none of this client's endpoints: ${this.#roster.urls}`);
    }
    return found;
  }

  /**
   * Makes a call. Rejects with a ConclaveError: `UNKNOWN_OUTCOME` for a write whose answer was lost, `UNAVAILABLE` or
   * `DEADLINE_EXCEEDED` when nobody answered in time, `CLOSED`, or etcd's own error.
   */
  unary<Request, Reply>(call: Call<Request, Reply>): Promise<Reply> {
    return this.#caller.call(call);
  }

  /** Opens a bidirectional stream on a member that answers. */
  async duplex<Request, Reply>(
    rpc: ClientRpc<Request, Reply>,
    options: { readonly signal: AbortSignal; readonly avoid?: Endpoint | undefined },
  ): Promise<{ readonly stream: WireStream<Request, Reply>; readonly endpoint: Endpoint }> {
    const endpoint = await this.#picker.pick(options.signal, options.avoid);
    options.signal.throwIfAborted();
    const metadata = (await this.#metadata.get(options.signal)).clone();
    metadata.set('hasleader', 'true');
    options.signal.throwIfAborted();
    this.closed.throwIfAborted();
    if (endpoint.retired) return this.duplex(rpc, options);
    const stream = endpoint.wire.duplex(rpc, metadata);
    this.#streams.set(stream, endpoint);
    stream.once('status', () => this.#streams.delete(stream));
    return { endpoint, stream: this.#track(stream, endpoint) };
  }

  /** Opens a stream of answers to one request. It carries no deadline. */
  async download<Request, Reply>(
    rpc: ClientRpc<Request, Reply>,
    request: Request,
    options: { readonly signal?: AbortSignal | undefined; readonly endpoint?: Endpoint | undefined },
  ): Promise<{ readonly stream: ClientReadableStream<Reply>; readonly endpoint: Endpoint }> {
    const signal = options.signal ?? this.closed;
    const endpoint = options.endpoint ?? (await this.#picker.pick(signal));
    const metadata = await this.#metadata.get(signal);
    signal.throwIfAborted();
    this.closed.throwIfAborted();
    const stream = endpoint.wire.download(rpc, request, metadata);
    return { endpoint, stream: this.#track(stream, endpoint) };
  }

  /**
   * Opens an answer in parts to a call that not every etcd has; undefined: the member does not know it. It is not asked
   * again before its connection is another one.
   */
  async parts<Request, Reply>(call: PartsCall<Request, Reply>): Promise<Parts<Reply> | undefined> {
    const endpoint = call.endpoint ?? (await this.#picker.pick(call.signal));
    const { path } = call.rpc;
    if (!endpoint.mayKnow(path)) return undefined;
    try {
      return await openParts(this, { ...call, endpoint });
    } catch (error) {
      if (!(error instanceof ConclaveError) || error.etcd?.status !== 'UNIMPLEMENTED') throw error;
      endpoint.lacks(path);
      return undefined;
    }
  }

  /**
   * Reads the status of a call that any member could have been asked. While there are others, one that turns out not to be
   * etcd, does not let us in, or is a learner, is no reason to give up.
   */
  judge(failed: ServiceError, what: string, endpoint: Endpoint, circumstances?: Circumstances): Failure {
    const failure = readFailure(failed, what, endpoint, circumstances);
    const { error } = failure;
    if (hasCode(error, 'NOT_SUPPORTED_FOR_LEARNER')) {
      if (this.endpoints.length === 1) return failure;
      // It says no sooner that it has been made a voter.
      endpoint.suspectUntil = this.clock.now() + LEARNER_MS;
      return passing(failure);
    }
    // Users or roles were changed between etcd's look at our certificate and the call.
    if (hasCode(error, 'AUTH_OLD_REVISION') && this.#isCertified) return { ...failure, transient: true };
    if (endpoint.lastReplyAt > 0 || !hasCode(error, 'NOT_ETCD', 'TLS_FAILED')) return failure;
    endpoint.unfit = true;
    return this.endpoints.every(({ unfit }) => unfit) ? failure : passing(failure);
  }

  /** The endpoints of these URLs, with which the members can be replaced. Throws TypeError for what is none. */
  named(urls: readonly string[]): readonly Endpoint[] {
    return this.#roster.named(urls);
  }

  /**
   * From now on the members are these. Calls that others were asked are answered yet; streams on them are moved, as if
   * their member had gone.
   */
  replace(endpoints: readonly Endpoint[]): void {
    this.closed.throwIfAborted();
    this.#roster.replace(endpoints);
    for (const [stream, endpoint] of this.#streams) if (endpoint.retired) stream.cancel();
  }

  /** Ends every call and stream with code `CLOSED` and closes every channel. */
  close(): void {
    if (this.closed.aborted) return;
    this.#closing.abort(new ConclaveError('CLOSED', 'the client is closed'));
    for (const call of this.#open) call.cancel();
    this.#open.clear();
    this.#streams.clear();
    this.#roster.close();
  }

  /** Counts a stream as under way until its status comes, which always comes; the close of a duplex need not. */
  #track<Stream extends Cancellable & Pick<WireStream<unknown, unknown>, 'once'>>(
    stream: Stream,
    endpoint: Endpoint,
  ): Stream {
    this.#open.add(stream);
    endpoint.began();
    stream.once('status', () => {
      this.#open.delete(stream);
      endpoint.ended();
    });
    return stream;
  }

  /** Whether a member is one of a cluster that has a leader, as far as it knows. One that was cut off from its peers is not. */
  async #serves(endpoint: Endpoint): Promise<boolean> {
    try {
      const { isLearner, leader } = await this.unary({
        endpoint,
        kind: 'read',
        request: {},
        rpc: services.Maintenance.Status,
        timeoutMs: SERVES_MS,
        what: `ask ${endpoint.url} whether it serves`,
      });
      return leader !== 0n && !isLearner;
    } catch {
      return false;
    }
  }

  /** A token that etcd should take. A password that a function gives may be about to change: it is asked again, for a while. */
  async #authenticate(auth: AuthOptions): Promise<string> {
    if (auth.token !== undefined) return given(auth.token, 'auth.token', isText, 'AUTH_FAILED');
    for (let refusals = 0; ; refusals++) {
      const password = await given(auth.password, 'auth.password', isText, 'AUTH_FAILED');
      try {
        return await this.#askForToken(auth.username, password);
      } catch (error) {
        const mayChange = this.token.mayChange && refusals < MOST_REFUSALS;
        if (!mayChange || !hasCode(error, 'AUTH_FAILED')) throw error;
        await sleep(this.clock, backoffMs(refusals, { baseMs: 100, maxMs: 1000 }), this.closed);
      }
    }
  }

  async #askForToken(name: string, password: string): Promise<string> {
    const reply = await this.unary({
      kind: 'read',
      request: { name, password },
      rpc: services.Auth.Authenticate,
      what: `authenticate user ${JSON.stringify(name)}`,
    });
    return reply.token;
  }
}

function isAsked(source: unknown): boolean {
  return typeof source === 'function';
}

function isText(value: unknown): boolean {
  return typeof value === 'string';
}

/** The failure of one member as that of a call which another member can still answer. */
function passing(failure: Failure): Failure {
  const { cause, etcd, key, message } = failure.error;
  const error = new ConclaveError('UNAVAILABLE', message, { cause, etcd, key });
  return { ...failure, error, transient: true };
}
