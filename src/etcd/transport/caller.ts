/** Makes calls until they are answered, refused or out of time: what is sent again, and to which member. */
import type { Metadata } from '@grpc/grpc-js';

import { hasCode, madeHere } from '../../errors/conclave-error.js';
import { isTransient } from '../../errors/transient.js';
import { services } from '../../proto/services.js';
import { orAborted, sleep } from '../../util/abort.js';
import { promised } from '../../util/promised.js';
import { backoffMs } from '../../util/backoff.js';
import { isHeard, trace } from '../../util/channels.js';
import { checkLimits } from '../../util/validate.js';
import {
  type Answer,
  type Call,
  type CallKind,
  type CallOptions,
  finalError,
  nobodyAnswers,
  notSent,
  outOfTime,
  type Purpose,
} from './call.js';
import type { CallMetadata } from './call-metadata.js';
import type { History, Moment } from './history.js';
import { InFlight, type Passage } from './in-flight.js';
import type { Picker } from './picker.js';
import type { Members } from './roster.js';
import { Race } from './race.js';
import { send, type Surroundings } from './send.js';
import type { Failure } from './status.js';
import type { TokenSource } from './token.js';

/** What calls are made with. */
export interface CallerParts {
  readonly members: Members;
  readonly history: History;
  readonly picker: Picker;
  readonly token: TokenSource;
  readonly metadata: CallMetadata;
  readonly surroundings: Surroundings;
}

/** The calls that come in bursts. What ends a lease, or asks for it, is never much, and must not wait for them. */
const IN_BURSTS = /^\/etcdserverpb\.(KV\/|Lease\/LeaseGrant$)/;
/** A further try with less time than this is not made. */
const LEAST_TRY_MS = 5;
const TOKEN_REFUSED = ['INVALID_AUTH_TOKEN', 'AUTH_OLD_REVISION', 'USER_EMPTY'] as const;
/** How many times a call is made again with a new token. */
const MOST_RENEWALS = 2;

/** What the tries of a call have come to. */
interface Course {
  last: Failure | undefined;
  /** Whether one of them may have been carried out. */
  ambiguous: boolean;
  renewals: number;
}

export class Caller {
  readonly #parts: CallerParts;
  readonly #usualMs: number;
  readonly #inFlight: InFlight<Purpose & CallOptions>;

  /** `usualMs`: the time of a call whose caller gives it no limit. */
  constructor(parts: CallerParts, usualMs: number) {
    const { clock, closed } = parts.surroundings;
    this.#parts = parts;
    this.#usualMs = usualMs;
    this.#inFlight = new InFlight({ clock, closed, usualMs }, (call, cause) => notSent(call, usualMs, cause));
  }

  /**
   * Makes a call within its `timeoutMs`, or within the usual time from when it is sent. Rejects with TypeError or RangeError
   * when its limits are none.
   */
  call<Request, Reply>(call: Call<Request, Reply>): Promise<Reply> {
    if (!isHeard('rpc')) return this.#call(call);
    const about = (): Record<string, unknown> => ({ kind: call.kind, path: call.rpc.path, what: call.what });
    return trace('rpc', about, () => this.#call(call));
  }

  /** There may be many that wait for their turn: each is one object and a promise or two, until it is sent. */
  #call<Request, Reply>(call: Call<Request, Reply>): Promise<Reply> {
    return promised(() => {
      checkLimits(call);
      call.signal?.throwIfAborted();
      this.#parts.surroundings.closed.throwIfAborted();
      if (!IN_BURSTS.test(call.rpc.path)) return this.#make(call, call.timeoutMs ?? this.#usualMs);
      // That one member does not answer is nothing that the calls to the others wait for.
      if (call.endpoint !== undefined) return this.#send(call, undefined, 0);
      const passage = this.#inFlight.pass(call);
      if (passage !== undefined) return this.#send(call, passage, 0);
      const { clock } = this.#parts.surroundings;
      const from = clock.now();
      return this.#inFlight
        .wait(call)
        .then((later) => this.#send(call, later, call.waits === true ? 0 : clock.now() - from));
    });
  }

  /** Makes a call whose turn it is, after it has waited so long; without a passage, one that takes no turn. */
  async #send<Request, Reply>(
    call: Call<Request, Reply>,
    passage: Passage | undefined,
    waitedMs: number,
  ): Promise<Reply> {
    call.onAdmitted?.();
    const timeoutMs = call.timeoutMs === undefined ? this.#usualMs : call.timeoutMs - waitedMs;
    try {
      const { history } = this.#parts;
      const sent = { epoch: history.epoch, revision: isLinearizable(call) ? history.revision : 0n };
      const reply = await this.#make(call, timeoutMs);
      history.answered((reply as { readonly header?: Moment | null }).header, sent);
      if (passage !== undefined) this.#inFlight.leave(passage, 'answered');
      return reply;
    } catch (error) {
      if (passage !== undefined) this.#failed(passage, error);
      throw error;
    }
  }

