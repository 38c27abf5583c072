/** One run of the simulation: processes that hold, lead and write under faults, and what the checkers say of it. */
import {
  type Client,
  ConclaveError,
  Election,
  type Hold,
  MultiMutex,
  Mutex,
  op,
  Semaphore,
  Session,
} from 'conclave';
import {
  checkJobs,
  checkLinearizability,
  checkMutualExclusion,
  checkObservers,
  checkQueueing,
  type HistoryRecord,
  type SimProcess,
  type Violation,
  World,
} from 'conclave/testing';

import { keyRange } from '#conclave/embedded/store/key-range.js';
import { type Fault, FAULTS, strike } from './faults.js';
import { noteLeaders, observe } from './observers.js';
import { JobsActor, type JobsStage, noteJobs, observeJobs } from './jobs.js';

/** How a run is played. */
export interface PlayOptions {
  readonly seed: number;
  /** Which faults there may be. @default all */
  readonly faults?: readonly Fault[];
  /** @default up to four, by the seed */
  readonly processes?: number;
  /** For how long there are faults, in milliseconds. @default 20000 */
  readonly faultsMs?: number;
}

/** What came of a run. */
export interface Played {
  readonly history: readonly HistoryRecord[];
  readonly violations: readonly Violation[];
  readonly operations: number;
  readonly simulatedMs: number;
  readonly events: number;
  readonly faults: ReadonlyMap<Fault, number>;
}

const MUTEXES = ['m/a', 'm/b'];
const ELECTION = 'e/a';
const REGISTERS = ['r/a', 'r/b'];
const TTL_SECONDS = 3;
/** How long everything may take to work again after the last fault: a lease, and the slowest backoff. */
const HEALED_MS = 20_000;

/** An attempt to hold a name. */
interface AttemptAt {
  readonly attempt: number;
  readonly name: string;
}

class Play {
  readonly world: World;
  readonly history: HistoryRecord[] = [];
  readonly violations: Violation[] = [];
  readonly struck = new Map<Fault, number>();
  readonly #options: PlayOptions;
  readonly #alive = new Set<SimProcess>();
  /** Of each process, whether it is done. */
  readonly #running = new Map<SimProcess, Promise<void>>();
  readonly #attemptsByKey = new Map<string, readonly AttemptAt[]>();
  /** Keys that were removed by hand, and when last. */
  readonly #revokedAt = new Map<string, bigint>();
  #attempts = 0;
  #calls = 0;
  #claims = 0;
  readonly #observers = new Set<string>();
  #names = 0;
  readonly claims: JobsStage['claims'] = new Map();
  #stopping = false;
  #revoking = false;

  constructor(options: PlayOptions) {
    this.#options = options;
    this.world = new World(options.seed);
  }

  get operations(): number {
    return this.#attempts + this.#calls + this.#claims;
  }

