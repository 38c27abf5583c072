/**
 * The jobs of one priority that came back to places which a worker has read past, and that it knows of by their
 * announcement. They are shared out: those that are announced together go to the workers in turn, by a rule on which all
 * agree who know of the same workers. A worker first takes its own. It looks for others' only once it has nothing better to
 * do for a moment, or has claimed so many jobs since that they should not wait any longer; then it reads them together,
 * each worker from another one on. So a job that came back costs about one transaction, however many workers there are,
 * and one whose worker is busy is not forgotten.
 */
import type { Returned } from '../store/returned.js';
import type { Place } from '../store/keys.js';

/** A look at some of them. */
export type ReturnedRead =
  | { readonly of: 'returned'; readonly place: Place }
  | {
      readonly of: 'leftovers';
      readonly priority: number;
      /** First number, and one after the last. */
      readonly from: number;
      readonly to: number;
      readonly limit: number;
    };

/** Which of how many workers looks. */
export interface Ranked {
  readonly rank: number;
  readonly workers: number;
}

interface Known extends Returned {
  /** How many jobs may be claimed before it is everybody's. */
  patience: number;
}

export class ReturnedJobs {
  readonly #known = new Map<string, Known>();

  get size(): number {
    return this.#known.size;
  }

  /** `patience`: how many jobs may be claimed before it is everybody's. It stays whose it is if it is told of again. */
  add({ place, turn }: Returned, patience: number): void {
    if (!this.#known.has(place.id)) this.#known.set(place.id, { patience, place, turn });
  }

  delete({ id }: Place): void {
    this.#known.delete(id);
  }

  /** So many jobs were claimed meanwhile. */
  overtakenBy(claims: number): void {
    for (const known of this.#known.values()) known.patience -= claims;
  }

  /** Whether one of them may be looked for now. */
  hasReady(by: Ranked): boolean {
    for (const known of this.#known.values()) if (isReady(known, by)) return true;
    return false;
  }

  /** The reads that find up to `want` of our own, and whether those of others that have waited for too long are there. */
  plan(want: number, most: number, by: Ranked, isClaimed: (place: Place) => boolean): ReturnedRead[] {
    const left = [...this.#known.values()].filter(({ place }) => !isClaimed(place));
    left.sort((a, b) => a.place.number - b.place.number);
    const own = left.filter((known) => isOwn(known, by));
    // With others about, one more, should the first have been taken meanwhile.
    const reads: ReturnedRead[] = own
      .slice(0, Math.min(by.workers === 1 ? want : want + 1, most))
      .map(({ place }) => ({ of: 'returned', place }));
    const others = left.filter((known) => !isOwn(known, by) && isReady(known, by));
    if (own.length >= want || others.length === 0 || reads.length + 2 > most) return reads;
    const limit = want - own.length;
    const middle = Math.floor((others.length * by.rank) / by.workers);
    for (const part of [others.slice(middle), others.slice(0, middle)]) {
      const [first, last] = [part[0]?.place, part.at(-1)?.place];
      if (first === undefined || last === undefined) continue;
      const { number: from, priority } = first;
      reads.push({ from, limit, of: 'leftovers', priority, to: last.number + 1 });
    }
    return reads;
  }

  /** What was found in a read of leftovers: what was not is not there any more, but for those that are `excepted`. */
  saw(
    { from, limit, to }: ReturnedRead & { readonly of: 'leftovers' },
    found: readonly Place[],
    isExcepted: (place: Place) => boolean,
  ): void {
    const end = found.length < limit ? to : (found.at(-1)?.number ?? to);
    const there = new Set(found.map(({ id }) => id));
    for (const { place } of this.#known.values()) {
      const { id, number } = place;
      if (number >= from && number < end && !there.has(id) && !isExcepted(place)) this.#known.delete(id);
    }
  }
}

/** Whether it is that of the worker of this rank: those that come back go to the workers in turn. */
function isOwn({ turn }: Returned, { rank, workers }: Ranked): boolean {
  return turn % workers === rank;
}

function isReady(known: Known, by: Ranked): boolean {
  return known.patience <= 0 || isOwn(known, by);
}
