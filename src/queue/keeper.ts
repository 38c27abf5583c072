/**
 * What somebody has to do for a queue, and any worker's client may: put the jobs of lost workers back to their places,
 * and line up the delayed jobs that are due. All of it by guarded transactions, so several may do it at once, without a
 * leader; a short random delay makes it likely that one of them has done it when the others look.
 */
import { compare } from '../etcd/compare.js';
import type { KeyValue } from '../etcd/key-value.js';
import { op, type TxnSpec } from '../etcd/op.js';
import { sleep } from '../util/abort.js';
import { backoffMs } from '../util/backoff.js';
import type { Timer } from '../util/clock.js';
import { Deferred } from '../util/deferred.js';
import { batches, type Entry, pages, stretchOf } from './batches.js';
import { type Board, type BoardChange, encodePlaces } from './board.js';
import type { Outcome } from './lane.js';
import { decodeRecord, encodeRecord, withError } from './record.js';
import { lineUp, sameEntry, Tails } from './tails.js';

/** How many entries are looked at for the next that is due. */
const LOOK = 10;
const JITTER_MS = 5;
/** How far ahead the next due time is looked for: etcd counts all it is asked about, so not further than need be. */
const HORIZONS_MS = [1000, 60_000, Infinity] as const;
/** The longest sleep: a wall clock that is set forward is noticed after this long. */
const LONGEST_SLEEP_MS = 60_000;

export class Keeper {
  readonly #board: Board;
  readonly #tails: Tails;
  #stop = new AbortController();
  #stopUsing: () => void = () => undefined;
  #uses = 0;
  #scanned = new Deferred<void>();
  /** Nothing is delayed that is due before this time. */
  #from = 0;
  #timer: Timer | undefined;
  #wakeAt = Infinity;
  #promoting = false;
  /** The earliest due time announced while a promotion is under way. */
  #announced = Infinity;

  constructor(board: Board) {
    this.#board = board;
    this.#tails = new Tails(board.layout);
  }

  /** Resolves once the jobs of workers that were lost before we came are back. */
  get scanned(): Promise<void> {
    return this.#scanned.promise;
  }

  /** Keeps the queue until the returned function is called. */
  use(): () => void {
    this.#uses += 1;
    if (this.#uses === 1) this.#start();
    let used = true;
    return () => {
      if (!used) return;
      used = false;
      this.#uses -= 1;
      if (this.#uses === 0) this.#end();
    };
  }

  #start(): void {
    this.#stop = new AbortController();
    this.#scanned = new Deferred<void>();
    this.#promoting = false;
    this.#stopUsing = this.#board.use((change) => this.#changed(change));
    void this.#board.ready.then(
      () => this.#changed({ what: 'all' }),
      (error: unknown) => this.#scanned.reject(error),
    );
  }

