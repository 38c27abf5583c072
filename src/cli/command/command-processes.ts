/**
 * All that a command has started, found in the process table: what is in its process group or session, what one of these
 * has started, what is in the session of any of them, and what carries the command's mark in its environment, wherever it
 * has gone. What was found once stays known.
 *
 * Not found: who left the session, whose parent has ended, and who dropped or overwrote its environment; what another
 * process was asked to start (docker, systemd-run, at), here or on another machine. Found, but not ended: processes of
 * another user (sudo).
 */
import { randomUUID } from 'node:crypto';

import { sleep } from '../../util/abort.js';
import type { Clock } from '../../util/clock.js';
import { type ProcessEntry, readEnvironment, readProcess, readProcesses } from './process-table.js';

/** The marks of all commands that a process belongs to: one, or with `conclave` below `conclave` several, the outermost first. */
export const MARKS = 'CONCLAVE_COMMANDS';
const BETWEEN = ',';

/** How often what was killed is looked at. */
const LOOK_EVERY_MS = 20;
/** How long one that was killed may take to be gone; the system may have to wait for a disk. */
const DYING_MS = 2000;

/** A mark for a new command. */
export function newMark(): string {
  return randomUUID();
}

/** What MARKS is to be for a command of this mark, started from here. */
export function marksWith(mark: string, env: NodeJS.ProcessEnv): string {
  const outer = env[MARKS];
  return outer === undefined || outer === '' ? mark : `${outer}${BETWEEN}${mark}`;
}

/** A process that could not be ended, and the system's reason. */
export interface Survivor {
  readonly pid: number;
  /** As in `EPERM`; undefined: it was told to end, and is still there. */
  readonly refusal: string | undefined;
}

export class CommandProcesses {
  /** The command itself; undefined while it has not been started. */
  leader: number | undefined;
  readonly #mark: string;
  /** Of every process that was found: when it started. */
  readonly #known = new Map<number, string>();
  readonly #sessions = new Set<number>();
  readonly #groups = new Set<number>();
  /** Our own place, which is never the command's. */
  readonly #self = readProcess(process.pid);

  constructor(mark: string, leader?: number) {
    this.#mark = mark;
    this.leader = leader;
  }

  /** Those that run now. */
  look(): readonly ProcessEntry[] {
    const all = readAll(this.leader);
    if (this.leader !== undefined) {
      this.#sessions.add(this.leader);
      this.#groups.add(this.leader);
    }
    for (const entry of all) {
      if (this.#isKnown(entry) || entry.pid === this.leader || this.#carriesMark(entry.pid))
        this.#take(entry);
    }
    // Until nothing is added: a table is not sorted by who started whom.
    for (let found = -1, mine = this.#among(all); found !== mine.size; mine = this.#among(all)) {
      found = mine.size;
      for (const entry of all) if (mine.has(entry.parent) || this.#isNear(entry)) this.#take(entry);
    }
    return all.filter((entry) => this.#isKnown(entry));
  }

  /**
   * Asks them to end: SIGTERM, once for each. Whoever leads a group of its own (timeout) hands it on to its group, and
   * a conclave to its command, so those are not asked twice: many a program takes the second for "at once".
   */
  ask(): void {
    const found = this.look();
    const pids = new Set(found.map((entry) => entry.pid));
    for (const entry of found) {
      const own = entry.group === this.leader;
      if (!own && entry.group !== entry.pid && pids.has(entry.group)) continue;
      if (!this.#hasInnerConclave(entry.pid)) send(entry.pid, 'SIGTERM');
    }
    // A stopped process acts on SIGTERM only when it runs again.
    for (const { pid } of found) send(pid, 'SIGCONT');
  }

  /**
   * Kills them (SIGKILL). Says who was there; most of them will be gone in a moment. All are stopped first, so that none
   * acts on the end of another: a shell would go on to its next command, an inner conclave's guardian ask once more.
   */
  kill(): readonly Survivor[] {
    const found = this.look();
    for (const { pid } of found) send(pid, 'SIGSTOP');
    return found.map(({ pid }) => ({ pid, refusal: send(pid, 'SIGKILL') }));
  }

  #isKnown(entry: ProcessEntry): boolean {
    return this.#known.get(entry.pid) === entry.started;
  }

  #take({ pid, session, group, started }: ProcessEntry): void {
    if (pid === process.pid) return;
    this.#known.set(pid, started);
    if (session !== 0 && session !== this.#self?.session) this.#sessions.add(session);
    if (group !== this.#self?.group) this.#groups.add(group);
  }

  /** The ids of the known ones. */
  #among(all: readonly ProcessEntry[]): ReadonlySet<number> {
    return new Set(all.filter((entry) => this.#isKnown(entry)).map(({ pid }) => pid));
  }

  /** Whether it is where one of ours is, or was. */
  #isNear({ session, group }: ProcessEntry): boolean {
    return this.#sessions.has(session) || this.#groups.has(group);
  }

  #carriesMark(pid: number): boolean {
    return readEnvironment(pid).includes(this.#mark);
  }

  /** Whether it runs under another conclave, which our command has started. */
  #hasInnerConclave(pid: number): boolean {
    return readEnvironment(pid).includes(`${this.#mark}${BETWEEN}`);
  }
}

/** Kills a command's processes until none is left. Resolves with those that cannot be killed. */
export async function killAll(processes: CommandProcesses, clock: Clock): Promise<readonly Survivor[]> {
  const giveUpAt = clock.now() + DYING_MS;
  for (;;) {
    const left = processes.kill().filter(({ refusal }) => refusal !== 'ESRCH');
    if (left.every(({ refusal }) => refusal !== undefined) || clock.now() > giveUpAt) return left;
    await sleep(clock, LOOK_EVERY_MS);
  }
}

/** Survivors in words. */
export function survivorsText(survivors: readonly Survivor[]): string {
  return survivors.map(({ pid, refusal }) => `${pid} (${refusal ?? 'killed, and still there'})`).join(', ');
}

/** The process table; where it cannot be read, the command alone, as far as a signal can tell. */
function readAll(leader: number | undefined): readonly ProcessEntry[] {
  try {
    return readProcesses();
  } catch {
    if (leader === undefined || send(leader, 0) === 'ESRCH') return [];
    return [
      { foreground: -1, group: leader, parent: process.pid, pid: leader, session: leader, started: '' },
    ];
  }
}

/** Sends a signal; returns why it could not be sent. */
function send(pid: number, name: NodeJS.Signals | 0): string | undefined {
  try {
    process.kill(pid, name);
    return undefined;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? 'unknown error';
  }
}
