/**
 * What one worker knows of the front of the waiting jobs, so that it can read a few keys there and no more.
 *
 * etcd walks a range to its end to count it, even with a limit, and walks over deleted keys until they are compacted. So
 * a read must name a narrow range. Numbers are dense, which makes that possible: `head` is below every waiting job of a
 * priority, but for the `strays` (jobs that came back to a place below it, each announced), `tail` is above.
 *
 * Several workers share the front in blocks of numbers: block b is for worker b modulo their count. That is no right, only
 * a habit that keeps them apart: who has used up its own blocks near the head helps with the first jobs that are left.
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
/** How many blocks for each worker are within reach, from the head on. */
const REACH = 2;

export class Front {
  /** By priority, the greatest first. */
  #lines: Line[] = [];
  /** The places announced while a read was under way, which may not have seen them. */
  #announced: Place[] = [];
  #share: Share = { block: 1, rank: 0, workers: 1 };

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
    line.own = Math.min(line.own, place.number);
  }

  /** Whether a read may find something. */
  get promising(): boolean {
    return this.#lines.some((line) => line.head < line.tail || line.strays.size > 0);
  }

  /** These, the first of what was seen, are claimed now, so the next plan looks behind them. */
  claiming(places: readonly Place[]): void {
    for (const line of this.#lines) line.claiming = 0;
    for (const { priority, number } of places) {
      const line = this.#line(priority);
      if (number < line.head) continue;
      line.claiming = Math.max(line.claiming, number + 1);
      line.own = Math.max(line.own, number + 1);
    }
  }

  /** The claims were not tried after all. */
  notClaimed(): void {
    for (const line of this.#lines) line.own = line.claiming = 0;
  }

  /** The reads that find the next `want` jobs or so. */
  plan(want: number, share: Share): FrontRead[] {
    this.#announced = [];
    const { rank, workers, block } = this.#share;
    if (rank !== share.rank || workers !== share.workers || block !== share.block) {
      this.#share = share;
      for (const line of this.#lines) line.own = 0;
    }
    const reads: FrontRead[] = [];
    let left = want;
    for (const line of this.#lines) {
      const strays = [...line.strays.values()].sort((a, b) => a.number - b.number);
      for (const place of strays.slice(0, Math.min(left, MOST_READS - reads.length))) {
        reads.push({ of: 'stray', place });
        left -= 1;
      }
      if (left <= 0 || reads.length >= MOST_READS) break;
      if (line.head >= line.tail) continue;
      for (const read of this.#stretches(line, left, MOST_READS - reads.length)) {
        reads.push(read);
        if (read.of === 'stretch') left -= read.to - read.from;
      }
      if (line.span === Infinity) break;
    }
    return reads;
  }

  /** The numbers that wait in a stretch that was read, in order, at most as many as its limit. */
  sawStretch(read: FrontRead & { readonly of: 'stretch' | 'probe' }, numbers: readonly number[]): void {
    const line = this.#line(read.priority);
    const [first] = numbers;
    if (first === undefined && this.#isOwn(read)) line.own = Math.max(line.own, read.to);
    if (read.from <= line.head || line.span === Infinity) {
      line.head = Math.max(line.head, first ?? read.to);
      line.span = first === undefined ? Math.min(LONGEST_SPAN, (read.to - read.from) * 4) : 0;
    }
    for (const place of this.#announced) {
      if (place.priority !== line.priority) continue;
      if (place.number < line.head) line.strays.set(place.id, place);
      line.own = Math.min(line.own, place.number);
    }
  }

  /** A stray is not there, or has been tried for: unless it was announced anew, it is forgotten. */
  forget(place: Place): void {
    if (this.#announced.some(({ id }) => id === place.id)) return;
    this.#line(place.priority).strays.delete(place.id);
  }

  #stretches(line: Line, want: number, most: number): FrontRead[] {
    const { head, tail, priority } = line;
    const { workers } = this.#share;
    const near = Math.min(tail, Math.max(head, line.claiming) + Math.max(want + 8, line.span));
    const atHead: FrontRead = { from: head, limit: want, of: 'stretch', priority, to: near };
    if (workers === 1 || line.span === Infinity) return [atHead];
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
    let line = this.#lines.find((each) => each.priority === priority);
    if (line === undefined) {
      line = { claiming: 0, head: 0, own: 0, priority, span: 0, strays: new Map(), tail: 0 };
      this.#lines.push(line);
      this.#lines.sort((a, b) => b.priority - a.priority);
    }
    return line;
  }
}

/** The size of the blocks when there are so many jobs for each worker: few jobs are dealt out one by one. */
function blockWithin(block: number, jobs: number): number {
  let size = block;
  while (size > 1 && size > jobs) size /= 2;
  return size;
}
