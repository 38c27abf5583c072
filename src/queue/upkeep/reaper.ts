/**
 * Puts the jobs of lost workers back to their places. Any worker's client may, and all of them do: it is done by
 * transactions that are guarded by the worker's absence and by each entry, and a short random delay makes it likely that one
 * of them has done it when the others look.
 */
import { compare } from '../../etcd/kv/compare.js';
import { op } from '../../etcd/kv/op.js';
import { OVER, sleep } from '../../util/abort.js';
import { backoffMs } from '../../util/backoff.js';
import { Deferred } from '../../util/deferred.js';
import { batches, type Entry, LONGEST_PAGE, pages, stretchOf } from '../store/batches.js';
import { type ControlEvent, type ControlWatch } from '../store/control-watch.js';
import { encodeReturned, Turns } from '../store/returned.js';
import { decodeRecord, encodeRecord, withError } from '../store/record.js';
import { sameEntry } from '../produce/append.js';

/** How much later each further worker's client looks at what a lost worker has left. */
const JITTER_MS = 5;

export class Reaper {
  readonly #control: ControlWatch;
  readonly #turns = new Turns();
  #stop = new AbortController();
  #stopUsing: () => void = () => undefined;
  #uses = 0;
  #scanned = new Deferred<void>();

  constructor(control: ControlWatch) {
    this.#control = control;
  }

  /** Resolves once the jobs of workers that were lost before we came are back. */
  get scanned(): Promise<void> {
    return this.#scanned.promise;
  }

  /** Looks after the queue until the returned function is called. */
  use(): () => void {
    this.#uses += 1;
    if (this.#uses === 1) this.#start();
    let used = true;
    return () => {
      if (!used) return;
      used = false;
      this.#uses -= 1;
      if (this.#uses > 0) return;
      this.#stop.abort(OVER);
      this.#stopUsing();
    };
  }

  #start(): void {
    this.#stop = new AbortController();
    this.#scanned = new Deferred<void>();
    this.#stopUsing = this.#control.use((change) => this.#changed(change));
    void this.#control.ready.then(
      () => this.#changed({ reverted: false, what: 'all' }),
      (error: unknown) => this.#scanned.reject(error),
    );
  }

  #changed(change: ControlEvent): void {
    if (change.what === 'all') {
      const scanned = this.#scanned;
      this.#background(async () => {
        await this.#reapAll();
        scanned.resolve();
      });
    }
    if (change.what === 'left') {
      const { member: workerId } = change;
      this.#background(async () => {
        await sleep(this.#control.client.clock, this.#control.jitterMs(JITTER_MS), this.#stop.signal);
        await this.reap(workerId);
      });
    }
    if (change.what === 'failed') this.#scanned.reject(change.error);
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
          if (this.#control.client.closed.aborted) return;
        }
        await sleep(this.#control.client.clock, backoffMs(attempt, { baseMs: 50 }), signal).catch(
          () => undefined,
        );
      }
    };
    void insist();
  }

  /** The workers that are gone may have left jobs. */
  async #reapAll(): Promise<void> {
    const { client, layout, workers } = this.#control;
    const { kvs } = await client.kv.range({ prefix: layout.prefixOf('active') }, { keysOnly: true });
    const workerIds = new Set(kvs.map((kv) => layout.parse(kv.key, 'active')?.lead));
    for (const workerId of workerIds) {
      if (workerId !== undefined && !workers.has(workerId)) await this.reap(workerId);
    }
  }

  /** Puts the jobs of a lost worker back to their places; those that have no attempt left are dead. */
  async reap(workerId: string): Promise<void> {
    const { client, layout } = this.#control;
    const stretch = { ...stretchOf(layout.activeOf(workerId)), limit: LONGEST_PAGE };
    for (let left = true; left;) {
      left = false;
      for await (const kvs of pages(client, stretch)) {
        // At once, so that the other workers hear of all of them together.
        const came = await Promise.all(
          [...batches(layout, 'active', kvs)].map((batch) => this.#putAllBack(batch, workerId)),
        );
        if (came.includes('worker there')) return;
        left ||= came.includes('moved');
      }
    }
  }

  /**
   * Puts a batch back and tells of it; unless somebody else was faster and has told of it, so that nobody looks for these
   * jobs a second time, when others have long had them.
   */
  async #putAllBack(batch: readonly Entry[], workerId: string): Promise<'done' | 'moved' | 'worker there'> {
    const { client, layout } = this.#control;
    const [first] = batch;
    const worker = layout.worker(workerId);
    const steps = batch.map((entry) => op.txn(this.#putBack(entry, workerId)));
    const returned = this.#turns.take(batch.map(({ place }) => place));
    const spec = {
      if: [compare.missing(worker), ...(first === undefined ? [] : [sameEntry(first)])],
      then: [...steps, op.put(layout.back, encodeReturned(returned))],
      else: [op.get(worker, { keysOnly: true })],
    };
    const { responses, succeeded } = await client.kv.txn(spec, { idempotent: true });
    if (succeeded) return 'done';
    const [there] = responses;
    return there?.type === 'get' && there.kvs.length > 0 ? 'worker there' : 'moved';
  }

  #putBack({ kv, place }: Entry, workerId: string): Parameters<typeof op.txn>[0] {
    const { layout } = this.#control;
    const record = decodeRecord(kv);
    const noted = withError(
      record,
      new Error(`the worker ${workerId} was lost while it had the job`),
      this.#control.client.clock.wall(),
    );
    const key = record.attempts >= record.maxAttempts ? layout.dead(place) : layout.waiting(place);
    return {
      if: [sameEntry({ kv, place })],
      then: [op.delete(kv.keyBytes), op.put(key, encodeRecord(noted))],
    };
  }
}

const reapers = new WeakMap<ControlWatch, Reaper>();

/** The reaper of a queue, shared by the workers of a client. */
export function reaperOf(control: ControlWatch): Reaper {
  let reaper = reapers.get(control);
  if (reaper === undefined) {
    reaper = new Reaper(control);
    reapers.set(control, reaper);
  }
  return reaper;
}
