import { Actor, type Seat } from './actor.js';
import type { Entry } from './subjects/double-barrier.js';
import type { Outcome } from './window.js';

/** A party that enters and leaves, over and over. */
export class Party extends Actor {
  readonly entries: Entry[] = [];
  readonly exits: { readonly entry: Entry; readonly outcome: Outcome }[] = [];
  readonly #name: string;
  readonly #count: number;

  constructor(seat: Seat, name: string, count: number) {
    super(seat);
    this.#name = name;
    this.#count = count;
  }

  protected async turn(): Promise<void> {
    const { random, session } = this;
    if (random.chance(0.03)) this.loseSession();
    // While the others have come to their ends, nobody completes a round.
    const patience = this.patience(0.35, 15) ?? 1500;
    const entry = await this.call<Entry>('enter', session, this.#name, this.#count, patience);
    this.entries.push(entry);
    if (entry.value === undefined) return;
    if (random.chance(0.5)) await this.pauseAtMost(10);
    if (random.chance(0.05)) this.loseSession();
    const outcome = await this.outcome('leave', entry.leaseId, this.patience(0.1, 10));
    this.exits.push({ entry, outcome });
  }

  protected expects(error: string): boolean {
    return /^(LEASE_NOT_FOUND|RangeError: no party)/.test(error);
  }
}
