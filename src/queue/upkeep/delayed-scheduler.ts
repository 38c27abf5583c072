/**
 * Appends the delayed jobs that are due to those that wait. One client at a time does it for a queue: the one whose
 * key is at control/scheduler. That key is bound to the lease of one of its workers' sessions, and every worker's client
 * follows it: when it is deleted, another takes over at once. A scheduler has a fenced writer of its own, and compares its
 * key, so nothing that it asked for in an earlier turn is done in a later one's.
 */
import { isTransient } from '../../errors/transient.js';
import { compare } from '../../etcd/kv/compare.js';
import type { KeyValue } from '../../etcd/kv/key-value.js';
import { op, type TxnSpec } from '../../etcd/kv/op.js';
import type { Session } from '../../session/session.js';
import { ownerValue } from '../../ticket/owner.js';
import { onAbort, orAborted, OVER, sleep } from '../../util/abort.js';
import { backoffMs } from '../../util/backoff.js';
import type { Clock } from '../../util/clock.js';
import { Deferred } from '../../util/deferred.js';
import { append } from '../produce/append.js';
import { Sequences } from '../produce/sequences.js';
import { batches, pages } from '../store/batches.js';
import type { ControlEvent, ControlWatch } from '../store/control-watch.js';
import { FencedWriter, type Outcome } from '../store/fenced-writer.js';
import { decodeRecord, encodeRecord } from '../store/record.js';
import { forgetDone } from '../produce/forget.js';
import { forgetClientId, isEarlierLife, newClientId } from '../store/client-id.js';

/** How many entries are looked at for the next that is due. */
const LOOK = 10;
/** How much later each further worker's client asks to be the scheduler when there is none. */
const JITTER_MS = 1;
/** How far ahead the next due time is looked for: etcd counts all it is asked about, so not further than need be. */
const HORIZONS_MS = [1000, 60_000, Infinity] as const;
/** The longest sleep: a wall clock that is set forward is noticed after this long. */
const LONGEST_SLEEP_MS = 60_000;
/** How often it looks for jobs that were done and kept long enough. */
const FORGET_EVERY_MS = 60_000;

/** Being the scheduler. */
interface Seat {
  readonly clientId: string;
  readonly session: Session;
  readonly writer: FencedWriter;
  readonly sequences: Sequences;
  /** The revision at which our key was written. */
  readonly takenAt: bigint;
  /** Aborts when we are to stop, or are the scheduler no more. */
  readonly over: AbortController;
  /** Monotonic time of its next look for jobs that were kept long enough. */
  forgetAt: number;
  /** Resolves when it is given up. */
  readonly left: Deferred<void>;
}

export class DelayedScheduler {
  readonly #control: ControlWatch;
  readonly #clock: Clock;
  /** The sessions of the client's workers, and how many of each. */
  readonly #sessions = new Map<Session, number>();
  #stop = new AbortController();
  #running: Promise<void> = Promise.resolve();
  #seat: Seat | undefined;
  /** Nothing is delayed that is due before this time. */
  #from = 0;
  /** The earliest due time that was announced and not looked at since. */
  #announced = 0;
  /** Ends the wait that is under way. */
  #waking = new AbortController();

  constructor(control: ControlWatch) {
    this.#control = control;
    this.#clock = control.client.clock;
  }

