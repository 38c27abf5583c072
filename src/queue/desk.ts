/**
 * Where the workers of one queue object get jobs and hand them in. One transaction at a time hands in all that is done,
 * claims as many jobs as are wanted, and reads what to claim next.
 */
import { ConclaveError, hasCode } from '../errors/conclave-error.js';
import { isTransient } from '../errors/transient.js';
import { type Compare, compare } from '../etcd/compare.js';
import type { OpResult } from '../etcd/kv.js';
import { type Op, op } from '../etcd/op.js';
import { untilAnswered } from '../etcd/until-answered.js';
import type { Session } from '../session/session.js';
import { onAbort, orAborted, sleep } from '../util/abort.js';
import { backoffMs } from '../util/backoff.js';
import type { Timer } from '../util/clock.js';
import { Deferred } from '../util/deferred.js';
import { type Board, type BoardChange, encodePlaces } from './board.js';
import { type Claim, type Ending, endings } from './claim.js';
import { type Claimed, claimAll, type Claimer, findClaims, readClaims } from './claims.js';
import { Front } from './front.js';
import { keeperOf } from './keeper.js';
import type { Layout } from './layout.js';
import { endEarlierLives, Membership } from './member.js';
import { Picker } from './picker.js';

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
  readonly #membership: Membership;
  readonly #claimer: Claimer;
  readonly #front = new Front();
  readonly #picker: Picker;
  readonly #takers = new Set<Deferred<Claim>>();
  readonly #stops: (() => void)[];
  readonly #ending = new AbortController();
  #handIns: HandIn[] = [];
  #loop: Promise<void> | undefined;
  #timer: Timer | undefined;
  #closed: Promise<void> | undefined;

  private constructor(session: Session, board: Board, membership: Membership) {
    this.#session = session;
    this.#board = board;
    this.#layout = board.layout;
    this.#claimer = { layout: this.#layout, member: membership.member, working: membership.working };
    this.#membership = membership;
    this.#picker = new Picker(this.#front, board, membership.member);
    this.#stops = [
      board.use((change) => this.#changed(change)),
      keeperOf(board).use(),
      () => membership.stopListening(),
      ...[session.signal, membership.removed].map((signal) => onAbort(signal, (reason) => this.#end(reason))),
    ];
  }

  /** Joins the workers of the queue. Resolves when jobs can be taken. */
  static async open(session: Session, board: Board): Promise<Desk> {
    const desk = new Desk(session, board, await Membership.join(session, board));
    try {
      await orAborted(desk.#getReady(), desk.ended);
    } catch (error) {
      await desk.close(error).catch(() => undefined);
      throw error;
    }
    desk.#changed({ what: 'all' });
    return desk;
  }

  async #getReady(): Promise<void> {
    const keeper = keeperOf(this.#board);
    await this.#board.ready;
    for (const member of await endEarlierLives(this.#session, this.#board)) await keeper.reap(member);
    await keeper.scanned;
  }

  /** Aborts when nothing can be taken here any more. */
  get ended(): AbortSignal {
    return this.#ending.signal;
  }

  /** Our place among the workers, without which no job is ours. */
  get membership(): Membership {
    return this.#membership;
  }

  /** Resolves with a claimed job, first come first served; rejects when the signal aborts or the session ends. */
  async take(signal: AbortSignal): Promise<Claim> {
    this.ended.throwIfAborted();
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
  close(reason: unknown): Promise<void> {
    this.#closed ??= this.#close(reason);
    return this.#closed;
  }

  async #close(reason: unknown): Promise<void> {
    this.#end(reason);
    while (this.#loop !== undefined) await this.#loop;
    if (this.#session.alive) await this.#membership.leave();
  }

  /** What holds only while we hold the job of this claim. */
  guard(claim: Claim): Compare[] {
    return [compare.createRevision(claim.key, '=', claim.token), this.#membership.working];
  }

  #end(reason: unknown): void {
    if (!this.ended.aborted) {
      this.#ending.abort(reason);
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
        if (handIns.length === 0 && isTransient(error) && this.#session.alive) {
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
    this.#takeNoteOf(handIns);
    const picks = this.#picker.picks(want);
    const reads = this.#picker.plan(want);
    if (handIns.length + picks.length === 0) {
      if (reads.length === 0) return;
      const { responses } = await this.#session.client.kv.txn({ then: reads });
      this.#picker.learn(responses);
      return;
    }
    const steps = handIns.map(({ claim, ending }) => op.txn(endings.spec(this.#layout, claim, ending)));
    if (picks.length > 0) steps.push(claimAll(this.#claimer, picks));
    steps.push(...reads, ...this.#announcements(handIns));
    const outcome = await this.#membership.lane.run({ then: steps });
    if (outcome.is !== 'applied') {
      await this.#settle(handIns, outcome.revision);
      const found = await findClaims(this.#session, this.#claimer, picks);
      for (const each of found) this.#give(each);
      this.#picker.tried(picks);
      return;
    }
    let at = 0;
    for (const { claim, done } of handIns) {
      if (succeeded(outcome.responses[at++])) done.resolve();
      else done.reject(notHeld(claim, undefined));
    }
    if (picks.length > 0) {
      const answer = { response: outcome.responses[at++], revision: outcome.revision };
      const claimed = readClaims(this.#claimer, picks, answer);
      if (claimed === undefined) this.#picker.notTried();
      else this.#picker.tried(picks);
      for (const each of claimed ?? []) this.#give(each);
    }
    this.#picker.learn(outcome.responses.slice(at, at + reads.length));
  }

  /** What goes back to its place now may be ahead of what was read. */
  #takeNoteOf(handIns: readonly HandIn[]): void {
    const back = handIns.filter(({ ending }) => ending.to === 'waiting');
    for (const { claim } of back) this.#front.back(claim.place);
    if (back.length > 0) this.#picker.cameBack();
  }

  /** Hand-ins that were applied at `revision`, with the answer lost: each was, if the job was ours just before. */
  async #settle(handIns: readonly HandIn[], revision: bigint): Promise<void> {
    const { client, signal } = this.#session;
    const before = { keysOnly: true, revision: revision - 1n };
    const looks = handIns.map(({ claim }) => op.get(claim.key, before));
    const responses = await untilAnswered(client.clock, signal, async () =>
      looks.length === 0 ? [] : (await client.kv.txn({ then: looks }, { signal })).responses,
    ).catch((error: unknown) => {
      if (hasCode(error, 'COMPACTED')) return undefined;
      throw error;
    });
    for (const [at, { claim, done }] of handIns.entries()) {
      const response = responses?.[at];
      const kv = response?.type === 'get' ? response.kvs[0] : undefined;
      // Where the past cannot be read any more, the rules say that nobody else has touched a job of ours.
      if (responses === undefined || kv?.createRevision === claim.token) done.resolve();
      else done.reject(notHeld(claim, undefined));
    }
  }

  #announcements(handIns: readonly HandIn[]): Op[] {
    const back = handIns.filter(({ ending }) => ending.to === 'waiting').map(({ claim }) => claim.place);
    const dues = handIns.flatMap(({ ending }) => (ending.to === 'delayed' ? [ending.dueMs] : []));
    return [
      ...(back.length > 0 ? [op.put(this.#layout.back, encodePlaces(back))] : []),
      ...(dues.length > 0 ? [op.put(this.#layout.due, String(Math.min(...dues)))] : []),
    ];
  }

  /** Gives a claimed job to whoever has waited longest, or back if nobody does any more. */
  #give({ claim, spoilt }: Claimed): void {
    const [taker] = this.#takers;
    if (spoilt !== undefined) {
      void this.#insist(claim, endings.spoilt(claim, spoilt, this.#session.client.clock.wall()));
    } else if (taker === undefined) {
      void this.#insist(claim, endings.back(claim));
    } else {
      this.#takers.delete(taker);
      taker.resolve(claim);
    }
  }

  /** Hands a job in that nobody works on. What etcd refuses is tried again, since the job is ours as long as we live. */
  async #insist(claim: Claim, ending: Ending): Promise<void> {
    const { clock } = this.#session.client;
    for (let attempt = 0; this.#session.alive; attempt++) {
      try {
        await this.handIn(claim, ending);
        return;
      } catch (error) {
        if (hasCode(error, 'NOT_HELD')) return;
      }
      await sleep(clock, backoffMs(attempt, { baseMs: 100, maxMs: 5000 }), this.#session.signal).catch(
        () => undefined,
      );
    }
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
