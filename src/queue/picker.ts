import type { OpResult } from '../etcd/kv.js';
import { type Op, op } from '../etcd/op.js';
import type { Clock } from '../util/clock.js';
import type { Board } from './board.js';
import type { Front, FrontRead } from './front.js';
import type { Place } from './layout.js';
import { decodeRecord, encodeRecord, type JobRecord } from './record.js';

/** A waiting job that was seen, and may be claimed if it is still as it was. */
export interface Candidate {
  readonly place: Place;
  readonly key: Buffer;
  readonly modRevision: bigint;
  /** The record once this attempt counts, and as the entry's value. */
  readonly record: JobRecord;
  readonly claimed: string;
}

/** How long what was read counts as fresh. Older than this it is probably taken, so it is read anew. */
const FRESH_MS = 25;
/** The largest block of numbers that one worker has for itself. */
const LARGEST_BLOCK = 16;

/**
 * Chooses which waiting jobs to claim. Alone, a worker takes them strictly in order. Several share the front in blocks of
 * as many jobs as each works on, see front.ts: so they seldom want the same job, and no job is overtaken by more than
 * two blocks of each worker.
 */
export class Picker {
  readonly #front: Front;
  readonly #board: Board;
  readonly #member: string;
  readonly #clock: Clock;
  #page: Candidate[] = [];
  #readAt = 0;
  #reads: FrontRead[] = [];
  /** How many jobs were wanted at once, at most. */
  #most = 1;
  /** How many jobs to look at, a little behind how many are wanted. */
  #appetite = 0;

  constructor(front: Front, board: Board, member: string) {
    this.#front = front;
    this.#board = board;
    this.#member = member;
    this.#clock = board.client.clock;
  }

  /** Whether there may be something to claim. */
  get promising(): boolean {
    return this.#page.length > 0 || this.#front.promising;
  }

  /** Up to `want` jobs to claim now. What is not chosen is forgotten. */
  picks(want: number): Candidate[] {
    const fresh = this.#clock.now() - this.#readAt <= FRESH_MS;
    const picks = fresh ? this.#page.slice(0, want) : [];
    this.#page = [];
    this.#front.claiming(picks.map(({ place }) => place));
    return picks;
  }

  /** Jobs of this priority have come: what was read of lesser ones must wait. */
  cameAhead(priority: number): void {
    const last = this.#page.at(-1);
    if (last !== undefined && priority > last.place.priority) this.#page = [];
  }

  /** Jobs are back at their places, which may be ahead of what was read. */
  cameBack(): void {
    this.#page = [];
  }

  /** The reads that find what to claim after this; `learn` gets their answers. */
  plan(want: number): Op[] {
    if (want === 0) {
      this.#reads = [];
      return [];
    }
    this.#appetite = Math.max(want, Math.floor(this.#appetite * 0.9));
    this.#most = Math.max(this.#most, want);
    const block = 2 ** Math.floor(Math.log2(Math.min(this.#most, LARGEST_BLOCK)));
    const { rank, workers } = this.#board.rank(this.#member);
    this.#reads = this.#front.plan(this.#appetite, { block, rank, workers });
    const { layout } = this.#board;
    return this.#reads.map((read) => {
      if (read.of === 'stray') return op.get(layout.waiting(read.place));
      const [first, last] = read.of === 'sweep' ? [read.lines[0], read.lines.at(-1)] : [read, read];
      const from = { number: read.from, priority: first?.priority ?? 0 };
      const to = { number: last?.to ?? 0, priority: last?.priority ?? 0 };
      return op.get(layout.waitingBetween(from, to), { limit: read.limit });
    });
  }

  /** The answers to what was planned. */
  learn(responses: readonly OpResult[]): void {
    const page: Candidate[] = [];
    for (const [at, read] of this.#reads.entries()) {
      const response = responses[at];
      if (response?.type !== 'get') continue;
      const found = response.kvs.flatMap((kv) => {
        const place = this.#board.layout.parse(kv.key, 'waiting')?.place;
        if (place === undefined) return [];
        const record = decodeRecord(kv.string());
        const next = { ...record, attempts: record.attempts + 1 };
        return [
          { claimed: encodeRecord(next), key: kv.keyBytes, modRevision: kv.modRevision, place, record: next },
        ];
      });
      if (read.of !== 'probe') page.push(...found);
      const places = found.map(({ place }) => place);
      if (read.of === 'sweep') {
        this.#front.sawSweep(read, places);
      } else if (read.of !== 'stray') {
        const numbers = places.map(({ number }) => number);
        this.#front.sawStretch(read, numbers);
      } else if (found.length === 0) {
        this.#front.forget(read.place);
      }
    }
    this.#reads = [];
    this.#page = page;
    this.#readAt = this.#clock.now();
  }

  /** What was picked was not tried. */
  notTried(): void {
    this.#front.notClaimed();
  }

  /** These have been claimed, by us or by somebody who was faster. */
  tried(picks: readonly Candidate[]): void {
    for (const { place } of picks) this.#front.forget(place);
  }
}
