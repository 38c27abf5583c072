/** One run of the simulation: processes that do something under faults, and what the checkers say of it. */
import { type HistoryRecord, type SimProcess, type Violation, World } from 'conclave/testing';

import { keyRange } from '#conclave/embedded/store/key-range.js';
import type { Lease } from '#conclave/embedded/lease/lease-table.js';
import { act, actLast } from './actor.js';
import { judge } from './judge.js';
import { type Fault, FAULTS, LOSSES, strike } from './faults.js';
import { Stage } from './stage.js';
import type { Workload } from './workload.js';
import { workloads as allWorkloads } from './workloads/index.js';

/** How a run is played. */
export interface PlayOptions {
  readonly seed: number;
  /** Which faults there may be. @default all */
  readonly faults?: readonly Fault[];
  /** Which workloads it is chosen from, by name. @default all */
  readonly among?: readonly string[] | undefined;
  /** Which of those that were chosen take part, by name. @default all; a run has some of them, by the seed */
  readonly workloads?: readonly string[];
  /** @default up to four, by the seed */
  readonly processes?: number;
  /** For how long there are faults, in milliseconds. @default some seconds, by the seed */
  readonly faultsMs?: number;
}

/** What came of a run. */
export interface Played {
  readonly history: readonly HistoryRecord[];
  readonly violations: readonly Violation[];
  /** Whose workloads took part. */
  readonly workloads: readonly string[];
  readonly operations: number;
  readonly simulatedMs: number;
  readonly events: number;
  readonly faults: ReadonlyMap<Fault, number>;
}

/** Some runs are long enough for what goes wrong late; most are not, so that there are more of them. */
const FAULTS_MS = [1000, 2000, 3000, 6000] as const;
/** From one fault to the next, in milliseconds: at least, at most. */
const APART_MS = [50, 1200] as const;
const PROCESSES = [2, 2, 3, 3, 4] as const;
/** How long it is quiet before all are told to end. */
const QUIET_MS = 500;
/** How long everything may take to work again after the last fault: a lease, and the slowest backoff. */
const HEALED_MS = 20_000;
/** And one that nobody uses ends by itself. */
const LONGEST_LEASE_MS = 40_000;

class Play {
  readonly stage: Stage;
  readonly workloads: readonly Workload[];
  readonly #options: PlayOptions;
  readonly #alive = new Set<SimProcess>();
  /** Of each process, whether it is done. */
  readonly #running = new Map<SimProcess, Promise<void>>();

  constructor(options: PlayOptions) {
    this.#options = options;
    const world = new World(options.seed);
    this.stage = new Stage(world);
    const chosen = choose(world.random, options.among);
    const { workloads = chosen.map(({ name }) => name) } = options;
    this.workloads = chosen.filter(({ name }) => workloads.includes(name));
  }

