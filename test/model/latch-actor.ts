import { Actor, type Seat } from './actor.js';
import type { LatchOf, Used } from './subjects/latch.js';
import type { Outcome, Window } from './window.js';

/** What is known of the object that a call was done with. */
interface Uses {
  /** Known before the object was used. */
  readonly since: bigint;
  /** From then until it knew which latch it is about; undefined: it does not yet. */
  readonly about?: Window | undefined;
}

/** What an actor did with a latch. */
export interface LatchCall extends Outcome, Uses {
  readonly what: 'countDown' | 'wait' | 'count' | 'remove';
  readonly of: LatchOf;
}

/** The latches, and what they count from. */
export const LATCHES = { few: 3, many: 25 } as const;
/** What somebody takes them to count from who is wrong about it, and may be the first. */
export const WRONG_COUNT = 7;

/** Uses latches. */
export abstract class LatchActor extends Actor {
  readonly calls: LatchCall[] = [];
  readonly #uses = new Map<string, Uses>();
  readonly #sessionless: boolean;

  constructor(seat: Seat) {
    super(seat);
    this.#sessionless = seat.random.chance(0.5);
  }

  /** What it counts down by: where that tells its counts from those of others, they are checked one by one. */
  stepOf(name: string): number {
    return name === 'few' ? 1 : 1 + Number(this.session.slice(1));
  }

  protected expects(error: string): boolean {
    return error === 'LEASE_NOT_FOUND';
  }

  protected async use(
    what: LatchCall['what'],
    name: keyof typeof LATCHES,
    ...args: readonly unknown[]
  ): Promise<unknown> {
    const of: LatchOf = {
      actor: `${this.constructor.name} of ${this.session}`,
      count: this.random.chance(0.03) ? WRONG_COUNT : LATCHES[name],
      name: `latch/${name}`,
      session: this.#sessionless ? undefined : this.session,
    };
    const outcome: Outcome & Partial<Pick<Used, 'latch'>> = await this.outcome(what, of, ...args);
    const { latch, before, after, error } = outcome;
    const uses = (latch === undefined ? undefined : this.#uses.get(latch)) ?? { since: before };
    this.calls.push({ ...outcome, ...uses, of, what });
    const knows = error === undefined && what !== 'remove';
    const about = uses.about ?? (knows ? { after, before: uses.since } : undefined);
    if (latch !== undefined) this.#uses.set(latch, { ...uses, about });
    return outcome.value;
  }
}

/** Counts down, and removes what is open. */
export class LatchCounter extends LatchActor {
  protected async turn(): Promise<void> {
    const { random } = this;
    const name = random.pick(['few', 'many'] as const);
    if (random.chance(0.01)) this.loseSession();
    await this.use('countDown', name, this.stepOf(name), this.patience(0.15, 10));
    if (random.chance(0.02)) await this.use('remove', name);
    if (random.chance(0.4) && (await this.use('count', name)) === 0) await this.use('remove', name);
  }
}

/** Waits. */
export class LatchWaiter extends LatchActor {
  protected async turn(): Promise<void> {
    const name = this.random.pick(['few', 'many'] as const);
    await this.use('wait', name, this.patience(0.3, 20));
    await this.pauseAtMost(20);
  }
}