  /** Sees to the due jobs until the returned function is called, which resolves when nothing of it is left. */
  use(session: Session): () => Promise<void> {
    if (this.#sessions.size === 0) this.#start();
    this.#sessions.set(session, (this.#sessions.get(session) ?? 0) + 1);
    let left: Promise<void> | undefined;
    return () => (left ??= this.#leave(session));
  }

  #start(): void {
    const stop = new AbortController();
    const before = this.#running;
    this.#stop = stop;
    const stopUsing = this.#control.use((change) => this.#changed(change, stop));
    const run = async (): Promise<void> => {
      await before;
      await this.#run(stop.signal);
    };
    this.#running = run().finally(stopUsing);
  }

  async #leave(session: Session): Promise<void> {
    const uses = (this.#sessions.get(session) ?? 1) - 1;
    if (uses > 0) {
      this.#sessions.set(session, uses);
      return;
    }
    this.#sessions.delete(session);
    const seat = this.#seat;
    if (seat?.session === session) seat.over.abort(OVER);
    if (this.#sessions.size === 0) {
      this.#stop.abort(OVER);
      await this.#running;
    } else if (seat?.session === session) {
      await seat.left.promise;
    }
  }

  #changed(change: ControlEvent, stop: AbortController): void {
    if (change.what === 'failed') stop.abort(OVER);
    if (change.what === 'all') this.#announced = this.#from = 0;
    if (change.what === 'due') {
      this.#announced = Math.min(this.#announced, change.dueMs);
      this.#from = Math.min(this.#from, change.dueMs);
    }
    const seat = this.#seat;
    const { readAt, scheduler } = this.#control;
    const isLost =
      (change.what === 'scheduler' && change.revision > (seat?.takenAt ?? 0n)) ||
      (change.what === 'all' &&
        (change.reverted || readAt > (seat?.takenAt ?? 0n)) &&
        scheduler?.modRevision !== seat?.takenAt);
    if (isLost) seat?.over.abort(OVER);
    if (isLost || change.what === 'all' || change.what === 'due') this.#waking.abort(OVER);
  }

