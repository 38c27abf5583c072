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
  /** Resolves once it watches over the group; rejects when it cannot be started. */
  readonly ready: Promise<void>;
  readonly #process: ChildProcess;
  readonly #clock: Clock;
  readonly #leftMs: () => number;
  #timer: Timer | undefined;

  /** `leftMs` says how long the group may go on from now. */
  constructor(group: number, clock: Clock, leftMs: () => number) {
    this.#clock = clock;
    this.#leftMs = leftMs;
    // Its own group and session, so that no Ctrl-C or Ctrl-Z reaches it.
    const guardian = spawn(process.execPath, [ENTRY, String(group), String(this.#deadline())], {
      cwd: '/',
      detached: true,
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#process = guardian;
    guardian.stdin.on('error', () => undefined);
    this.ready = new Promise((resolve, reject) => {
      guardian.stdout.once('data', () => resolve());
      guardian.once('error', reject);
      guardian.once('exit', (code) => reject(new Error(`the guardian process ended with ${String(code)}`)));
    });
    this.ready.catch(() => undefined);
    this.#tell();
  }

  /** The command has ended: nothing is left to guard. Resolves when the guardian is gone. */
  async dismiss(): Promise<void> {
    this.#timer?.cancel();
    const { exitCode, signalCode, pid } = this.#process;
    if (pid === undefined || exitCode !== null || signalCode !== null) return;
    const gone = new Promise((resolve) => this.#process.once('exit', resolve));
    // Killed rather than asked: there is nothing for it to finish.
    this.#process.kill('SIGKILL');
    await gone;
  }

  /** In milliseconds of the machine's clock. */
  #deadline(): number {
    return machineMs() + Math.floor(this.#leftMs());
  }

  #tell(): void {
    this.#timer = this.#clock.setTimer(TELL_EVERY_MS, () => {
      this.#process.stdin?.write(`${this.#deadline()}\n`);
      this.#tell();
    });
  }
}
