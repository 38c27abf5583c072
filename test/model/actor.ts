import { type Fleet, WorkerError } from './fleet.js';
import { lateKind } from './late-line.js';
import type { Random } from './random.js';
import type { Outcome } from './window.js';

/** Where an actor acts, and by what chance. */
export interface Seat {
  readonly fleet: Fleet;
  /** Its process. */
  readonly at: number;
  /** The name of its session. */
  readonly session: string;
  readonly random: Random;
}

const AFTER_KILL_MS = 50;
/** Later than every revision. */
const NEVER = 2n ** 63n;

/** One task of one process, which does something at random, over and over. */
export abstract class Actor {
  readonly problems: string[] = [];
  /** Whether it has come to its end. */
  ended = false;
  protected readonly session: string;
  protected readonly random: Random;
  readonly #fleet: Fleet;
  readonly #at: number;

  constructor({ fleet, at, session, random }: Seat) {
    this.#fleet = fleet;
    this.#at = at;
    this.session = session;
    this.random = random;
  }

  /** Goes on until `over` says so; resolves after the turn that it is in then. */
  async run(over: () => boolean): Promise<void> {
    while (!over()) {
      try {
        await this.turn();
      } catch (error) {
        // A process that was killed is replaced soon.
        if (isGone(error)) await pause(AFTER_KILL_MS);
        // What may not be sent again: it is done when it arrives, or not.
        else if (error instanceof WorkerError && isUnknown(error.message)) continue;
        else if (!(error instanceof WorkerError) || !this.expects(error.message))
          this.problems.push(String(error));
      }
    }
    this.ended = true;
  }

  /** Does one thing. */
  protected abstract turn(): Promise<void>;

  /** Whether a call may fail with this. A run has no faults but aborts, losses and killed processes. */
  protected abstract expects(error: string): boolean;

  protected call<T>(operation: string, ...args: readonly unknown[]): Promise<T> {
    return this.#fleet.call(this.#at, operation, ...args) as Promise<T>;
  }

  /** Calls what answers with an outcome. Of a call in a process that was killed nobody knows when it was done, or whether. */
  protected async outcome<T>(operation: string, ...args: readonly unknown[]): Promise<Outcome<T>> {
    try {
      const outcome = await this.call<Outcome<T>>(operation, ...args);
      return isUnknown(outcome.error) ? { ...outcome, after: NEVER, error: 'GONE' } : outcome;
    } catch (error) {
      if (isGone(error)) return { after: NEVER, before: 0n, error: 'GONE' };
      throw error;
    }
  }

  /** Ends the session as a crash does, while whatever comes next is under way. */
  protected loseSession(): void {
    void this.call('lose', this.session).catch(() => undefined);
  }

  /** Lets others go on; nothing depends on how long it is. */
  protected async pauseAtMost(ms: number): Promise<void> {
    await pause(this.random.int(ms));
  }

  /** After how many milliseconds to give up, now and then. */
  protected patience(chance: number, atMostMs: number): number | undefined {
    return this.random.chance(chance) ? this.random.int(atMostMs) : undefined;
  }
}

/** Looks on: calls the same operation over and over, and keeps what it answers. */
export class Onlooker<T> extends Actor {
  readonly seen: T[] = [];
  readonly #operation: string;
  readonly #args: readonly unknown[];

  constructor(seat: Seat, operation: string, ...args: readonly unknown[]) {
    super(seat);
    this.#operation = operation;
    this.#args = args;
  }

  protected async turn(): Promise<void> {
    this.seen.push(await this.call<T>(this.#operation, ...this.#args));
    await this.pauseAtMost(50);
  }

  protected expects(): boolean {
    return false;
  }
}

function isGone(error: unknown): boolean {
  return error instanceof WorkerError && error.message === 'GONE';
}

/** Whether nobody knows whether a call was done: on a line without faults, that is an error of its own. */
function isUnknown(error: string | undefined): boolean {
  return error === 'UNKNOWN_OUTCOME' && lateKind() !== undefined;
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
