import { type ChildProcess, spawn } from 'node:child_process';

import { sleep } from '../util/abort.js';
import type { Clock } from '../util/clock.js';
import { EXIT } from './exit-codes.js';
import { signalExitCode } from './signals.js';

/** How often a group that was told to end is looked at. */
const LOOK_EVERY_MS = 20;

/**
 * A command and all it starts: a process group of its own (and a session, as setsid makes one), so that all of it can
 * be signalled at once. Ctrl-C in the terminal therefore reaches it only through us.
 */
export class CommandGroup {
  /** Resolves with the exit code once the command itself has ended; never rejects. */
  readonly ended: Promise<number>;
  readonly #child: ChildProcess;
  readonly #clock: Clock;

  /** Starts the command. One that cannot be started has `ended` with 126 or 127, after a line on stderr. */
  constructor(command: readonly string[], env: NodeJS.ProcessEnv, clock: Clock) {
    const [file = '', ...args] = command;
    this.#clock = clock;
    this.#child = spawn(file, args, { detached: true, env, stdio: 'inherit' });
    this.ended = new Promise((resolve) => {
      this.#child.once('error', (error: NodeJS.ErrnoException) => {
        if (this.#child.pid !== undefined) return;
        const missing = error.code === 'ENOENT';
        console.error(
          `conclave: ${missing ? 'no such command' : 'cannot run'}: ${file} (${error.code ?? error.message})`,
        );
        resolve(missing ? EXIT.notFound : EXIT.notExecutable);
      });
      this.#child.once('exit', (code, signal) => {
        resolve(signal === null ? (code ?? EXIT.internal) : signalExitCode(signal));
      });
    });
  }

  /** The process group's id; undefined when the command could not be started. */
  get id(): number | undefined {
    return this.#child.pid;
  }

  /** Sends a signal to every process of the group; says whether there was one. */
  signal(name: NodeJS.Signals | 0): boolean {
    // Without a pid nothing was started; 0 or -0 would mean our own group.
    if (!this.id) return false;
    try {
      return process.kill(-this.id, name);
    } catch (error) {
      // EPERM: there is a process left, but it changed its user.
      return (error as NodeJS.ErrnoException).code === 'EPERM';
    }
  }

  /** Ends every process of the group: SIGTERM, and SIGKILL for what is left after `graceMs`. Resolves when none is left. */
  async stop(graceMs: number): Promise<void> {
    const killAt = this.#clock.now() + graceMs;
    if (graceMs > 0) {
      this.signal('SIGTERM');
      // A stopped process acts on SIGTERM only when it runs again.
      this.signal('SIGCONT');
      while (this.signal(0) && this.#clock.now() < killAt) await sleep(this.#clock, LOOK_EVERY_MS);
    }
    this.signal('SIGKILL');
    await this.ended;
  }
}
