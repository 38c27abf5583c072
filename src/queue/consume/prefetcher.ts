/** Chooses which waiting jobs to claim, from what was read of the backlog the turn before. */
import type { OpResult } from '../../etcd/kv/kv.js';
import { type Op, op } from '../../etcd/kv/op.js';
import { countWithin } from '../store/bodies.js';
import type { ControlWatch } from '../store/control-watch.js';
import type { BacklogCursor } from './backlog-cursor.js';
import type { FrontRead } from './backlog-line.js';
import type { Place } from '../store/keys.js';
import { decodeRecord, encodeRecord, type StoredRecord } from '../store/record.js';

/** A waiting job that was seen, and may be claimed if it is still as it was. */
export interface Candidate {
  readonly place: Place;
  readonly key: Buffer;
  readonly modRevision: bigint;
  /** The record once this attempt counts, and as the entry's value. */
  readonly record: StoredRecord;
  readonly claimed: string;
}

/** The largest block of numbers that one worker has for itself. */
const LARGEST_BLOCK = 16;

/**
 * Chooses which waiting jobs to claim. Alone, a worker takes them strictly in order. Several share the backlog in blocks
 * of as many jobs as each works on, see backlog-cursor.ts: so they seldom want the same job, and no job is overtaken by more than
 * two blocks of each worker.
 */
export class Prefetcher {
  readonly #cursor: BacklogCursor;
  readonly #control: ControlWatch;
  readonly #workerId: string;
  #page: Candidate[] = [];
  #reads: FrontRead[] = [];
  /** How many jobs were wanted at once, at most. */
  #most = 1;
  /** How many jobs to look at, a little behind how many are wanted. */
  #lookahead = 0;

  constructor(cursor: BacklogCursor, control: ControlWatch, workerId: string) {
    this.#cursor = cursor;
    this.#control = control;
    this.#workerId = workerId;
  }

  /** Whether there may be something to claim. */
  get promising(): boolean {
    return this.#page.length > 0 || this.#cursor.promising;
  }

  /**
   * Up to `want` jobs to claim now, one at least if there is any, with no more data than one answer may hold. What is not
   * chosen is forgotten. However old the page is, it is tried: the same transaction reads anew, so a try that comes too late
   * costs no more than waiting for that.
   */
  picks(want: number): Candidate[] {
    const sizes = this.#page.map(({ place, record }) => ({ bytes: record.bytes, id: place.id }));
    const picks = this.#page.slice(0, countWithin(sizes, want));
    this.#page = [];
    this.#cursor.claiming(picks.map(({ place }) => place));
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
    this.#lookahead = Math.max(want, Math.floor(this.#lookahead * 0.9));
    this.#most = Math.max(this.#most, want);
    const block = 2 ** Math.floor(Math.log2(Math.min(this.#most, LARGEST_BLOCK)));
    const { rank, workers } = this.#control.rank(this.#workerId);
    this.#reads = this.#cursor.plan(this.#lookahead, { block, rank, workers });
    const { layout: keys } = this.#control;
    return this.#reads.map((read) => {
      if (read.of === 'returned') return op.get(keys.waiting(read.place));
      const [first, last] = read.of === 'sweep' ? [read.lines[0], read.lines.at(-1)] : [read, read];
      const from = { number: read.from, priority: first?.priority ?? 0 };
      const to = { number: last?.to ?? 0, priority: last?.priority ?? 0 };
      return op.get(keys.waitingBetween(from, to), { limit: read.limit });
    });
  }

  /** The answers to what was planned. */
  learn(responses: readonly OpResult[]): void {
    const page: Candidate[] = [];
    for (const [at, read] of this.#reads.entries()) {
      const response = responses[at];
      if (response?.type !== 'get') continue;
      const found = response.kvs.flatMap((kv) => {
        const place = this.#control.layout.parse(kv.key, 'waiting')?.place;
        if (place === undefined) return [];
        const record = decodeRecord(kv);
        const next = { ...record, attempts: record.attempts + 1 };
        const { keyBytes, modRevision } = kv;
        return [{ claimed: encodeRecord(next), key: keyBytes, modRevision, place, record: next }];
      });
      if (read.of !== 'probe' && this.#cursor.isUsable(read)) page.push(...found);
      const places = found.map(({ place }) => place);
      if (read.of === 'sweep') {
        this.#cursor.sawSweep(read, places);
      } else if (read.of === 'leftovers') {
        this.#cursor.sawLeftovers(read, places);
      } else if (read.of !== 'returned') {
        const numbers = places.map(({ number }) => number);
        this.#cursor.sawStretch(read, numbers, Number(response.count));
      } else if (found.length === 0) {
        this.#cursor.forget(read.place);
      }
    }
    this.#reads = [];
    // Two reads may have seen the same job.
    this.#page = [...new Map(page.map((each) => [each.key.toString(), each])).values()];
  }

  /** What was picked was not tried. */
  notTried(): void {
    this.#cursor.notClaimed();
  }

  /** These have been claimed, by us or by somebody who was faster. */
  tried(picks: readonly Candidate[]): void {
    for (const { place } of picks) this.#cursor.forget(place);
  }
}
