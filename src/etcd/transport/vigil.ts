/** Looks after a request that waits for its answer: its time may run out, its member may be gone. */
import { soon, type Clock, type Timer } from '../../util/clock.js';
import type { Endpoint } from './endpoint.js';

/** What may come of the waiting. Each but `slow` ends the vigil. */
interface Findings {
  /** The time is over. */
  readonly late: () => void;
  /** The member has shown no sign of life since it was asked for one. */
  readonly silent: () => void;
  /** The member is alive and has not answered yet. Called again for as long as that is so. */
  readonly slow: () => void;
}

/** How long an answer, and then a sign of life, is waited for. */
const PATIENCE_MS = 750;
/** The longest that a slow link can make it. */
const MOST_PATIENCE_MS = 1500;

type State =
  /** Only the time limit counts: nobody else could be asked, or the answer has begun to come. */
  | { readonly phase: 'waiting' }
  /** Nothing is wrong so far. */
  | { readonly phase: 'trusting' }
  /** A sign of life was asked for. */
  | { readonly phase: 'asking'; readonly askedAt: number }
  | { readonly phase: 'over' };

/** The vigil of one request, with one timer at a time. */
export class Vigil {
  readonly #clock: Clock;
  readonly #endpoint: Endpoint;
  readonly #deadline: number;
  readonly #findings: Findings;
  #state: State;
  #timer: Timer;

  /** `watchful`: look whether the member is alive, too. */
  constructor(
    endpoint: Endpoint,
    clock: Clock,
    limits: { limitMs: number; watchful: boolean },
    findings: Findings,
  ) {
    this.#clock = clock;
    this.#endpoint = endpoint;
    this.#deadline = clock.now() + limits.limitMs;
    this.#findings = findings;
    this.#state = { phase: limits.watchful ? 'trusting' : 'waiting' };
    this.#timer = this.#nextTimer();
  }

  /** The answer has begun to come: the member is alive, and done with it. */
  begun(): void {
    const { phase } = this.#state;
    if (phase === 'trusting' || phase === 'asking') this.#enter({ phase: 'waiting' });
  }

  /** Ends it. */
  stop(): void {
    this.#state = { phase: 'over' };
    this.#timer.cancel();
  }

  #enter(state: State): void {
    this.#state = state;
    this.#timer.cancel();
    this.#timer = this.#nextTimer();
  }

  #nextTimer(): Timer {
    const leftMs = this.#deadline - this.#clock.now();
    const { replyMs } = this.#endpoint;
    // A slow link is no fault.
    const patienceMs = Math.min(MOST_PATIENCE_MS, Math.max(PATIENCE_MS, 2 * replyMs));
    if (this.#state.phase === 'waiting' || leftMs <= patienceMs)
      return this.#clock.setTimer(leftMs, () => this.#end(this.#findings.late));
    return this.#clock.setTimer(patienceMs, () => this.#look());
  }

  #look(): void {
    const state = this.#state;
    if (state.phase === 'asking') {
      // A process that was busy finds its timers due before it has read what came meanwhile.
      soon(this.#clock, () => this.#judge(state));
    } else {
      this.#enter({ askedAt: this.#clock.now(), phase: 'asking' });
      this.#endpoint.pulse.ask();
    }
  }

  #judge(asked: State & { readonly phase: 'asking' }): void {
    if (this.#state !== asked) return;
    if (this.#endpoint.pulse.feltAt < asked.askedAt) {
      this.#end(this.#findings.silent);
      return;
    }
    this.#enter({ phase: 'trusting' });
    this.#findings.slow();
  }

  #end(finding: () => void): void {
    this.stop();
    finding();
  }
}
