/**
 * What one worker knows of the front of the waiting jobs, so that it can read a few keys there and no more.
 *
 * etcd walks a range to its end to count it, even with a limit, and walks over deleted keys until they are compacted. So
 * a read must name a narrow range. Numbers are dense, which makes that possible: `head` is below every waiting job of a
 * priority, but for the `strays` (jobs that came back to a place below it, each announced), `tail` is above.
 *
 * Several workers share the front in blocks of numbers: block b is for worker b modulo their count. That is no right, only
 * a habit that keeps them apart: who has used up its own blocks near the head helps with the first jobs that are left.
 *
 * There may be as many priorities as a job can have. Those of which nothing is known are read together in one sweep over
 * as many numbers as is cheap, and over four times as many when nothing was found: so a newcomer finds the first job
 * with few reads, however many priorities were ever used. So are the last jobs of each when there are many priorities.
 */
import type { Place } from './layout.js';

/** One read to make. */
export type FrontRead =
  | { readonly of: 'stray'; readonly place: Place }
  | {
      /** `probe`: only to see where the waiting jobs begin. */
      readonly of: 'stretch' | 'probe';
      readonly priority: number;
      /** First number, and one after the last. */
      readonly from: number;
      readonly to: number;
      readonly limit: number;
    }
  | {
      readonly of: 'sweep';
      /** The priorities it covers, the greatest first, and one after the last number of each. */
      readonly lines: readonly { readonly priority: number; readonly to: number }[];
      /** First number, of the first priority. The others are read from 0 on. */
      readonly from: number;
      readonly limit: number;
    };

/** One of several workers' part of the front. */
export interface Share {
  /** Which of the workers, from 0 on. */
  readonly rank: number;
  readonly workers: number;
  /** Numbers in a block, a power of two. */
  readonly block: number;
}

interface Line {
  readonly priority: number;
  head: number;
  tail: number;
  /** How many numbers the next read at the head covers at least; grows over a stretch in which nothing waits. */
  span: number;
  /** Nothing waits in our own blocks below this number, or it is being claimed. */
  own: number;
  /** All that was seen to wait below this number is being claimed. */
  claiming: number;
  readonly strays: Map<string, Place>;
}

const MOST_READS = 24;
const LONGEST_SPAN = 65_536;
/** How many numbers a sweep covers at first. */
const SHORTEST_SWEEP = 512;
/** How many blocks for each worker are within reach, from the head on. */
const REACH = 2;

export class Front {
  /** By priority, the greatest first. */
  #lines: Line[] = [];
  /** No line before this index has anything to read. */
  #first = 0;
  /** The places announced while a read was under way, which may not have seen them. */
  #announced: Place[] = [];
  #claims: readonly Place[] = [];
  #share: Share = { block: 1, rank: 0, workers: 1 };
  /** How many numbers the next sweep covers. */
  #sweep = SHORTEST_SWEEP;

  /** Forgets everything but the tails. */
  reset(tails: ReadonlyMap<number, number>): void {
    this.#announced = [];
    this.#first = 0;
    this.#sweep = SHORTEST_SWEEP;
    // Nothing is known of them: a read over all of a line finds its head.
    this.#lines = [...tails]
      .sort(([a], [b]) => b - a)
      .map(([priority, tail]) => ({ ...newLine(priority), span: Infinity, tail }));
  }

  /** More numbers have been given out. */
  grew(priority: number, tail: number): void {
    const line = this.#line(priority);
    line.tail = Math.max(line.tail, tail);
  }

  /** A job is back at its place. */
  back(place: Place): void {
    this.#announced.push(place);
    this.#recall(place);
  }

  /** Whether a read may find something. */
  get promising(): boolean {
    for (; this.#first < this.#lines.length; this.#first++) {
      const line = this.#lines[this.#first];
      if (line !== undefined && isOpen(line)) return true;
    }
    return false;
  }

