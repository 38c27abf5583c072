/**
 * What one worker knows of the front of the waiting jobs, so that it can read a few keys there and no more.
 *
 * etcd walks a range to its end to count it, even with a limit, and walks over deleted keys until they are compacted. So
 * a read must name a narrow range: `head` is below every waiting job of a priority, but for those that
 * came back to a place below it, each announced (returned-jobs.ts), `tail` is above. A job that is appended below the head, by somebody who
 * was slow, is announced too, and moves the head back to it: the numbers that are walked over again are few.
 *
 * Numbers have gaps, see store/numbering.ts: `unit` is about how many there are for each waiting job near the head. Every
 * read at the head counts what waits there, and so corrects it.
 *
 * Several workers share the front in blocks of as many numbers as hold so many jobs: block b is for worker b modulo their
 * count. That is no right, only a habit that keeps them apart: who has used up its own blocks near the head helps with the
 * first jobs that are left. What was read in blocks that prove to hold more jobs than was thought is not claimed: so no
 * job is overtaken by more others than the blocks within reach were to hold.
 *
 * There may be as many priorities as a job can have. Those of which nothing is known are read together in one sweep over
 * as many numbers as is cheap, and over four times as many when nothing was found: so a newcomer finds the first job
 * with few reads, however many priorities were ever used. So are the last jobs of each when there are many priorities.
 *
 * What is known of a priority, and what changes it. `unknown`: a read over all of it is to find its head.
 *
 *   event                              head                    returned            own
 *   reset                              0, unknown              none                0
 *   grew, from `first` on              back to `first` if above                    back to `first` if above
 *   back                                                       added, if below     back to it if above
 *   claiming, before each plan                                 overtaken           behind what is claimed
 *   notClaimed, the number of workers changes                                      0
 *   sawStretch, from the head on       the first found, or the end
 *   sawStretch of one of our own blocks                                            behind it, if nothing was found
 *   sawSweep                           as of a stretch, known  what is below
 *   sawLeftovers, forget                                       what is not there goes
 *
 * The order is claiming, plan, then the answers, of one transaction at a time. What is told between a plan and its answers
 * is told once more after them, since the reads may not have seen it; and after a reset those answers count for nothing.
 */
import type { Returned } from '../store/returned.js';
import type { Place } from '../store/keys.js';
import { STRIDE } from '../store/numbering.js';
import { blockWithin, type FrontRead, type Line, measure, newLine, type Share } from './backlog-line.js';

const MOST_READS = 24;
const LONGEST_SPAN = 65_536 * STRIDE;
/** How many transactions' numbers a sweep covers at first. */
const SHORTEST_SWEEP = 128;
/** How many blocks for each worker are within reach, from the head on. */
const REACH = 2;
/**
 * How many blocks a worker claims before it looks for what came back and others should have taken. Jobs that came back
 * themselves count for less: while workers do those, each its own, so do the others most likely.
 */
const PATIENCE = 8;
const RETURNED_FOR_ONE = 8;

export class BacklogCursor {
  /** By priority, the greatest first. */
  #lines: Line[] = [];
  /** Those of the lines to which jobs came back. */
  readonly #returnedTo = new Set<Line>();
  /** No line before this index has anything to read. */
  #first = 0;
  /** The reads that are under way, if what they see is still of use. */
  #underWay: ReadonlySet<FrontRead> = new Set();
  /** What came back while a read was under way, which may not have seen it. */
  #announced: Returned[] = [];
  /** The first numbers of what was appended meanwhile. */
  #appended: { readonly priority: number; readonly first: number }[] = [];
  #claims: readonly Place[] = [];
  #share: Share = { block: 1, rank: 0, workers: 1 };
  /** How many numbers the next sweep covers. */
  #sweep = SHORTEST_SWEEP;

  /**
   * Forgets everything but the tails, since announcements may have been missed. What reads see that are under way does not
   * count any more: what came back after them would be hidden.
   */
  reset(tails: ReadonlyMap<number, number>): void {
    this.#underWay = new Set();
    this.#returnedTo.clear();
    this.#announced = [];
    this.#appended = [];
    this.#first = 0;
    this.#sweep = SHORTEST_SWEEP;
    // Nothing is known of them: a read over all of a line finds its head.
    this.#lines = [...tails]
      .sort(([a], [b]) => b - a)
      .map(([priority, tail]) => ({ ...newLine(priority), span: Infinity, tail }));
  }

