/**
 * Where the workers of one queue object get jobs and hand them in. One transaction at a time hands in all that is done,
 * claims as many jobs as are wanted, and reads what to claim next.
 */
import { ConclaveError, hasCode } from '../errors/conclave-error.js';
import { type Compare, compare } from '../etcd/compare.js';
import type { OpResult } from '../etcd/kv.js';
import { type Op, op } from '../etcd/op.js';
import type { Session } from '../session/session.js';
import { ownerValue } from '../ticket/owner.js';
import { onAbort, sleep } from '../util/abort.js';
import { backoffMs } from '../util/backoff.js';
import type { Timer } from '../util/clock.js';
import { Deferred } from '../util/deferred.js';
import { endEarlierLives, newMember } from './member.js';
import { type Board, type BoardChange, encodePlaces } from './board.js';
import { type Claim, type Ending, endings } from './claim.js';
import { Front } from './front.js';
import { keeperOf } from './keeper.js';
import { Lane } from './lane.js';
import type { Layout } from './layout.js';
import { type Candidate, Picker } from './picker.js';

interface HandIn {
  readonly claim: Claim;
  readonly ending: Ending;
  readonly done: Deferred<void>;
}

/** Of each kind in one transaction; see etcd's limit of 128 operations, which nested ones share. */
const MOST = 40;
/** How much later each further worker looks at what all of them have just been told of. */
const JITTER_MS = 0.5;

export class Desk {
  readonly #session: Session;
  readonly #layout: Layout;
  readonly #board: Board;
  readonly #lane: Lane;
  readonly #member: string;
  /** Holds while our worker's key is there, which is at most as long as the session's lease. */
  readonly #working: Compare;
  readonly #front = new Front();
  readonly #picker: Picker;
  readonly #takers = new Set<Deferred<Claim>>();
  readonly #stops: (() => void)[];
  #handIns: HandIn[] = [];
  #loop: Promise<void> | undefined;
  #timer: Timer | undefined;
  #over: unknown;