  async run(): Promise<void> {
    const { world } = this;
    const { random } = world;
    const { faults = FAULTS, faultsMs = 20_000, processes = 2 + random.below(3) } = this.#options;
    world.server.member.store.onCommit((revision, changes) => {
      for (const { deleted, text } of changes) {
        const found = this.#attemptsByKey.get(text);
        if (deleted && this.#revoking) this.#revokedAt.set(text, revision);
        if (!deleted || found === undefined) continue;
        this.#attemptsByKey.delete(text);
        const gone = { atMs: world.nowMs, is: 'gone', process: 'etcd', revision } as const;
        for (const about of found)
          this.note(this.#revoking ? { ...gone, ...about, byHand: true } : { ...gone, ...about });
      }
    });
    observeJobs(this);
    noteLeaders(this, ELECTION);
    for (let at = 0; at < processes; at++) this.#start();
    let quietAt = 0;
    const nextFault = (): void => {
      const fault = random.pick(faults);
      this.struck.set(fault, (this.struck.get(fault) ?? 0) + 1);
      const ms = strike(fault, {
        killed: (process) => {
          for (const observer of this.#observers)
            if (observer.startsWith(`${process.name}#`))
              this.note({ atMs: world.nowMs, is: 'observingEnds', name: ELECTION, process: observer });
          this.#alive.delete(process);
          this.#running.delete(process);
          this.#start();
        },
        note: (record) => this.note(record),
        processes: () => [...this.#alive],
        revoke: (id) => {
          this.#revoking = true;
          world.server.member.lessor.revoke(id);
          this.#revoking = false;
        },
        world,
      });
      quietAt = Math.max(quietAt, world.nowMs + ms);
      const next = world.nowMs + random.between(50, 3000);
      if (next < faultsMs) world.timeline.at(next, nextFault);
    };
    if (faults.length > 0) world.timeline.at(random.between(50, 2000), nextFault);
    await world.run(faultsMs);
    await world.run(Math.max(0, quietAt - world.nowMs));
    await world.run(2000);
    this.#stopping = true;
    const all = Promise.all(this.#running.values());
    if (!(await this.#within(HEALED_MS, all)))
      this.violate('progress', `processes have not ended ${HEALED_MS} ms after the last fault`);
    await this.#look();
    this.#judge();
  }

  note(record: HistoryRecord): void {
    this.history.push(record);
  }

  violate(rule: string, message: string): void {
    this.violations.push({ at: this.history.slice(-5), message, rule });
  }

  /** Somebody new gets everything at once, and leaves nothing. */
  async #look(): Promise<void> {
    const { world } = this;
    const process = world.process('the last');
    const client = world.client(process);
    const look = async (): Promise<void> => {
      const session = await Session.open(client, { ttlSeconds: TTL_SECONDS });
      for (const name of MUTEXES) await (await new Mutex(session, name).lock()).unlock();
      await (await new Election(session, ELECTION).campaign('the last')).resign();
      await new JobsActor(this, process, world.random.fork(), session).finish();
      await session.close();
    };
    const looking = look().catch((error: unknown) =>
      this.violate('progress', `the last one failed: ${String(error)}`),
    );
    if (!(await this.#within(HEALED_MS, looking)))
      this.violate('progress', 'the last one does not get what all have given back');
    // What belongs to the dead goes with their leases.
    await world.run((TTL_SECONDS + 1) * 1000);
    const { store, table } = world.server.member;
    const all = keyRange(Buffer.of(0), Buffer.of(0));
    const keys = store.range(all).kvs.map(({ text }) => text);
    noteJobs(this, keys);
    // What was written is to stay, and so may the limit of a semaphore whose last user was killed.
    const left = keys.filter((key) => !/^([rw]|done)\/|\.~limit$/.test(key));
    if (left.length > 0) this.violate('nothing-left', `keys are left: ${left.join(', ')}`);
    const leases = table.byDeadline().length;
    if (leases > 0) this.violate('nothing-left', `${leases} leases are left`);
  }

  /** Lets the world go on until `work` is done, for so long at most. Whether it was. */
  async #within(ms: number, work: Promise<unknown>): Promise<boolean> {
    const state = { done: false };
    work.then(
      () => (state.done = true),
      () => (state.done = true),
    );
    await this.world.run(ms, () => state.done);
    return state.done;
  }

  #judge(): void {
    this.violations.push(
      ...checkMutualExclusion(this.history),
      ...checkQueueing(this.history, { ttlMs: (TTL_SECONDS + 1) * 1000 }),
      ...checkLinearizability(this.history),
      ...checkJobs(this.history),
      ...checkObservers(this.history).filter(
        // Whoever was behind when history was compacted reads anew, and has missed what was in between.
        ({ rule }) => rule !== 'observer-skipped' || !this.struck.has('compact'),
      ),
    );
  }

  #start(): void {
    const { world } = this;
    const { random } = world;
    const clock = random.chance(0.3) ? { rate: random.between(0.98, 1.02) } : {};
    const process = world.process(`p${this.#names++}`, clock);
    this.#alive.add(process);
    const actor = new Actor(this, process, world.random.fork());
    this.#running.set(
      process,
      actor.run().catch((error: unknown) => {
        const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
        this.violate('unexpected-error', `${process.name}: ${text}`);
      }),
    );
  }

  get revoking(): boolean {
    return this.#revoking;
  }

  get stopping(): boolean {
    return this.#stopping;
  }

  nextAttempt(): number {
    return ++this.#attempts;
  }

  /** Begins to observe; returns what the observer is called in the history. */
  nextObserver(process: SimProcess): string {
    const observer = `${process.name}#${this.#observers.size}`;
    this.#observers.add(observer);
    return observer;
  }

  nextClaim(): number {
    return ++this.#claims;
  }

  nextCall(): number {
    return ++this.#calls;
  }

  /** Somebody is about to say that it holds; its key may have been removed by hand before it could know. */
  holds({ createRevision, key }: Hold, attempts: readonly AttemptAt[]): void {
    const revision = this.#revokedAt.get(key) ?? 0n;
    const gone = { atMs: this.world.nowMs, byHand: true, is: 'gone', process: 'etcd', revision } as const;
    if (revision > createRevision) for (const about of attempts) this.note({ ...gone, ...about });
    else this.#attemptsByKey.set(key, attempts);
  }
}

/** What a process does: one thing after the other, by chance. */
class Actor {
  readonly #play: Play;
  readonly #process: SimProcess;
  readonly #random: World['random'];

  constructor(play: Play, process: SimProcess, random: World['random']) {
    this.#play = play;
    this.#process = process;
    this.#random = random;
  }

  async run(): Promise<void> {
    const client = this.#play.world.client(this.#process, { timeoutMs: 3000 });
    while (!this.#play.stopping) {
      let session: Session;
      let jobs: JobsActor;
      try {
        session = await Session.open(client, { ttlSeconds: TTL_SECONDS });
        // It may be lost already: right after a freeze, say.
        jobs = new JobsActor(this.#play, this.#process, this.#random, session);
      } catch (error) {
        this.#known(error);
        await this.#sleep(100);
        continue;
      }
      const tasks = Array.from({ length: 1 + this.#random.below(3) }, () =>
        this.#task(client, session, jobs),
      );
      const stop = new AbortController();
      const observing = observe(this.#play, this.#process, session, {
        name: ELECTION,
        observer: this.#play.nextObserver(this.#process),
        signal: stop.signal,
      });
      await Promise.all(tasks);
      await jobs.close();
      stop.abort(new Error('enough'));
      await observing;
      await session.close().catch((error: unknown) => this.#known(error));
    }
    await client.close();
  }

  async #task(client: Client, session: Session, jobs: JobsActor): Promise<void> {
    for (let at = 0; at < 12 && session.alive && !this.#play.stopping; at++) {
      await this.#sleep(this.#random.between(0, 300));
      const what = this.#random.below(12);
      if (what >= 10) await jobs.push();
      else if (what < 1) await this.#lockAll(session);
      else if (what < 4) await this.#lock(session, this.#random.pick(MUTEXES));
      else if (what < 6) await this.#lead(session);
      else if (what < 7) await this.#permit(session);
      else await this.#register(client, this.#random.pick(REGISTERS));
    }
  }

  async #lock(session: Session, name: string): Promise<void> {
    const mutex = new Mutex(session, name);
    const timeoutMs = this.#random.pick([50, 1000, 10_000]);
    const isTry = this.#random.chance(0.2);
    await this.#hold([name], () => (isTry ? mutex.tryLock() : mutex.lock({ timeoutMs })));
  }

  async #lockAll(session: Session): Promise<void> {
    const mutex = new MultiMutex(session, MUTEXES);
    const timeoutMs = this.#random.pick([50, 1000, 10_000]);
    await this.#hold(MUTEXES, () => mutex.lock({ timeoutMs }));
  }

  async #lead(session: Session): Promise<void> {
    const election = new Election(session, ELECTION);
    const timeoutMs = this.#random.pick([50, 1000, 10_000]);
    await this.#hold([ELECTION], () => election.campaign(this.#process.name, { timeoutMs }));
  }

  /** Semaphores have no checker of their own yet: that they give way is what is looked at. */
  async #permit(session: Session): Promise<void> {
    const semaphore = new Semaphore(session, 's/a', { limit: 2 });
    try {
      const permit = await semaphore.acquire({ timeoutMs: this.#random.pick([50, 1000, 10_000]) });
      await this.#sleep(this.#random.between(0, 500));
      await permit.release();
    } catch (error) {
      this.#known(error);
    }
  }

  /** Holds one name, or several at once: each counts as an attempt of its own. */
  async #hold(names: readonly string[], take: () => Promise<Hold | undefined>): Promise<void> {
    const attempts = names.map((name) => ({ attempt: this.#play.nextAttempt(), name }));
    const noteAll = (record: Record<string, unknown>): Record<string, unknown>[] =>
      attempts.map((about) => this.#note({ ...about, ...record }));
    noteAll({ is: 'acquire' });
    let hold: Hold | undefined;
    try {
      hold = await take();
    } catch (error) {
      this.#known(error);
    }
    if (hold === undefined) {
      noteAll({ is: 'gaveUp' });
      return;
    }
    this.#play.holds(hold, attempts);
    noteAll({ is: 'held', token: hold.fencingToken });
    const { signal } = hold;
    const state = { released: false };
    const lost = (): void => {
      if (!state.released) noteAll({ is: 'lossSignal' });
    };
    signal.addEventListener('abort', lost, { once: true });
    if (signal.aborted) lost();
    const writes = this.#random.below(3);
    for (let at = 0; at < writes; at++) {
      await this.#sleep(this.#random.between(0, 400));
      if (!hold.held) break;
      // It stands where it is asked for; its revision is that of its commit.
      const noted = noteAll({ is: 'guardedWrite', revision: undefined });
      const then = attempts.map(({ attempt, name }) => op.put(`w/${name}`, String(attempt)));
      const result = await hold.txn({ then }).catch((error: unknown) => this.#known(error));
      for (const each of noted) each['revision'] = result?.succeeded === true ? result.revision : undefined;
    }
    await this.#sleep(this.#random.between(0, 800));
    state.released = true;
    noteAll({ is: 'release' });
    await release(hold).catch((error: unknown) => this.#known(error));
  }

  async #register(client: Client, key: string): Promise<void> {
    const call = this.#play.nextCall();
    const value = `${this.#process.name}-${call}`;
    const isRead = this.#random.chance(0.5);
    this.#note({ call, is: 'call', key, operation: isRead ? { is: 'read' } : { is: 'write', value } });
    try {
      if (isRead) {
        const kv = await client.kv.get(key);
        this.#note({
          call,
          is: 'return',
          outcome: { is: 'ok', revision: kv?.modRevision ?? 0n, value: kv?.string() },
        });
      } else {
        const { revision } = await client.kv.put(key, value);
        this.#note({ call, is: 'return', outcome: { is: 'ok', revision } });
      }
    } catch (error) {
      this.#known(error);
      const isUnknown = !isRead && error instanceof ConclaveError && error.code === 'UNKNOWN_OUTCOME';
      this.#note({ call, is: 'return', outcome: { is: isUnknown ? 'unknown' : 'void' } });
    }
  }

  #note(record: Record<string, unknown>): Record<string, unknown> {
    const noted = { atMs: this.#play.world.nowMs, process: this.#process.name, ...record };
    this.#play.note(noted as unknown as HistoryRecord);
    return noted;
  }

  /** Passes over what may come of faults; throws anything else. */
  #known(error: unknown): undefined {
    if (error instanceof ConclaveError) return undefined;
    throw error;
  }

  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.#process.clock.setTimer(ms, resolve));
  }
}

/** Plays a seed. */
export async function play(options: PlayOptions): Promise<Played> {
  const played = new Play(options);
  await using world = played.world;
  try {
    await played.run();
  } catch (error) {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    played.violate('unexpected-error', text);
  }
  return {
    events: world.timeline.events,
    faults: played.struck,
    history: played.history,
    operations: played.operations,
    simulatedMs: world.nowMs,
    violations: played.violations,
  };
}

/** Gives back what is held, in its own words. */
function release(hold: Hold): Promise<void> {
  if ('unlock' in hold) return (hold as Hold & { unlock(): Promise<void> }).unlock();
  return (hold as Hold & { resign(): Promise<void> }).resign();
}
