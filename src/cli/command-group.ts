import { type ChildProcess, spawn } from 'node:child_process';
import type { Writable } from 'node:stream';

import { sleep } from '../util/abort.js';
import type { Clock } from '../util/clock.js';
import { EXIT } from './exit-codes.js';
import { signalExitCode } from './signals.js';

/** How often a group that was told to end is looked at. */
const LOOK_EVERY_MS = 20;

/** Waits for a line on descriptor 3, then becomes the command. If whoever was to write it is dead, it ends. */
const GATE = 'read -r go <&3 || exit 125; exec 3<&-; exec "$@"';

/**
 * A command and all it starts: a process group of its own (and a session, as setsid makes one), so that all of it can
 * be signalled at once. Ctrl-C in the terminal therefore reaches it only through us.
 */
export class CommandGroup {
  /**
   * Resolves with the exit code once the command itself has ended: 127 when there is no such command, 126 when it cannot
   * be run, both after a line on stderr. Never rejects.
   */
  readonly ended: Promise<number>;
  readonly #child: ChildProcess;
  readonly #clock: Clock;

  /** Prepares the command; it runs when `go` is called. */
  constructor(command: readonly string[], env: NodeJS.ProcessEnv, clock: Clock) {
    this.#clock = clock;
    this.#child = spawn('/bin/sh', ['-c', GATE, 'conclave', ...command], {
      detached: true,
      env,
      stdio: ['inherit', 'inherit', 'inherit', 'pipe'],
    });
    this.#gate?.on('error', () => undefined);
    this.ended = new Promise((resolve) => {
      this.#child.once('error', (error) => {
        if (this.id !== undefined) return;
        console.error(`conclave: cannot run /bin/sh: ${error.message}`);
        resolve(EXIT.notExecutable);
      });
      this.#child.once('exit', (code, signal) => {
        resolve(signal === null ? (code ?? EXIT.internal) : signalExitCode(signal));
      });
    });
  }

  /** Lets the command run. */
  go(): void {
    this.#gate?.end('\n');
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

  get #gate(): Writable | undefined {
    return this.#child.stdio[3] as Writable | undefined;
  }
}