  #end(): void {
    this.#stop.abort();
    this.#stopUsing();
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#wakeAt = Infinity;
  }

  #changed(change: BoardChange): void {
    if (change.what === 'all') {
      this.#from = 0;
      this.#announced = 0;
      this.#background(async () => {
        await this.#reapAll();
        this.#scanned.resolve();
      });
      this.#wake(this.#wall);
    }
    if (change.what === 'left') {
      const { member } = change;
      this.#background(async () => {
        await sleep(this.#clock, this.#board.jitterMs(JITTER_MS), this.#stop.signal);
        await this.reap(member);
      });
    }
    if (change.what === 'due') {
      this.#from = Math.min(this.#from, change.dueMs);
      this.#announced = Math.min(this.#announced, change.dueMs);
      this.#wake(change.dueMs);
    }
    if (change.what === 'failed') this.#scanned.reject(change.error);
  }

  get #clock(): Board['client']['clock'] {
    return this.#board.client.clock;
  }

  get #wall(): number {
    return this.#clock.wall();
  }

  /** Does `work`, again if it fails, until it is done or nobody needs it any more. */
  #background(work: () => Promise<void>): void {
    const { signal } = this.#stop;
    const insist = async (): Promise<void> => {
      for (let attempt = 0; !signal.aborted; attempt++) {
        try {
          await work();
          return;
        } catch {
          // What etcd has against us, our workers meet with their own requests, and report it.
          if (this.#board.client.closed.aborted) return;
        }
        await sleep(this.#clock, backoffMs(attempt, { baseMs: 50 }), signal).catch(() => undefined);
      }
    };
    void insist();
  }

  /** The workers that are gone may have left jobs. */
  async #reapAll(): Promise<void> {
    const { client, layout, workers } = this.#board;
    const { kvs } = await client.kv.range({ prefix: layout.prefixOf('active') }, { keysOnly: true });
    const members = new Set(kvs.map((kv) => layout.parse(kv.key, 'active')?.lead));
    for (const member of members) {
      if (member !== undefined && !workers.has(member)) await this.reap(member);
    }
  }

  /** Puts the jobs of a lost worker back to their places; those that have no attempt left are dead. */
  async reap(member: string): Promise<void> {
    const { client, layout } = this.#board;
    for await (const kvs of pages(client, stretchOf(layout.activeOf(member)))) {
      for (const batch of batches(layout, 'active', kvs)) {
        const steps = batch.map((entry) => op.txn(this.#putBack(entry, member)));
        const places = batch.map(({ place }) => place);
        const spec = {
          if: [compare.missing(layout.worker(member))],
          then: [...steps, op.put(layout.back, encodePlaces(places))],
        };
        const { succeeded } = await client.kv.txn(spec, { idempotent: true });
        if (!succeeded) return;
      }
    }
  }

  #putBack({ kv, place }: Entry, member: string): Parameters<typeof op.txn>[0] {
    const { layout } = this.#board;
    const record = decodeRecord(kv.string());
    const noted = withError(
      record,
      new Error(`the worker ${member} was lost while it had the job`),
      this.#wall,
    );
    const key = record.attempts >= record.maxAttempts ? layout.dead(place) : layout.waiting(place);
    return {
      if: [sameEntry({ kv, place })],
      then: [op.delete(kv.keyBytes), op.put(key, encodeRecord(noted))],
    };
  }

  /** Sees to it that the due jobs are looked at when this wall-clock time has come. */
  #wake(atMs: number): void {
    if (atMs >= this.#wakeAt || this.#stop.signal.aborted) return;
    this.#wakeAt = atMs;
    this.#timer?.cancel();
    const delayMs = Math.min(LONGEST_SLEEP_MS, Math.max(0, atMs - this.#wall));
    this.#timer = this.#clock.setTimer(delayMs + this.#board.jitterMs(JITTER_MS), () => {
      this.#wakeAt = Infinity;
      if (this.#promoting) return;
      this.#promoting = true;
      this.#background(() => this.#promoteDue());
    });
  }

  /** Lines up what is due, and sets the timer for what is not. */
  async #promoteDue(): Promise<void> {
    const { client, layout } = this.#board;
    const now = Math.floor(this.#wall);
    this.#announced = Infinity;
    const moving = { client, layout, run: this.#run, tails: this.#tails, value: (kv: KeyValue) => kv.value };
    for await (const kvs of pages(client, layout.delayedBetween(Math.min(this.#from, now), now + 1))) {
      for (const batch of batches(layout, 'delayed', kvs)) await lineUp(batch, moving);
    }
    this.#from = Math.min(now, this.#announced);
    const next = await this.#nextDue();
    this.#promoting = false;
    this.#wake(Math.min(next, this.#announced));
  }

  readonly #run = async (spec: TxnSpec): Promise<Outcome> => {
    const { succeeded, ...answer } = await this.#board.client.kv.txn(spec, { idempotent: true });
    return { is: succeeded ? 'applied' : 'refused', ...answer };
  };

  async #nextDue(): Promise<number> {
    const { client, layout } = this.#board;
    let from = this.#from;
    for (const horizon of HORIZONS_MS) {
      const to = from + horizon;
      const { kvs } = await client.kv.range(layout.delayedBetween(from, to), { keysOnly: true, limit: LOOK });
      // What is none of ours is passed over.
      const [first] = kvs.flatMap((kv) => layout.parse(kv.key, 'delayed')?.lead ?? []);
      if (first !== undefined) return parseInt(first, 16);
      from = to;
    }
    return Infinity;
  }
}

const keepers = new WeakMap<Board, Keeper>();

/** The keeper of a queue, shared by the workers of a client. */
export function keeperOf(board: Board): Keeper {
  let keeper = keepers.get(board);
  if (keeper === undefined) {
    keeper = new Keeper(board);
    keepers.set(board, keeper);
  }
  return keeper;
}