  async run(): Promise<void> {
    const { stage } = this;
    const { world } = stage;
    const { random } = world;
    const kinds = random.chance(0.1) ? [...FAULTS, ...LOSSES] : FAULTS;
    const possible = random.chance(0.5) ? some(random, kinds, 2 + random.below(4)) : kinds;
    const lasting = random.pick(FAULTS_MS);
    const { faults = possible, faultsMs = lasting, processes = random.pick(PROCESSES) } = this.#options;
    stage.mayLose = faults.some((fault) => LOSSES.some((loss) => loss === fault));
    for (const workload of this.workloads) workload.begin?.(stage);
    stage.removable = this.workloads.flatMap(({ removable = [] }) => removable);
    for (let at = 0; at < processes; at++) this.#start();
    let quietAt = 0;
    const nextFault = (): void => {
      const fault = random.pick(faults);
      stage.struck.set(fault, (stage.struck.get(fault) ?? 0) + 1);
      const ms = strike(fault, stage, {
        killed: (process) => {
          stage.killed(process);
          this.#alive.delete(process);
          this.#running.delete(process);
          this.#start(random.chance(0.5) ? stage.leases.get(process) : undefined);
        },
        processes: () => [...this.#alive],
      });
      quietAt = Math.max(quietAt, world.nowMs + ms);
      another();
    };
    const another = (): void => {
      const next = world.nowMs + random.between(...APART_MS);
      if (next < faultsMs) world.timeline.at(next, nextFault);
    };
    if (faults.length > 0) another();
    await world.run(faultsMs);
    await world.run(Math.max(0, quietAt - world.nowMs));
    await world.run(QUIET_MS);
    stage.isStopping = true;
    const all = Promise.all(this.#running.values());
    if (!(await this.#within(HEALED_MS, all)))
      stage.violate('progress', `processes have not ended ${HEALED_MS} ms after the last fault`);
    await this.#look();
    stage.violations.push(...judge(stage));
  }

  /** What somebody new gets, and what is left. */
  async #look(): Promise<void> {
    await this.#playLast('the last');
    // What belongs to the dead goes with their leases.
    await this.#leasesToEnd();
    this.#lookForKeys(({ lingers, stays }) => [lingers, stays]);
    await this.#playLast('the very last');
    const keys = this.#lookForKeys(({ stays }) => [stays]);
    for (const workload of this.workloads) workload.looked?.(this.stage, keys);
    await this.#leasesToEnd();
    for (const { deadlineMs, id, ttlSeconds } of this.#leases())
      this.stage.violate(
        'nothing-left',
        `lease ${id.toString(16)} of ${ttlSeconds} s is left, until ${deadlineMs - 1000}`,
      );
  }

  /** Those that nobody renews; a key that is to be made once at most may be on a lease of its own. */
  async #leasesToEnd(): Promise<void> {
    await this.stage.world.run(LONGEST_LEASE_MS, () => this.#leases().length === 0);
  }

  #leases(): readonly Lease[] {
    return this.stage.world.server.member.table.byDeadline();
  }

  async #playLast(name: string): Promise<void> {
    const { stage } = this;
    const playing = actLast(stage, name, this.workloads).catch((error: unknown) =>
      stage.violate('progress', `${name} failed: ${textOf(error)}`),
    );
    if (!(await this.#within(HEALED_MS, playing)))
      stage.violate('progress', `${name} does not get what all have given back`);
  }

  /** The keys that are there; those that no workload may leave are told. */
  #lookForKeys(allowed: (workload: Workload) => readonly (RegExp | undefined)[]): string[] {
    const all = keyRange(Buffer.of(0), Buffer.of(0));
    const { store } = this.stage.world.server.member;
    const keys = store.range(all).kvs.map(({ text }) => text);
    const may = this.workloads.flatMap(allowed);
    const left = keys.filter((key) => !may.some((pattern) => pattern?.test(key)));
    if (left.length > 0) this.stage.violate('nothing-left', `keys are left: ${left.join(', ')}`);
    return keys;
  }

  /** Lets the world go on until `work` is done, for so long at most. Whether it was. */
  async #within(ms: number, work: Promise<unknown>): Promise<boolean> {
    const state = { done: false };
    work.then(
      () => (state.done = true),
      () => (state.done = true),
    );
    await this.stage.world.run(ms, () => state.done);
    return state.done;
  }

  /** Starts a process, perhaps as the next life of one that was killed. */
  #start(earlierLife?: bigint): void {
    const { stage } = this;
    const { world } = stage;
    const { random } = world;
    const clock = random.chance(0.3) ? { rate: random.between(0.98, 1.02) } : {};
    const process = world.process(`p${stage.next('process')}`, clock);
    this.#alive.add(process);
    const acting = act(stage, process, random.fork(), this.workloads, earlierLife);
    this.#running.set(
      process,
      acting.catch((error: unknown) =>
        stage.violate('unexpected-error', `${process.name}: ${textOf(error)}`),
      ),
    );
  }
}

/** Some workloads: the fewer, the more they meet on what they share. */
function choose(random: World['random'], among?: readonly string[]): readonly Workload[] {
  const from = allWorkloads().filter(({ name }) => among?.includes(name) ?? true);
  return some(random, from, 1 + random.below(3));
}

/**
 * So many of them, or all: a run of few kinds has each of them often, and meets what only some of them do together ("swarm
 * testing", Groce et al., ISSTA 2012).
 */
function some<T>(random: World['random'], all: readonly T[], count: number): readonly T[] {
  const from = [...all];
  const length = Math.min(from.length, count);
  return Array.from({ length }, () => from.splice(random.below(from.length), 1)).flat();
}

function textOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}

/** Plays a seed. */
export async function play(options: PlayOptions): Promise<Played> {
  const played = new Play(options);
  const { stage } = played;
  await using world = stage.world;
  try {
    await played.run();
  } catch (error) {
    stage.violate('unexpected-error', textOf(error));
  }
  return {
    events: world.timeline.events,
    faults: stage.struck,
    history: stage.history,
    operations: stage.operations,
    simulatedMs: world.nowMs,
    violations: stage.violations,
    workloads: played.workloads.map(({ name }) => name),
  };
}