  private constructor(session: Session, board: Board, member: string, lane: Lane, joinedAt: bigint) {
    this.#session = session;
    this.#board = board;
    this.#layout = board.layout;
    this.#member = member;
    this.#lane = lane;
    this.#working = compare.createRevision(this.#layout.worker(member), '=', joinedAt);
    this.#picker = new Picker(this.#front, board, member);
    this.#stops = [
      board.use((change) => this.#changed(change)),
      keeperOf(board).use(),
      onAbort(session.signal, (reason) => this.#end(reason)),
    ];
  }

  /** Joins the workers of the queue. Resolves when jobs can be taken. */
  static async open(session: Session, board: Board): Promise<Desk> {
    const { layout } = board;
    const member = newMember(session);
    const lane = await Lane.open(session, layout.lane(member, 'work'));
    const joined = await lane.run({
      then: [op.put(layout.worker(member), ownerValue(session), { leaseId: session.leaseId })],
    });
    const desk = new Desk(session, board, member, lane, joined.revision);
    try {
      await board.ready;
      await endEarlierLives(session, board);
      await keeperOf(board).scanned;
    } catch (error) {
      await desk.close(error).catch(() => undefined);
      throw error;
    }
    desk.#changed({ what: 'all' });
    return desk;
  }

  /** Resolves with a claimed job, first come first served; rejects when the signal aborts or the session ends. */
  async take(signal: AbortSignal): Promise<Claim> {
    if (this.#over !== undefined) throw this.#over;
    signal.throwIfAborted();
    const taker = new Deferred<Claim>();
    const stop = onAbort(signal, (reason) => {
      this.#takers.delete(taker);
      taker.reject(reason);
    });
    this.#takers.add(taker);
    this.#kick();
    try {
      return await taker.promise;
    } finally {
      stop();
    }
  }

  /** Hands a claimed job in. Rejects with `NOT_HELD` when it was no longer ours, `UNKNOWN_OUTCOME` when nobody knows. */
  async handIn(claim: Claim, ending: Ending): Promise<void> {
    if (!this.#session.alive) throw notHeld(claim, this.#session.signal.reason);
    const done = new Deferred<void>();
    this.#handIns.push({ claim, done, ending });
    this.#kick();
    await done.promise;
  }

  /** Leaves the workers. Nothing may be taken any more; resolves when what was handed in is known to be. */
  async close(reason: unknown): Promise<void> {
    this.#end(reason);
    while (this.#loop !== undefined) await this.#loop;
    if (this.#session.alive) await this.#lane.close([op.delete(this.#layout.worker(this.#member))]);
  }

  /** What holds only while we hold the job of this claim. */
  guard(claim: Claim): Compare[] {
    return [compare.createRevision(claim.key, '=', claim.token), this.#working];
  }

  #end(reason: unknown): void {
    if (this.#over === undefined) {
      this.#over = reason;
      for (const stop of this.#stops) stop();
      this.#timer?.cancel();
    }
    for (const taker of this.#takers) taker.reject(reason);
    this.#takers.clear();
  }

  #failHandIns(handIns: readonly HandIn[], reason: unknown): void {
    for (const { claim, done } of handIns) {
      done.reject(
        this.#session.alive || hasCode(reason, 'UNKNOWN_OUTCOME') ? reason : notHeld(claim, reason),
      );
    }
  }

  #changed(change: BoardChange): void {
    if (change.what === 'all') this.#front.reset(this.#board.tails);
    if (change.what === 'tail') {
      this.#front.grew(change.priority, change.tail);
      this.#picker.cameAhead(change.priority);
    }
    if (change.what === 'back') {
      for (const place of change.places) this.#front.back(place);
      this.#picker.cameBack();
    }
    if (change.what === 'failed') this.#end(change.error);
    if (this.#loop !== undefined || this.#takers.size === 0 || this.#timer !== undefined) return;
    const delayMs = this.#board.jitterMs(JITTER_MS);
    if (delayMs === 0) {
      this.#kick();
      return;
    }
    this.#timer = this.#session.client.clock.setTimer(delayMs, () => {
      this.#timer = undefined;
      this.#kick();
    });
  }

  get #hasWork(): boolean {
    if (this.#handIns.length > 0) return true;
    return this.#takers.size > 0 && !this.#board.paused && this.#picker.promising;
  }

  #kick(): void {
    if (this.#loop !== undefined || !this.#hasWork) return;
    this.#loop = this.#run().finally(() => {
      this.#loop = undefined;
      this.#kick();
    });
  }

  async #run(): Promise<void> {
    for (let failures = 0; ;) {
      // Handlers that end in this turn of the event loop go together.
      await new Promise((resolve) => setImmediate(resolve));
      if (!this.#hasWork) return;
      const handIns = this.#handIns.splice(0, MOST);
      try {
        await this.#turn(handIns);
        failures = 0;
      } catch (error) {
        if (
          handIns.length === 0 &&
          hasCode(error, 'UNAVAILABLE', 'DEADLINE_EXCEEDED') &&
          this.#session.alive
        ) {
          const pauseMs = backoffMs(failures++, { baseMs: 20, maxMs: 500 });
          await sleep(this.#session.client.clock, pauseMs, this.#session.signal).catch(() => undefined);
          continue;
        }
        this.#picker.notTried();
        this.#failHandIns(handIns, error);
        for (const taker of this.#takers) taker.reject(error);
        this.#takers.clear();
      }
    }
  }

  async #turn(handIns: readonly HandIn[]): Promise<void> {
    const want = this.#board.paused ? 0 : Math.min(this.#takers.size, MOST);
    const picks = this.#picker.picks(want);
    const reads = this.#picker.plan(want);
    if (handIns.length + picks.length === 0) {
      if (reads.length === 0) return;
      const { responses } = await this.#session.client.kv.txn({ then: reads });
      this.#picker.learn(responses);
      return;
    }
    const steps = handIns.map(({ claim, ending }) => op.txn(endings.spec(this.#layout, claim, ending)));
    if (picks.length > 0) steps.push(this.#claimAll(picks));
    steps.push(...reads, ...this.#announcements(handIns));
    const outcome = await this.#lane.run({ then: steps });
    if (outcome.is !== 'applied') {
      // Only we remove the keys of our own jobs, so all that was handed in is in.
      for (const { done } of handIns) done.resolve();
      await this.#findClaims(picks);
      return;
    }
    let at = 0;
    for (const { claim, done } of handIns) {
      if (succeeded(outcome.responses[at++])) done.resolve();
      else done.reject(notHeld(claim, undefined));
    }
    if (picks.length > 0) this.#claimed(picks, outcome.responses[at++], outcome.revision);
    this.#picker.learn(outcome.responses.slice(at, at + reads.length));
  }

  #claimAll(picks: readonly Candidate[]): Op {
    return op.txn({
      if: [compare.missing(this.#layout.paused)],
      then: picks.map((pick) =>
        op.txn({
          if: [compare.modRevision(pick.key, '=', pick.modRevision)],
          then: [
            op.delete(pick.key),
            op.put(this.#layout.active(this.#member, pick.place), pick.claimed),
            op.get(this.#layout.body(pick.place.id)),
          ],
        }),
      ),
    });
  }

  #announcements(handIns: readonly HandIn[]): Op[] {
    const back = handIns.filter(({ ending }) => ending.to === 'waiting').map(({ claim }) => claim.place);
    const dues = handIns.flatMap(({ ending }) => (ending.to === 'delayed' ? [ending.dueMs] : []));
    return [
      ...(back.length > 0 ? [op.put(this.#layout.back, encodePlaces(back))] : []),
      ...(dues.length > 0 ? [op.put(this.#layout.due, String(Math.min(...dues)))] : []),
    ];
  }

  #claimed(picks: readonly Candidate[], response: OpResult | undefined, revision: bigint): void {
    if (response?.type !== 'txn' || !response.succeeded) {
      // Paused meanwhile.
      this.#picker.notTried();
      return;
    }
    for (const [at, pick] of picks.entries()) {
      const answer = response.responses[at];
      if (answer?.type !== 'txn' || !answer.succeeded) continue;
      const body = answer.responses[2];
      this.#give(pick, revision, body?.type === 'get' ? body.kvs[0]?.string() : undefined);
    }
    this.#picker.tried(picks);
  }

  /** The claims' answer is lost: those that went through have left their keys. */
  async #findClaims(picks: readonly Candidate[]): Promise<void> {
    const steps = picks.flatMap(({ place }) => [
      op.get(this.#layout.active(this.#member, place), { keysOnly: true }),
      op.get(this.#layout.body(place.id)),
    ]);
    if (steps.length === 0) return;
    for (let attempt = 0; ; attempt++) {
      try {
        const { responses } = await this.#session.client.kv.txn({ then: steps });
        const found = responses.map((response) => (response.type === 'get' ? response.kvs[0] : undefined));
        for (const [at, pick] of picks.entries()) {
          const active = found[2 * at];
          if (active !== undefined) this.#give(pick, active.createRevision, found[2 * at + 1]?.string());
        }
        this.#picker.tried(picks);
        return;
      } catch (error) {
        if (!hasCode(error, 'UNAVAILABLE', 'DEADLINE_EXCEEDED')) throw error;
      }
      await sleep(this.#session.client.clock, backoffMs(attempt, { baseMs: 20 }), this.#session.signal);
    }
  }

  /** Gives a claimed job to whoever has waited longest, or back if nobody does any more. */
  #give(pick: Candidate, token: bigint, body: string | undefined): void {
    const key = this.#layout.active(this.#member, pick.place);
    const claim: Claim = { data: undefined, key, place: pick.place, record: pick.record, token };
    let data: unknown;
    try {
      data = JSON.parse(body ?? 'the key with its data is missing');
    } catch (error) {
      this.#handInQuietly(claim, endings.spoilt(claim, error, this.#session.client.clock.wall()));
      return;
    }
    const [taker] = this.#takers;
    if (taker === undefined) {
      this.#handInQuietly(claim, endings.back(claim));
      return;
    }
    this.#takers.delete(taker);
    taker.resolve({ ...claim, data });
  }

  /** What fails here fails because the session has ended, and the job goes to others. */
  #handInQuietly(claim: Claim, ending: Ending): void {
    void this.handIn(claim, ending).catch(() => undefined);
  }
}

function succeeded(response: OpResult | undefined): boolean {
  return response?.type === 'txn' && response.succeeded;
}

/** The job is not ours any more: the session ended, or somebody removed its key. */
export function notHeld(claim: Pick<Claim, 'key' | 'place'>, cause: unknown): ConclaveError {
  const text =
    `job ${JSON.stringify(claim.place.id)} is no longer held by this worker: it goes to another one, or has been ` +
    'handed in already; nothing was written';
  return new ConclaveError('NOT_HELD', text, { cause, key: claim.key });
}
