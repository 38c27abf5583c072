/**
 * One try of a call that other members could answer as well. It moves on when its member is gone or shows no sign of life;
 * while the member is alive, the call stays with it. A light one is then asked of one other member, too, and the first reply
 * counts: two requests are under way at most, and what is heavy is never asked twice.
 */
import { OVER, sleep } from '../../util/abort.js';
import { backoffMs } from '../../util/backoff.js';
import { Deferred } from '../../util/deferred.js';
import type { Answer, Call } from './call.js';
import type { Picker } from './picker.js';
import { send, type Sending, type Surroundings, type Try } from './send.js';
import type { Failure } from './status.js';

/** A request of a race. */
interface Leg<Reply> {
  readonly attempt: Try;
  readonly sending: Sending<Reply>;
  /** How many times its member was found to be alive, and slow. */
  slow: number;
}

/** How a race ends. */
type Outcome<Reply> =
  { readonly answer: Answer<Reply>; readonly by?: Leg<Reply> } | { readonly error: unknown };

/** The requests of one try. */
export class Race<Request, Reply> {
  readonly #call: Call<Request, Reply>;
  readonly #first: Try;
  readonly #picker: Picker;
  readonly #surroundings: Surroundings;
  readonly #deadline: number;
  /** The oldest first. */
  readonly #legs: Leg<Reply>[] = [];
  readonly #done = new Deferred<Answer<Reply>>();
  #isOver = false;
  /** While another member is looked for, which few races come to: how that is ended. */
  #looking: AbortController | undefined;
  /** Whether a request that has ended may have been carried out. */
  #ambiguous = false;
  /** How many requests beside the oldest were given up, or have failed. */
  #inVain = 0;

  constructor(call: Call<Request, Reply>, first: Try, picker: Picker, surroundings: Surroundings) {
    this.#call = call;
    this.#first = first;
    this.#picker = picker;
    this.#surroundings = surroundings;
    this.#deadline = surroundings.clock.now() + first.limitMs;
  }

  /** Runs it. Resolves with what came of it; rejects when the caller gives up or the connection is closed. */
  run(): Promise<Answer<Reply>> {
    this.#send(this.#first);
    return this.#done.promise;
  }

  #send(attempt: Try): void {
    const onSlow = (): void => this.#slow(leg);
    const sending = send(this.#call, { ...attempt, onSlow }, this.#surroundings);
    const leg: Leg<Reply> = { attempt, sending, slow: 0 };
    this.#legs.push(leg);
    sending.answer.then(
      (answer) => {
        this.#legs.splice(this.#legs.indexOf(leg), 1);
        if ('failure' in answer) this.#failed(leg, answer.failure);
        else this.#end({ answer, by: leg });
      },
      (error: unknown) => this.#end({ error }),
    );
  }

  /** The member of `leg` is alive, but does not answer. */
  #slow(leg: Leg<Reply>): void {
    const [oldest, second] = this.#legs;
    leg.slow += 1;
    if (leg === oldest) {
      if (second === undefined && leg.slow === 1) void this.#askAnother(0);
    } else if (this.#call.kind === 'guarded' && leg.slow >= 2 ** this.#inVain) {
      // A write can get lost inside the cluster, with its leader, while a read would be told.
      this.#legs.splice(this.#legs.indexOf(leg), 1);
      leg.sending.cancel();
      this.#ambiguous = true;
      this.#inVain += 1;
      void this.#askAnother(0);
    }
  }

  #failed(leg: Leg<Reply>, failure: Failure): void {
    this.#ambiguous ||= failure.ambiguous;
    if (failure.transient) {
      this.#picker.avoid(leg.attempt.endpoint);
      if (this.#legs.length > 0) {
        const pauseMs = backoffMs(this.#inVain, { baseMs: 20, maxMs: 400 });
        this.#inVain += 1;
        void this.#askAnother(pauseMs);
        return;
      }
    }
    // What is given up now may be carried out yet.
    const ambiguous = this.#ambiguous || this.#legs.length > 0;
    this.#end({ answer: { failure: { ...failure, ambiguous } } });
  }

  /** Asks a second member, unless the call is too much for that. */
  async #askAnother(pauseMs: number): Promise<void> {
    if (this.#call.heavy === true || this.#isOver) return;
    const { clock } = this.#surroundings;
    const [oldest] = this.#legs;
    this.#looking ??= new AbortController();
    const { signal } = this.#looking;
    try {
      if (pauseMs > 0) await sleep(clock, pauseMs, signal);
      const { endpoint: asked, metadata } = oldest?.attempt ?? this.#first;
      const endpoint = await this.#picker.another(asked, signal);
      const limitMs = this.#deadline - clock.now();
      if (endpoint === undefined || signal.aborted || limitMs <= 0 || this.#legs.length > 1) return;
      this.#call.onRepeat?.();
      this.#send({ endpoint, limitMs, metadata });
    } catch (error) {
      if (!signal.aborted) this.#end({ error });
    }
  }

  #end(outcome: Outcome<Reply>): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#looking?.abort(OVER);
    for (const { sending } of this.#legs) sending.cancel();
    if ('error' in outcome) {
      this.#done.reject(outcome.error);
      return;
    }
    const { answer, by } = outcome;
    const { endpoint } = this.#first;
    if (by !== undefined && by.attempt.endpoint !== endpoint) this.#picker.avoid(endpoint);
    this.#done.resolve(answer);
  }
}
