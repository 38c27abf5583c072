import { Actor, type Seat } from './actor.js';
import { type Claimed, type Patience, type Way, WAYS } from './subjects/queue.js';
import type { Outcome } from './window.js';

/** A job as it was pushed. */
export interface Pushed {
  readonly id: string;
  readonly data: string;
  readonly priority: number;
  readonly delayMs: number;
  readonly maxAttempts: number;
}

/** A claimed job that was handed in. */
export interface HandIn {
  readonly claim: Claimed;
  readonly way: Way;
  readonly outcome: Outcome;
}

/** How often it does what. */
const TURNS = { 'hand in': 38, lose: 1, pause: 1, push: 15, take: 45 } as const;

/** Pushes jobs, claims them, and hands them in. */
export class QueueActor extends Actor {
  readonly pushes: { readonly items: readonly Pushed[]; readonly outcome: Outcome<readonly boolean[]> }[] =
    [];
  readonly claims: Claimed[] = [];
  readonly handIns: HandIn[] = [];
  readonly #name: string;
  readonly #part: string;
  #held: Claimed[] = [];
  #pushed = 0;

  constructor(seat: Seat, name: string, part: string) {
    super(seat);
    this.#name = name;
    this.#part = part;
  }

  protected async turn(): Promise<void> {
    switch (this.random.weighted(TURNS)) {
      case 'push':
        return this.#push();
      case 'take':
        return this.#take();
      case 'hand in':
        return this.#handIn();
      case 'lose':
        this.loseSession();
        return;
      case 'pause':
        return this.#pause();
    }
  }

  protected expects(error: string): boolean {
    // What is neither pushed, taken nor handed in may be asked for while the session is being lost.
    return /^(LEASE_NOT_FOUND|SESSION_LOST|RangeError: no job)/.test(error);
  }

  async #push(): Promise<void> {
    const { random } = this;
    const items = Array.from({ length: 1 + random.int(4) }, (): Pushed => {
      const id = `${this.session}${this.#part}-${this.#pushed++}`;
      const delayMs = random.chance(0.2) ? 1 + random.int(30) : 0;
      return { data: id, delayMs, id, maxAttempts: 1 + random.int(4), priority: random.int(3) };
    });
    // Now and then again what was pushed before, and may be there still.
    const again = this.pushes.at(-1)?.items[0];
    if (again !== undefined && random.chance(0.2)) items.push(again);
    this.pushes.push({ items, outcome: await this.outcome('push', this.session, this.#name, items) });
  }

  async #take(): Promise<void> {
    const { random } = this;
    const patience: Patience = random.chance(0.2)
      ? { abortAfterMs: random.int(20) }
      : { timeoutMs: random.pick([20, 100, 1000]) };
    const { value } = await this.outcome<Claimed>('take', this.session, this.#name, patience);
    if (value === undefined) return;
    this.claims.push(value);
    this.#held.push(value);
  }

  async #handIn(): Promise<void> {
    const [claim] = this.#held.splice(this.random.int(this.#held.length), 1);
    if (claim === undefined) return;
    const way = this.random.pick(WAYS);
    // What is lost here and now, before the session has heard of it, must not be done either.
    if (this.random.chance(0.03)) await this.call('lose', this.session);
    const outcome = await this.outcome('handIn', claim.job, way, `queue/effect/${claim.id}`);
    this.handIns.push({ claim, outcome, way });
  }

  async #pause(): Promise<void> {
    await this.call('pause', this.session, this.#name);
    await this.pauseAtMost(10);
    await this.call('resume', this.session, this.#name);
  }
}