  /** Until it is stopped, waits for the scheduler's key to be free, takes it, and schedules. */
  async #run(stop: AbortSignal): Promise<void> {
    for (let failures = 0; !stop.aborted;) {
      try {
        await orAborted(this.#control.ready, stop);
        const session = await this.#untilFree(stop);
        const seat = session === undefined ? undefined : await this.#take(session, stop);
        if (seat === undefined) await this.#wait(JITTER_MS, stop);
        else await this.#hold(seat);
        failures = 0;
      } catch {
        // What etcd has against us, our workers meet with their own requests, and report it. Somebody else may do better.
        if (this.#control.client.closed.aborted) return;
        await sleep(this.#clock, backoffMs(failures++, { baseMs: 100 }), stop).catch(() => undefined);
      }
    }
  }

  /** Resolves with a session that may take the key now; undefined: look again. */
  async #untilFree(stop: AbortSignal): Promise<Session | undefined> {
    const { scheduler } = this.#control;
    const session = [...this.#sessions.keys()].find(({ alive }) => alive);
    const isFree =
      scheduler === undefined || (session !== undefined && isEarlierLife(session, scheduler.clientId));
    if (session !== undefined && isFree) {
      await sleep(this.#clock, this.#control.jitterMs(JITTER_MS), stop);
      return this.#control.scheduler === scheduler ? session : undefined;
    }
    await this.#wait(LONGEST_SLEEP_MS, stop);
    return undefined;
  }

  /** Takes the key, by a writer of our own. Undefined: somebody else was faster, or we are not needed any more. */
  async #take(session: Session, stop: AbortSignal): Promise<Seat | undefined> {
    const { layout, scheduler } = this.#control;
    const clientId = newClientId(session);
    const writer = await FencedWriter.open(session, layout.lane(clientId, 'schedule'));
    const value = ownerValue(session, { clientId });
    const outcome = await writer.run({
      if: [compare.modRevision(layout.scheduler, '=', scheduler?.modRevision ?? 0n)],
      then: [op.put(layout.scheduler, value, { leaseId: session.leaseId })],
    });
    const seat = {
      clientId,
      forgetAt: 0,
      left: new Deferred<void>(),
      over: new AbortController(),
      sequences: new Sequences(session, layout),
      session,
      takenAt: outcome.is === 'refused' ? 0n : outcome.revision,
      writer,
    };
    if (outcome.is !== 'refused' && !stop.aborted && this.#sessions.has(session)) return seat;
    await this.#giveUp(seat);
    return undefined;
  }

  async #hold(seat: Seat): Promise<void> {
    this.#seat = seat;
    const stops = [
      onAbort(seat.session.signal, () => seat.over.abort(OVER)),
      onAbort(seat.over.signal, () => this.#waking.abort(OVER)),
    ];
    try {
      this.#announced = this.#from = 0;
      await this.#schedule(seat);
    } finally {
      for (const stop of stops) stop();
      this.#seat = undefined;
      await this.#giveUp(seat).finally(() => seat.left.resolve());
    }
  }

  /** Leaves the key to others, if it is ours, and removes the writer's. */
  async #giveUp({ clientId, session, takenAt, writer }: Seat): Promise<void> {
    const { layout } = this.#control;
    const ours = compare.modRevision(layout.scheduler, '=', takenAt);
    const steps = takenAt === 0n ? [] : [op.delete(layout.scheduler)];
    if (session.alive) await writer.close([op.txn({ if: [ours], then: steps })]);
    forgetClientId(session, clientId);
  }

  async #schedule(seat: Seat): Promise<void> {
    let next = 0;
    for (let failures = 0; !seat.over.signal.aborted;) {
      next = Math.min(next, this.#announced);
      const dueInMs = next - this.#clock.wall();
      const delayMs = Math.min(dueInMs, seat.forgetAt - this.#clock.now());
      if (delayMs > 0) {
        await this.#wait(Math.min(LONGEST_SLEEP_MS, delayMs), seat.over.signal);
        continue;
      }
      try {
        if (dueInMs <= 0) {
          await this.#appendDue(seat);
          next = await this.#nextDue();
        }
        await this.#forgetDone(seat);
        failures = 0;
      } catch (error) {
        if (!isTransient(error) || !seat.session.alive) throw error;
        next = 0;
        await sleep(this.#clock, backoffMs(failures++, { baseMs: 50 }), seat.over.signal).catch(
          () => undefined,
        );
      }
    }
  }

  async #appendDue(seat: Seat): Promise<void> {
    const { client, layout } = this.#control;
    const now = Math.floor(this.#clock.wall());
    const from = Math.min(this.#from, now);
    this.#announced = Infinity;
    this.#from = now;
    const moving = {
      client,
      layout,
      run: (spec: TxnSpec) => this.#write(seat, spec),
      sequences: seat.sequences,
      value: (kv: KeyValue) => encodeRecord(decodeRecord(kv)),
    };
    try {
      for await (const kvs of pages(client, layout.delayedBetween(from, now + 1)))
        for (const batch of batches(layout, 'delayed', kvs)) await append(batch, moving);
    } catch (error) {
      this.#from = Math.min(this.#from, from);
      throw error;
    }
  }

  /** Removes what was done and kept long enough, now and then: whoever pushes one of the ids looks for himself. */
  async #forgetDone(seat: Seat): Promise<void> {
    if (this.#clock.now() < seat.forgetAt) return;
    const { client, layout } = this.#control;
    const forgetting = { client, layout, run: (spec: TxnSpec) => this.#write(seat, spec) };
    await forgetDone(forgetting, Math.ceil(this.#clock.wall()));
    seat.forgetAt = this.#clock.now() + FORGET_EVERY_MS;
  }

  /** Does a transaction, as long as we are the scheduler. */
  async #write({ over, takenAt, writer }: Seat, spec: TxnSpec): Promise<Outcome> {
    over.signal.throwIfAborted();
    const { scheduler } = this.#control.layout;
    const outcome = await writer.run({
      ...spec,
      if: [compare.modRevision(scheduler, '=', takenAt), ...(spec.if ?? [])],
      else: [op.get(scheduler, { keysOnly: true }), ...(spec.else ?? [])],
    });
    if (outcome.is !== 'refused') return outcome;
    const [now, ...responses] = outcome.responses;
    if (now?.type === 'get' && now.kvs[0]?.modRevision === takenAt) return { ...outcome, responses };
    const reason = new Error('another client is the scheduler now, or somebody has removed our key');
    over.abort(reason);
    throw reason;
  }

  async #nextDue(): Promise<number> {
    const { client, layout } = this.#control;
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

  /** Waits so long, or until there is news. */
  async #wait(delayMs: number, stop: AbortSignal): Promise<void> {
    const waking = new AbortController();
    this.#waking = waking;
    await sleep(this.#clock, delayMs, AbortSignal.any([waking.signal, stop])).catch(() => undefined);
  }
}

const schedulers = new WeakMap<ControlWatch, DelayedScheduler>();

/** The scheduler of a queue, shared by the workers of a client. */
export function schedulerOf(control: ControlWatch): DelayedScheduler {
  let scheduler = schedulers.get(control);
  if (scheduler === undefined) {
    scheduler = new DelayedScheduler(control);
    schedulers.set(control, scheduler);
  }
  return scheduler;
}