  #failed(passage: Passage, error: unknown): void {
    if (isTransient(error)) this.#inFlight.leave(passage, 'unanswered', error);
    else this.#inFlight.leave(passage, hasCode(error) && error.etcd !== undefined ? 'answered' : 'given up');
  }

  async #make<Request, Reply>(call: Call<Request, Reply>, timeoutMs: number): Promise<Reply> {
    const { clock } = this.#parts.surroundings;
    const deadline = clock.now() + timeoutMs;
    const course: Course = { ambiguous: false, last: undefined, renewals: 0 };
    for (let attempt = 0; ; attempt++) {
      const leftMs = deadline - clock.now();
      // What is left after a failure may be too short to learn anything: the failure says more.
      if (leftMs <= (course.last === undefined ? 0 : LEAST_TRY_MS))
        throw madeHere(outOfTime(call, timeoutMs, course.last, course.ambiguous));
      const answer = await this.#attempt(call, leftMs);
      if ('reply' in answer) return answer.reply;
      const { failure } = answer;
      course.last = failure;
      course.ambiguous ||= failure.ambiguous;
      if (this.#renews(failure, course)) continue;
      const final = finalError(call, failure, course.ambiguous);
      if (final !== undefined) throw madeHere(final);
      if (failure.ambiguous) call.onRepeat?.();
      await this.#pause(attempt, deadline, call.signal);
    }
  }

  /** Whether a refused token was the reason, and a new one may help. */
  #renews({ error }: Failure, course: Course): boolean {
    if (!this.#parts.token.renewable || !hasCode(error, ...TOKEN_REFUSED)) return false;
    course.renewals += 1;
    return course.renewals <= MOST_RENEWALS;
  }

  /** Before the next try: nothing while there are members that have not been asked, then more and more. */
  async #pause(attempt: number, deadline: number, signal: AbortSignal | undefined): Promise<void> {
    const { members, surroundings } = this.#parts;
    if (attempt < members.all.length - 1) return;
    const { clock, closed } = surroundings;
    const pauseMs = Math.min(backoffMs(attempt, { baseMs: 20, maxMs: 400 }), deadline - clock.now());
    await orAborted(sleep(clock, Math.max(0, pauseMs), signal), closed);
  }

  /** One try, within `leftMs`: pick a member, send, read the answer. */
  async #attempt<Request, Reply>(call: Call<Request, Reply>, leftMs: number): Promise<Answer<Reply>> {
    const { members, picker, surroundings, token } = this.#parts;
    const { clock, closed } = surroundings;
    const startedAt = clock.now();
    const endpoint =
      call.endpoint ?? picker.readyNow ?? (await picker.pickWithin(leftMs, [call.signal, closed]));
    call.signal?.throwIfAborted();
    closed.throwIfAborted();
    if (endpoint === undefined)
      return { failure: nobodyAnswers(call, members.all.map(({ url }) => url).join(', ')) };
    const metadata =
      this.#metadataNow(call) ?? (await this.#metadata(call, leftMs - (clock.now() - startedAt)));
    call.signal?.throwIfAborted();
    closed.throwIfAborted();
    if ('failure' in metadata) return metadata;
    const used = token.current;
    const attempt = { endpoint, limitMs: leftMs - (clock.now() - startedAt), metadata };
    const others = members.all.length > 1 && call.endpoint === undefined;
    const answer = await (others && call.kind !== 'write'
      ? new Race(call, attempt, picker, surroundings).run()
      : send(call, attempt, surroundings).answer);
    if ('failure' in answer) {
      if (hasCode(answer.failure.error, ...TOKEN_REFUSED)) token.drop(used);
      else if (answer.failure.transient && others) picker.avoid(endpoint);
    }
    return answer;
  }

  /** What goes with the call, when there is no token to wait for. */
  #metadataNow<Request, Reply>({ rpc }: Call<Request, Reply>): Metadata | undefined {
    const { metadata, token } = this.#parts;
    if (!token.renewable || rpc.path === services.Auth.Authenticate.path) return metadata.with(undefined);
    return token.known ? metadata.with(token.current) : undefined;
  }

  /** What goes with the call, with the token, which must be there within the call's own time. */
  async #metadata<Request, Reply>(
    call: Call<Request, Reply>,
    leftMs: number,
  ): Promise<Metadata | { readonly failure: Failure }> {
    try {
      return await this.#parts.metadata.within(leftMs, call);
    } catch (error) {
      // Nothing has been sent.
      if (hasCode(error)) return { failure: { ambiguous: false, error, transient: isTransient(error) } };
      throw error;
    }
  }
}

/** Whether its answer tells of all that was done before it was sent: all but reads that a member answers alone. */
function isLinearizable({ kind, request }: { readonly kind: CallKind; readonly request: unknown }): boolean {
  if (kind !== 'read') return true;
  const { serializable, success = [], failure = [] } = request as ReadRequest;
  return serializable !== true && ![...success, ...failure].some((step) => step.requestRange?.serializable);
}

/** What of a Range or a Txn says that a member may answer alone. */
interface ReadRequest {
  readonly serializable?: boolean | undefined;
  readonly success?: readonly { readonly requestRange?: { readonly serializable?: boolean | undefined } }[];
  readonly failure?: ReadRequest['success'];
}