  /** These, the first of what was seen, are claimed now, so the next plan looks behind them. */
  claiming(places: readonly Place[]): void {
    for (const { priority } of this.#claims) this.#line(priority).claiming = 0;
    this.#claims = places;
    for (const { priority, number } of places) {
      const line = this.#line(priority);
      if (number < line.head) continue;
      line.claiming = Math.max(line.claiming, number + 1);
      line.own = Math.max(line.own, number + 1);
    }
  }

  /** The claims were not tried after all. */
  notClaimed(): void {
    for (const { priority } of this.#claims) {
      const line = this.#line(priority);
      line.own = line.claiming = 0;
    }
    this.#claims = [];
  }

  /** The reads that find the next `want` jobs or so. */
  plan(want: number, share: Share): FrontRead[] {
    this.#announced = [];
    const { rank, workers, block } = this.#share;
    if (rank !== share.rank || workers !== share.workers || block !== share.block) {
      this.#share = share;
      for (const line of this.#lines) line.own = 0;
    }
    const claimed = new Set(this.#claims.map(({ id }) => id));
    const reads: FrontRead[] = [];
    let left = want;
    for (let at = this.#first; at < this.#lines.length; at++) {
      const line = this.#lines[at];
      if (line === undefined || !isOpen(line)) continue;
      const strays = [...line.strays.values()].filter(({ id }) => !claimed.has(id));
      strays.sort((a, b) => a.number - b.number);
      for (const place of strays.slice(0, Math.min(left, MOST_READS - reads.length))) {
        reads.push({ of: 'stray', place });
        left -= 1;
      }
      if (left <= 0 || reads.length >= MOST_READS) break;
      if (line.head >= line.tail) continue;
      if (this.#isSwept(line, left)) {
        reads.push(this.#sweepFrom(at, left));
        break;
      }
      for (const read of this.#stretches(line, left, MOST_READS - reads.length)) {
        reads.push(read);
        if (read.of === 'stretch') left -= read.to - read.from;
      }
    }
    return reads;
  }

  /** The numbers that wait in a stretch that was read, in order, at most as many as its limit. */
  sawStretch(read: FrontRead & { readonly of: 'stretch' | 'probe' }, numbers: readonly number[]): void {
    const line = this.#line(read.priority);
    const [first] = numbers;
    if (first === undefined && this.#isOwn(read)) line.own = Math.max(line.own, read.to);
    if (read.from <= line.head) {
      line.head = Math.max(line.head, first ?? read.to);
      line.span = first === undefined ? Math.min(LONGEST_SPAN, (read.to - read.from) * 4) : 0;
    }
    for (const place of this.#announced) this.#recall(place);
  }

  /** The first jobs that wait in what was swept, in order, at most as many as its limit. */
  sawSweep(read: FrontRead & { readonly of: 'sweep' }, places: readonly Place[]): void {
    this.#sweep = places.length === 0 ? this.#sweep * 4 : SHORTEST_SWEEP;
    // Where the limit was reached the sweep has ended: of that line we know the head, of those behind it nothing.
    const end = places.length < read.limit ? -Infinity : (places.at(-1)?.priority ?? -Infinity);
    for (const { priority, to } of read.lines) {
      if (priority <= end) break;
      const line = this.#line(priority);
      line.head = Math.max(line.head, to);
      line.span = 0;
    }
    for (const place of places) {
      const line = this.#line(place.priority);
      if (place.priority === end && line.span === Infinity) {
        line.head = place.number;
        line.span = 0;
      }
      if (place.number < line.head) line.strays.set(place.id, place);
    }
    for (const place of this.#announced) this.#recall(place);
  }

  /** A stray is not there, or has been tried for: unless it was announced anew, it is forgotten. */
  forget(place: Place): void {
    if (this.#announced.some(({ id }) => id === place.id)) return;
    this.#line(place.priority).strays.delete(place.id);
  }

  #recall(place: Place): void {
    const line = this.#line(place.priority);
    if (place.number < line.head) line.strays.set(place.id, place);
    line.own = Math.min(line.own, place.number);
  }

  /** Whether this line and those behind it are read together, rather than shared with other workers. */
  #isSwept({ head, span, tail }: Line, want: number): boolean {
    return span === Infinity || (this.#lines.length > MOST_READS && tail - head <= want);
  }

  #sweepFrom(at: number, limit: number): FrontRead {
    const lines: { priority: number; to: number }[] = [];
    const from = this.#lines[at]?.head ?? 0;
    let covered = -from;
    for (const { priority, tail } of this.#lines.slice(at, at + this.#sweep)) {
      covered += tail;
      if (lines.length > 0 && covered > this.#sweep) break;
      lines.push({ priority, to: tail });
    }
    return { from, limit, lines, of: 'sweep' };
  }

  #stretches(line: Line, want: number, most: number): FrontRead[] {
    const { head, tail, priority } = line;
    const { workers } = this.#share;
    const near = Math.min(tail, Math.max(head, line.claiming) + Math.max(want + 8, line.span));
    const atHead: FrontRead = { from: head, limit: want, of: 'stretch', priority, to: near };
    if (workers === 1) return [atHead];
    const block = blockWithin(this.#share.block, (tail - head) / workers);
    const reach = Math.min(tail, head + REACH * workers * block);
    const reads: FrontRead[] = [];
    let left = want;
    for (let from = this.#nextOwn(Math.max(head, line.own), block); from < reach;) {
      if (left <= 0 || reads.length >= most - 1) break;
      const to = Math.min(tail, from - (from % block) + block);
      reads.push({ from, limit: left, of: 'stretch', priority, to });
      left -= to - from;
      from = this.#nextOwn(to, block);
    }
    if (reads.length === 0) return [atHead];
    const probe = Math.min(tail, Math.max(reach, head + line.span));
    return [{ from: head, limit: 1, of: 'probe', priority, to: probe }, ...reads];
  }

  /** The first number of ours at or after `from`. */
  #nextOwn(from: number, block: number): number {
    const { rank, workers } = this.#share;
    const index = Math.floor(from / block);
    const ahead = (rank - (index % workers) + workers) % workers;
    return ahead === 0 ? from : (index + ahead) * block;
  }

  #isOwn(read: { readonly of: string; readonly from: number; readonly to: number }): boolean {
    return read.of === 'stretch' && read.to - read.from <= this.#share.block;
  }

  #line(priority: number): Line {
    let at = 0;
    for (let end = this.#lines.length; at < end;) {
      const middle = (at + end) >> 1;
      if ((this.#lines[middle]?.priority ?? priority) > priority) at = middle + 1;
      else end = middle;
    }
    // Whoever asks for a line may change it.
    this.#first = Math.min(this.#first, at);
    const found = this.#lines[at];
    if (found?.priority === priority) return found;
    const line = newLine(priority);
    this.#lines.splice(at, 0, line);
    return line;
  }
}

function newLine(priority: number): Line {
  return { claiming: 0, head: 0, own: 0, priority, span: 0, strays: new Map(), tail: 0 };
}

/** Whether a read may find something in it. */
function isOpen({ head, strays, tail }: Line): boolean {
  return head < tail || strays.size > 0;
}

/** The size of the blocks when there are so many jobs for each worker: few jobs are dealt out one by one. */
function blockWithin(block: number, jobs: number): number {
  let size = block;
  while (size > 1 && size > jobs) size /= 2;
  return size;
}
