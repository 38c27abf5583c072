/**
 * What one worker knows of the front of the waiting jobs, so that it can read a few keys there and no more.
 *
 * etcd walks a range to its end to count it, even with a limit, and walks over deleted keys until they are compacted. So
 * a read must name a narrow range. Numbers are dense, which makes that possible: `head` is below every waiting job of a
 * priority, but for the `strays` (jobs that came back to a place below it, each announced), `tail` is above.
 */
import type { Place } from './layout.js';

/** One read to make. */
export type FrontRead =
  | { readonly of: 'stray'; readonly place: Place }
  | {
      readonly of: 'stretch';
      readonly priority: number;
      /** First number, and one after the last. */
      readonly from: number;
      readonly to: number;
      readonly limit: number;
    };

interface Line {
  readonly priority: number;
  head: number;
  tail: number;
  /** How many numbers the next read covers at least; grows over a stretch in which nothing waits. */
  span: number;
  readonly strays: Map<string, Place>;
}

const MOST_READS = 24;
const LONGEST_SPAN = 65_536;

export class Front {
  /** By priority, the greatest first. */
  #lines: Line[] = [];
  /** The places announced while a read was under way, which may not have seen them. */
  #announced: Place[] = [];

  /** Forgets everything but the tails. */
  reset(tails: ReadonlyMap<number, number>): void {
    this.#lines = [];
    this.#announced = [];
    for (const [priority, tail] of tails) {
      const line = this.#line(priority);
      line.tail = tail;
      // Nothing is known of it: one read over all of it finds its head.
      line.span = Infinity;
    }
  }

  /** More numbers have been given out. */
  grew(priority: number, tail: number): void {
    const line = this.#line(priority);
    line.tail = Math.max(line.tail, tail);
  }

  /** A job is back at its place. */
  back(place: Place): void {
    this.#announced.push(place);
    const line = this.#line(place.priority);
    if (place.number < line.head) line.strays.set(place.id, place);
  }

  /** Whether a read may find something. */
  get promising(): boolean {
    return this.#lines.some(mayHold);
  }

  /**
   * The reads that find the next `want` jobs. With `skip` above 0, whole stretches of `want` jobs at the front of the
   * line are left to others.
   */
  plan(want: number, skip: number): FrontRead[] {
    this.#announced = [];
    const reads: FrontRead[] = [];
    let left = want;
    for (const line of this.#lines) {
      for (const place of inOrder(line.strays.values())) {
        if (left <= 0 || reads.length >= MOST_READS) return reads;
        reads.push({ of: 'stray', place });
        left -= 1;
      }
      if (left <= 0 || reads.length >= MOST_READS) return reads;
      if (line.head >= line.tail) continue;
      const room = Math.floor((line.tail - line.head) / left) - 1;
      const from = line.head + left * Math.max(0, Math.min(skip, room));
      const to = Math.min(line.tail, from + Math.max(left + 8, line.span));
      reads.push({ from, limit: left, of: 'stretch', priority: line.priority, to });
      if (line.span === Infinity) return reads;
      left -= to - from;
    }
    return reads;
  }

  /** What a stretch was found to hold: the numbers of its waiting jobs, in order, at most as many as its limit. */
  sawStretch(read: FrontRead & { readonly of: 'stretch' }, numbers: readonly number[]): void {
    const line = this.#line(read.priority);
    const [first] = numbers;
    if (read.from > line.head && line.span !== Infinity) return;
    line.head = Math.max(line.head, first ?? read.to);
    line.span = first === undefined ? Math.min(LONGEST_SPAN, Math.max(256, (read.to - read.from) * 4)) : 0;
    for (const place of this.#announced) {
      if (place.priority === line.priority && place.number < line.head) line.strays.set(place.id, place);
    }
  }

  /** A stray is not there, or has been tried for: unless it was announced anew, it is forgotten. */
  forget(place: Place): void {
    if (this.#announced.some(({ id }) => id === place.id)) return;
    this.#line(place.priority).strays.delete(place.id);
  }

  #line(priority: number): Line {
    let line = this.#lines.find((each) => each.priority === priority);
    if (line === undefined) {
      line = { head: 0, priority, span: 0, strays: new Map(), tail: 0 };
      this.#lines.push(line);
      this.#lines.sort((a, b) => b.priority - a.priority);
    }
    return line;
  }
}

function mayHold(line: Line): boolean {
  return line.head < line.tail || line.strays.size > 0;
}

function inOrder(places: Iterable<Place>): Place[] {
  return [...places].sort((a, b) => a.number - b.number);
}
