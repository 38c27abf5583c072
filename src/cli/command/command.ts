/** A command that is run while something is held: how it is started, signalled, and stopped with all that it has started. */
import { type ChildProcess, spawn } from 'node:child_process';

import { sleep } from '../../util/abort.js';
import type { Clock } from '../../util/clock.js';
import { Deferred } from '../../util/deferred.js';
import { EXIT } from '../exit-codes.js';
import { signalExitCode } from '../signals.js';
import { CommandProcesses, killAll, type Survivor } from './command-processes.js';
import { commandStdio } from './descriptors.js';

/** How often what was asked to end is looked at. */
const LOOK_EVERY_MS = 50;

/** A command, in a process group of its own (and a session, as setsid makes one): Ctrl-C in the terminal reaches it only through us. */
export class Command {
  /**
   * Resolves with the exit code once the command itself has ended: 127 when there is no such command, 126 when it cannot
   * be run, both after a line on stderr. Never rejects.
   */
  readonly ended: Promise<number>;
  /** Undefined when it could not be started. */
  readonly pid: number | undefined;
  readonly #child: ChildProcess | undefined;
  readonly #clock: Clock;
  readonly #processes: CommandProcesses;

  /** Starts it. `env` holds its mark among MARKS. */
  constructor(command: readonly string[], setup: { env: NodeJS.ProcessEnv; mark: string; clock: Clock }) {
    const { env, mark, clock } = setup;
    this.#clock = clock;
    const [file = '', ...args] = command;
    const ended = new Deferred<number>();
    this.ended = ended.promise;
    const failed = (error: unknown): void => ended.resolve(cannotRun(file, error as NodeJS.ErrnoException));
    try {
      this.#child = spawn(file, args, { detached: true, env, stdio: commandStdio() });
      this.#child.once('error', failed);
      this.#child.once('exit', (code, signal) => {
        ended.resolve(signal === null ? (code ?? EXIT.internal) : signalExitCode(signal));
      });
    } catch (error) {
      failed(error);
    }
    this.pid = this.#child?.pid;
    this.#processes = new CommandProcesses(mark, this.pid);
  }

  /** Sends a signal to every process of the group. */
  signal(name: NodeJS.Signals): void {
    // Without a pid nothing was started; 0 or -0 would mean our own group.
    if (!this.pid) return;
    try {
      process.kill(-this.pid, name);
    } catch {
      // It has ended, or has become another user's.
    }
  }

  /**
   * Ends the command and all it has started: SIGTERM, and SIGKILL for what is left after `graceMs`. Resolves when none is
   * left, or with those that cannot be ended; from then on the command does not keep this process running.
   */
  async stop(graceMs: number): Promise<readonly Survivor[]> {
    const killAt = this.#clock.now() + graceMs;
    if (graceMs > 0) {
      this.#processes.ask();
      while (this.#processes.look().length > 0 && this.#clock.now() < killAt) {
        await sleep(this.#clock, Math.min(LOOK_EVERY_MS, Math.max(0, killAt - this.#clock.now())));
      }
    }
    const survivors = await killAll(this.#processes, this.#clock);
    this.#child?.unref();
    return survivors;
  }
}

/** Says why the command could not be started, as a shell does; returns the exit code. */
function cannotRun(file: string, { code = 'unknown error' }: NodeJS.ErrnoException): number {
  if (code === 'ENOENT') {
    console.error(`conclave: ${file}: not found`);
    return EXIT.notFound;
  }
  const why = code === 'E2BIG' ? 'its arguments and environment are too large (E2BIG)' : code;
  console.error(`conclave: ${file}: cannot be run: ${why}`);
  return EXIT.notExecutable;
}
