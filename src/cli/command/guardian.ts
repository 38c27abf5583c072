/**
 * Our side of a small process that ends a command, with all that it has started, when we cannot: killed, crashed, or
 * stopped (SIGSTOP, Ctrl-Z) for longer than the hold lasts. It is told, again and again, until when the hold lasts at
 * least. One that dies is replaced at once.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

import type { Clock, Timer } from '../../util/clock.js';
import { Deferred } from '../../util/deferred.js';

const ENTRY = fileURLToPath(new URL('./guardian-process.js', import.meta.url));
/** How often the guardian hears of the deadline, at the least. */
const TELL_EVERY_MS = 500;
/** How many in a row may be killed before they watch. */
const TRIES = 5;

/** Milliseconds of the machine's monotonic clock, which all processes share. */
export function machineMs(): number {
  return Number(process.hrtime.bigint() / 1_000_000n);
}

/** What a guardian is for. */
export interface GuardianSetup {
  /** The command's mark, by which it is found before its process id is known. */
  readonly mark: string;
  readonly clock: Clock;
  /** How long the command may go on from now. */
  readonly leftMs: () => number;
}

type State =
  | { readonly is: 'starting'; readonly process: ChildProcess; readonly tries: number }
  | { readonly is: 'watching'; readonly process: ChildProcess }
  | { readonly is: 'failed' }
  | { readonly is: 'dismissed' };

export class Guardian {
  /** Rejects when there is no guardian and none can be started. Never resolves. */
  readonly failed: Promise<never>;
  readonly #setup: GuardianSetup;
  readonly #failure = new Deferred<never>();
  readonly #ready = new Deferred<void>();
  #command: number | undefined;
  /** Whatever the hold might last. */
  #latest = Infinity;
  #state: State = { is: 'dismissed' };
  #timer: Timer | undefined;

  /** Resolves once it watches; rejects when it cannot be started. */
  static async start(setup: GuardianSetup): Promise<Guardian> {
    const guardian = new Guardian(setup);
    await Promise.race([guardian.#ready.promise, guardian.failed]);
    return guardian;
  }

  private constructor(setup: GuardianSetup) {
    this.#setup = setup;
    this.failed = this.#failure.promise;
    this.#tellLater();
    this.#start(1);
  }

  /** From now on it knows the command by its process id, too. */
  watchOver(pid: number): void {
    this.#command = pid;
    this.#write(`command ${pid}`);
  }

  /** The hold is gone: tells it to leave the command `leftMs` at most from now. */
  hurry(leftMs: number): void {
    this.#latest = Math.min(this.#latest, machineMs() + Math.floor(leftMs));
    this.#write(`deadline ${this.#deadline()}`);
  }

  /** The command has ended: nothing is left to guard. Resolves when the guardian is gone. */
  async dismiss(): Promise<void> {
    const before = this.#state;
    this.#state = { is: 'dismissed' };
    this.#timer?.cancel();
    if (before.is !== 'starting' && before.is !== 'watching') return;
    const { exitCode, signalCode, pid } = before.process;
    if (pid === undefined || exitCode !== null || signalCode !== null) return;
    const gone = new Promise((resolve) => before.process.once('exit', resolve));
    // Killed rather than asked: there is nothing for it to finish.
    before.process.kill('SIGKILL');
    await gone;
  }

  /** In milliseconds of the machine's clock. */
  #deadline(): number {
    return Math.min(this.#latest, machineMs() + Math.floor(this.#setup.leftMs()));
  }

  #start(tries: number): void {
    try {
      this.#state = { is: 'starting', process: this.#launch(), tries };
    } catch (error) {
      this.#fail(error);
    }
  }

  #fail(error: unknown): void {
    this.#state = { is: 'failed' };
    this.#timer?.cancel();
    this.#failure.reject(error);
  }

  #launch(): ChildProcess {
    const known = this.#command === undefined ? [] : [String(this.#command)];
    // Its own group and session, so that no Ctrl-C or Ctrl-Z reaches it.
    const guardian = spawn(process.execPath, [ENTRY, this.#setup.mark, String(this.#deadline()), ...known], {
      cwd: '/',
      detached: true,
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    guardian.once('error', (error) => this.#ended(guardian, error));
    guardian.once('exit', (code, signal) => {
      this.#ended(guardian, new Error(`the guardian process ended with ${String(signal ?? code)}`), code);
    });
    // Without a descriptor left there are no pipes; the error follows.
    (guardian.stdin as typeof guardian.stdin | undefined)?.on('error', () => undefined);
    (guardian.stdout as typeof guardian.stdout | undefined)?.once('data', () => this.#watches(guardian));
    return guardian;
  }

  #watches(guardian: ChildProcess): void {
    if (this.#state.is !== 'starting' || this.#state.process !== guardian) return;
    this.#state = { is: 'watching', process: guardian };
    this.#ready.resolve();
    // It may have been started before the command was.
    if (this.#command !== undefined) this.#write(`command ${this.#command}`);
  }

  /** One that watched, or was killed, is replaced; one that fails by itself would fail again. */
  #ended(guardian: ChildProcess, error: Error, code?: number | null): void {
    const state = this.#state;
    if (state.is === 'dismissed' || state.is === 'failed' || state.process !== guardian) return;
    // Its work is done: the deadline has passed, and the command is no more.
    if (code === 0) this.#state = { is: 'dismissed' };
    else if (state.is === 'watching') this.#start(1);
    else if (code === null && state.tries < TRIES) this.#start(state.tries + 1);
    else this.#fail(error);
  }

  #tellLater(): void {
    this.#timer = this.#setup.clock.setTimer(TELL_EVERY_MS, () => {
      this.#write(`deadline ${this.#deadline()}`);
      this.#tellLater();
    });
  }

  #write(line: string): void {
    if (this.#state.is === 'starting' || this.#state.is === 'watching') {
      this.#state.process.stdin?.write(`${line}\n`);
    }
  }
}