  /** Jobs were appended, from the number `first` on, all below `tail`. */
  grew(priority: number, tail: number, first: number): void {
    const line = this.#line(priority);
    line.tail = Math.max(line.tail, tail);
    this.#appended.push({ first, priority });
    this.#goBack(priority, first);
  }

  /** A job is back at its place. */
  back(returned: Returned): void {
    this.#announced.push(returned);
    this.#recall(returned);
  }

  /** Whether a read may find something. */
  get promising(): boolean {
    for (; this.#first < this.#lines.length; this.#first++) {
      const line = this.#lines[this.#first];
      if (line !== undefined && this.#isOpen(line)) return true;
    }
    return false;
  }

  /** Whether jobs came back that others should take, and nobody is known to have taken. */
  get hasLeftovers(): boolean {
    return this.#withReturned().length > 0;
  }

  /** There is nothing better to do than to look for what others should have taken. */
  beIdle(): void {
    this.#overtake(Infinity);
  }

  /** So many jobs were claimed, perhaps before those that came back. */
  #overtake(claims: number): void {
    for (const { priority, returned } of this.#withReturned()) {
      returned.overtakenBy(claims);
      this.#line(priority);
    }
  }

  #withReturned(): readonly Line[] {
    for (const line of this.#returnedTo) if (line.returned.size === 0) this.#returnedTo.delete(line);
    return [...this.#returnedTo];
  }

  /** These, the first of what was seen, are claimed now, so the next plan looks behind them. */
  claiming(places: readonly Place[]): void {
    for (const { priority } of this.#claims) this.#line(priority).claiming = 0;
    this.#claims = places;
    let overtaking = 0;
    for (const { priority, number } of places) {
      const line = this.#line(priority);
      overtaking += number < line.head ? 1 / RETURNED_FOR_ONE : 1;
      if (number < line.head) continue;
      line.claiming = Math.max(line.claiming, number + 1);
      line.own = Math.max(line.own, number + 1);
    }
    if (overtaking > 0) this.#overtake(overtaking);
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
    this.#appended = [];
    const { rank, workers, block } = this.#share;
    if (rank !== share.rank || workers !== share.workers || block !== share.block) {
      this.#share = share;
      for (const line of this.#lines) line.own = 0;
      this.#first = 0;
    }
    const claimed = new Set(this.#claims.map(({ id }) => id));
    const reads: FrontRead[] = [];
    let left = want;
    for (let at = this.#first; at < this.#lines.length; at++) {
      const line = this.#lines[at];
      if (line === undefined || !this.#isOpen(line)) continue;
      const isClaimed = ({ id }: Place): boolean => claimed.has(id);
      const returned = line.returned.plan(left, MOST_READS - reads.length, share, isClaimed);
      reads.push(...returned);
      left -= returned.filter((read) => read.of === 'returned').length;
      if (left <= 0 || reads.length >= MOST_READS) break;
      if (line.head >= line.tail) continue;
      if (this.#isSwept(line, left)) {
        reads.push(this.#sweepFrom(at, left));
        break;
      }
      for (const read of this.#stretches(line, left, MOST_READS - reads.length)) {
        reads.push(read);
        if (read.of === 'stretch') left -= Math.ceil((read.to - read.from) / line.unit);
      }
    }
    this.#underWay = new Set(reads);
    return reads;
  }

  /** The numbers that wait in a stretch that was read, in order, at most as many as its limit, of `count` in all. */
  sawStretch(
    read: FrontRead & { readonly of: 'stretch' | 'probe' },
    numbers: readonly number[],
    count: number,
  ): void {
    if (!this.#underWay.has(read)) return;
    const line = this.#line(read.priority);
    const [first] = numbers;
    if (first === undefined && read.own === true) line.own = Math.max(line.own, read.to);
    // Even if the head has moved back meanwhile: what was read with it is of the same moment.
    if (read.of === 'probe') line.crowded = line.unit > 1 && count > (read.most ?? Infinity);
    if (read.from <= line.head && read.own !== true) {
      line.head = Math.max(line.head, first ?? read.to);
      line.span = first === undefined ? Math.min(LONGEST_SPAN, (read.to - read.from) * 4) : 0;
      if (read.of === 'stretch') line.crowded = false;
      if (first !== undefined) measure(line, first, (read.to - first) / count);
    }
    this.#recallAnnounced();
  }

  /** Whether what a read has found may be claimed. */
  isUsable(read: FrontRead): boolean {
    if (read.of !== 'stretch' || read.own !== true) return true;
    return this.#underWay.has(read) && !this.#line(read.priority).crowded;
  }

  /** The first jobs that wait in what was swept, in order, at most as many as its limit. */
  sawSweep(read: FrontRead & { readonly of: 'sweep' }, places: readonly Place[]): void {
    if (!this.#underWay.has(read)) return;
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
      if (place.number < line.head) this.#add(line, { place, turn: 0 }, 0);
    }
    this.#recallAnnounced();
  }

  /** What is left of the jobs that came back and that others should have taken. */
  sawLeftovers(read: FrontRead & { readonly of: 'leftovers' }, found: readonly Place[]): void {
    if (!this.#underWay.has(read)) return;
    this.#line(read.priority).returned.saw(read, found, (place) => this.#isAnnounced(place));
  }

  /** A job that came back is not there, or has been tried for: unless it was announced anew, it is forgotten. */
  forget(place: Place): void {
    if (!this.#isAnnounced(place)) this.#line(place.priority).returned.delete(place);
  }

  #isAnnounced({ id }: Place): boolean {
    return this.#announced.some(({ place }) => place.id === id);
  }

  /** What was announced while the reads were under way they may not have seen. */
  #recallAnnounced(): void {
    for (const returned of this.#announced) this.#recall(returned);
    for (const { first, priority } of this.#appended) this.#goBack(priority, first);
  }

  /** Something waits at this number, of which nothing may be known. */
  #goBack(priority: number, number: number): void {
    const line = this.#line(priority);
    line.head = Math.min(line.head, number);
    line.own = Math.min(line.own, number);
  }

  #recall(returned: Returned): void {
    const { number, priority } = returned.place;
    const line = this.#line(priority);
    // What is not read anyway: somebody may have removed the counter that says how far that is.
    if (number < line.head || number >= line.tail) this.#add(line, returned, PATIENCE * this.#share.block);
    line.own = Math.min(line.own, number);
  }

  #add(line: Line, returned: Returned, patience: number): void {
    line.returned.add(returned, patience);
    this.#returnedTo.add(line);
  }

  /** Whether a read may find something in it. */
  #isOpen({ head, returned, tail }: Line): boolean {
    return head < tail || (returned.size > 0 && returned.hasReady(this.#share));
  }

  /** Whether this line and those behind it are read together, rather than shared with other workers. */
  #isSwept({ head, span, tail, unit }: Line, want: number): boolean {
    return span === Infinity || (this.#lines.length > MOST_READS && tail - head <= want * unit);
  }

  #sweepFrom(at: number, limit: number): FrontRead {
    const lines: { priority: number; to: number }[] = [];
    const from = this.#lines[at]?.head ?? 0;
    let covered = -from / STRIDE;
    for (const { priority, tail } of this.#lines.slice(at, at + this.#sweep)) {
      covered += tail / STRIDE;
      if (lines.length > 0 && covered > this.#sweep) break;
      lines.push({ priority, to: tail });
    }
    return { from, limit, lines, of: 'sweep' };
  }

  #stretches(line: Line, want: number, most: number): FrontRead[] {
    const { head, priority, tail, unit } = line;
    const { workers } = this.#share;
    const near = Math.min(tail, Math.max(head, line.claiming) + Math.max((want + 8) * unit, line.span));
    const atHead: FrontRead = { from: head, limit: want, of: 'stretch', priority, to: near };
    if (workers === 1 || line.span > 0) return [atHead];
    const jobs = blockWithin(this.#share.block, (tail - head) / unit / workers);
    const block = jobs * unit;
    const reach = Math.min(tail, head + REACH * workers * block);
    const reads: FrontRead[] = [];
    let left = want;
    for (let from = this.#nextOwn(Math.max(head, line.own), block); from < reach;) {
      if (left <= 0 || reads.length >= most - 1) break;
      const to = Math.min(tail, from - (from % block) + block);
      reads.push({ from, limit: left, of: 'stretch', own: true, priority, to });
      left -= Math.ceil((to - from) / unit);
      from = this.#nextOwn(to, block);
    }
    if (reads.length === 0) return [atHead];
    line.reached = Math.max(line.reached, reach);
    const probe = {
      from: head,
      limit: 1,
      most: REACH * workers * jobs,
      of: 'probe',
      priority,
      to: reach,
    } as const;
    return [probe, ...reads];
  }

  /** The first number of ours at or after `from`. */
  #nextOwn(from: number, block: number): number {
    const { rank, workers } = this.#share;
    const index = Math.floor(from / block);
    const ahead = (rank - (index % workers) + workers) % workers;
    return ahead === 0 ? from : (index + ahead) * block;
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
