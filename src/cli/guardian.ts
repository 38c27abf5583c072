import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

import type { Clock, Timer } from '../util/clock.js';

const ENTRY = fileURLToPath(new URL('./guardian-process.js', import.meta.url));
/** How often the guardian hears of the deadline, at the least. */
const TELL_EVERY_MS = 500;

/** Milliseconds of the machine's monotonic clock, which all processes share. */
export function machineMs(): number {
  return Number(process.hrtime.bigint() / 1_000_000n);
}

/**
 * Our side of a small process that ends a command's process group when we cannot: killed, crashed, or stopped (SIGSTOP,
 * Ctrl-Z) for longer than the hold lasts. It is told, again and again, until when the hold lasts at least.
 */
export class Guardian {
  readonly #process: ChildProcess;
  readonly #clock: Clock;
  readonly #leftMs: () => number;
  #timer: Timer | undefined;

  /** `leftMs` says how long the group may go on from now. */
  constructor(group: number, clock: Clock, leftMs: () => number) {
    this.#clock = clock;
    this.#leftMs = leftMs;
    // Its own group and session, so that no Ctrl-C or Ctrl-Z reaches it.
    this.#process = spawn(process.execPath, [ENTRY, String(group)], {
      cwd: '/',
      detached: true,
      stdio: ['pipe', 'ignore', 'inherit'],
    });
    this.#process.on('error', (error) => console.error(`conclave: no guardian: ${error.message}`));
    this.#process.stdin?.on('error', () => undefined);
    this.#tell();
  }

  /** The command has ended: nothing is left to guard. Resolves when the guardian is gone. */
  async dismiss(): Promise<void> {
    this.#timer?.cancel();
    const { exitCode, signalCode, pid } = this.#process;
    if (pid === undefined || exitCode !== null || signalCode !== null) return;
    const gone = new Promise((resolve) => this.#process.once('exit', resolve));
    // Killed rather than asked: it may not even have started, and there is nothing for it to finish.
    this.#process.kill('SIGKILL');
    await gone;
  }

  #tell(): void {
    this.#process.stdin?.write(`${machineMs() + Math.floor(this.#leftMs())}\n`);
    this.#timer = this.#clock.setTimer(TELL_EVERY_MS, () => this.#tell());
  }
}
