/**
 * How much a client has under way at once. What is asked for beyond that waits here, first come first served, and is sent
 * as etcd answers: a burst of 100,000 calls is a line of 100,000, not as many requests that all run out of time together.
 *
 * How much that is follows the answers, as TCP's congestion avoidance does (RFC 5681): a little more with each quick
 * answer while others wait, and half as much, in steps, when answers are slow or do not come.
 *
 * The time of a call that was given no limit by its caller begins when it is sent. While it waits, its time runs only for
 * as long as nothing at all is answered: so when nobody answers, all who wait are told so together.
 */
import { onAbort } from '../../util/abort.js';
import { type Clock, soon } from '../../util/clock.js';
import { WaitingLine } from '../../util/waiting-line.js';

const FIRST_LIMIT = 256;
const LEAST_LIMIT = 16;
const MOST_LIMIT = 512;
/** So many that waited are sent in one turn of the event loop: it comes round between them. */
const MOST_A_TURN = 64;
/** Beyond twice the time that the quickest answer took, which is the way to etcd and back. */
const QUICK_MS = 100;
const SLOW_MS = 400;
/** A large request counts as several: one for each of so many bytes. */
const UNIT_BYTES = 16 * 1024;

/** What decides how a call may wait for its turn. */
export interface Waits {
  readonly bytes?: number | undefined;
  /** Ends the wait, whatever else is answered. */
  readonly timeoutMs?: number | undefined;
  /** Whether it does not, since it counts from when the call is sent. */
  readonly waits?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A call's place among those under way. */
export interface Passage {
  readonly units: number;
  readonly at: number;
}

interface Surroundings {
  readonly clock: Clock;
  readonly closed: AbortSignal;
  /** How long a call waits when nothing is answered, unless it says so itself. */
  readonly usualMs: number;
}

/** A call that waits. There may be many: it is one object. */
interface Waiter<Call> {
  readonly call: Call;
  readonly since: number;
  readonly resolve: (passage: Passage) => void;
  readonly reject: (reason: unknown) => void;
}

export class InFlight<Call extends Waits> {
  readonly #clock: Clock;
  readonly #usualMs: number;
  readonly #late: (call: Call, cause?: Error) => unknown;
  readonly #line = new WaitingLine<Waiter<Call>>();
  #limit = FIRST_LIMIT;
  #load = 0;
  /** How many that waited were sent in this turn of the event loop. */
  #sentInTurn = 0;
  #answeredAt = 0;
  #loweredAt = 0;
  #quickestMs = Infinity;

  /** `late`: the error of a call that could not be sent in time; `cause`: why the last of the others was not answered. */
  constructor({ clock, closed, usualMs }: Surroundings, late: (call: Call, cause?: Error) => unknown) {
    this.#clock = clock;
    this.#usualMs = usualMs;
    this.#late = late;
    onAbort(closed, (reason) => {
      for (let next = this.#line.shift(); next !== undefined; next = this.#line.shift()) next.reject(reason);
    });
  }

  /** Lets a call pass at once; undefined when it must wait. */
  pass(call: Call): Passage | undefined {
    const units = unitsOf(call);
    return this.#line.size === 0 && this.#fits(units) ? this.#admit(units) : undefined;
  }

  /** Resolves when it is the call's turn. Rejects with its signal's reason, or when its time is over: it was not sent then. */
  wait(call: Call): Promise<Passage> {
    const { signal, timeoutMs, waits } = call;
    const limitMs = waits === true ? undefined : timeoutMs;
    return new Promise((resolve, reject) => {
      const since = this.#clock.now();
      if (signal === undefined && limitMs === undefined) this.#line.push({ call, reject, resolve, since });
      else this.#waitAtMost({ call, reject, resolve, since }, limitMs);
    });
  }

  /** Has a call wait that may give up by itself. */
  #waitAtMost({ call, reject, resolve, since }: Waiter<Call>, limitMs: number | undefined): void {
    const stop = (): void => {
      timer?.cancel();
      stopListening();
    };
    const giveUp = (reason: unknown): void => {
      stop();
      leave();
      reject(reason);
      this.#next(); // It may have been the one that those behind it waited for.
    };
    const leave = this.#line.push({
      call,
      reject: (reason) => {
        stop();
        reject(reason);
      },
      resolve: (passage) => {
        stop();
        resolve(passage);
      },
      since,
    });
    const timer =
      limitMs === undefined ? undefined : this.#clock.setTimer(limitMs, () => giveUp(this.#late(call)));
    const stopListening = onAbort(call.signal, giveUp);
  }

  /** A call is over; `failure`: why there is no answer. */
  leave({ at, units }: Passage, end: 'answered' | 'unanswered' | 'given up', failure?: Error): void {
    this.#load -= units;
    const now = this.#clock.now();
    const tookMs = now - at;
    if (end === 'answered') {
      this.#answeredAt = now;
      this.#quickestMs = Math.min(this.#quickestMs, tookMs);
    }
    if (this.#line.size === 0) return;
    const beyondMs = tookMs - 2 * Math.min(this.#quickestMs, tookMs);
    if (end === 'answered' && beyondMs < QUICK_MS) this.#limit = Math.min(MOST_LIMIT, this.#limit + 1);
    if ((end === 'unanswered' || beyondMs > SLOW_MS) && now - this.#loweredAt > SLOW_MS) {
      this.#limit = Math.max(LEAST_LIMIT, Math.floor(this.#limit / 2));
      this.#loweredAt = now;
    }
    if (end === 'unanswered') this.#loseHope(now, failure);
    this.#next();
  }

  #fits(units: number): boolean {
    return this.#load === 0 || this.#load + units <= this.#limit;
  }

  #admit(units: number): Passage {
    this.#load += units;
    return { at: this.#clock.now(), units };
  }

  #next(): void {
    for (;;) {
      const first = this.#line.first;
      if (first === undefined || !this.#fits(unitsOf(first.call)) || this.#sentInTurn === MOST_A_TURN) return;
      if (this.#sentInTurn === 0) soon(this.#clock, () => this.#nextTurn());
      this.#sentInTurn += 1;
      this.#line.shift();
      first.resolve(this.#admit(unitsOf(first.call)));
    }
  }

  #nextTurn(): void {
    this.#sentInTurn = 0;
    this.#next();
  }

  /** Nobody may have answered for so long that those who came first wait no more. */
  #loseHope(now: number, failure: Error | undefined): void {
    for (;;) {
      const first = this.#line.first;
      if (first === undefined) return;
      const { call, reject, since } = first;
      if (now - Math.max(since, this.#answeredAt) < (call.timeoutMs ?? this.#usualMs)) return;
      this.#line.shift();
      reject(this.#late(call, failure));
    }
  }
}

function unitsOf({ bytes = 0 }: Waits): number {
  return 1 + Math.floor(bytes / UNIT_BYTES);
}
