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
/** More claims than this fraction lost to others: step aside. */
const CROWDED = 0.25;

/**
 * Chooses which waiting jobs to claim. Alone, a worker takes them strictly in order. When it loses claims to others, it
 * steps aside by whole stretches at random, by at most two for each worker there is, and comes back when it is quiet.
 */
export class Picker {
  readonly #front: Front;
  readonly #board: Board;
  readonly #clock: Clock;
  #page: Candidate[] = [];
  #readAt = 0;
  #reads: FrontRead[] = [];
  /** How many stretches we may step aside. */
  #aside = 0;
  /** How many jobs to look at, a little behind how many are wanted. */
  #appetite = 0;

  constructor(front: Front, board: Board, clock: Clock) {
    this.#front = front;
    this.#board = board;
    this.#clock = clock;
  }

  /** Whether there may be something to claim. */
  get promising(): boolean {
    return this.#page.length > 0 || this.#front.promising;
  }

  /** Up to `want` jobs to claim now. What is not chosen is forgotten. */
  picks(want: number): Candidate[] {
    const page = this.#page;
    this.#page = [];
    if (want === 0 || this.#clock.now() - this.#readAt > FRESH_MS) return [];
    return page.slice(0, want);
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
    const skip = Math.floor(Math.random() * (this.#aside + 1));
    this.#reads = this.#front.plan(this.#appetite, skip);
    const { layout } = this.#board;
    return this.#reads.map((read) =>
      read.of === 'stray'
        ? op.get(layout.waiting(read.place))
        : op.get(layout.waitingBetween(read.priority, read.from, read.to), { limit: read.limit }),
    );
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
      page.push(...found);
      if (read.of === 'stray') {
        if (found.length === 0) this.#front.forget(read.place);
      } else {
        this.#front.sawStretch(
          read,
          found.map(({ place }) => place.number),
        );
        if (found.length === 0) this.#aside = 0;
      }
    }
    this.#reads = [];
    this.#page = page;
    this.#readAt = this.#clock.now();
  }

  /** Of the claims of these jobs, `got` went through. */
  tried(picks: readonly Candidate[], got: number): void {
    for (const { place } of picks) this.#front.forget(place);
    const most = 2 * this.#board.workers.size;
    if (picks.length - got > picks.length * CROWDED) this.#aside = Math.min(most, this.#aside * 2 + 1);
    else if (got === picks.length) this.#aside = Math.max(0, this.#aside - 0.25);
  }
}
