/** The signals this process gets, and who hears of them: one owner at a time. */
import { constants } from 'node:os';

import { systemClock } from '../util/clock.js';

/** What asks a command to end. */
export const ENDING = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'] as const;
/** What means nothing to us, and must not end us (or, as SIGUSR1 does, open Node's debugger). */
const NEWS = ['SIGUSR1', 'SIGUSR2', 'SIGWINCH'] as const;
/** npm and a terminal both pass on one Ctrl-C: what comes so soon after the first is the first again. */
const ECHO_MS = 300;

/** The process was asked to end. */
export class Interrupted extends Error {
  override readonly name = 'Interrupted';
  readonly signal: NodeJS.Signals;

  constructor(signal: NodeJS.Signals) {
    super(`ended by ${signal}`);
    this.signal = signal;
  }

  get exitCode(): number {
    return signalExitCode(this.signal);
  }
}

/** The exit code that tells of a signal, as in a shell. */
export function signalExitCode(signal: NodeJS.Signals): number {
  return 128 + constants.signals[signal];
}

/** Calls `react` for each of the signals this process gets, until it is disposed of. */
export function onSignals(
  names: readonly NodeJS.Signals[],
  react: (signal: NodeJS.Signals) => void,
): Disposable {
  for (const name of names) process.on(name, react);
  return {
    [Symbol.dispose]() {
      for (const name of names) process.off(name, react);
    },
  };
}

type Owner =
  | { readonly is: 'us' }
  | { readonly is: 'us, ending'; readonly since: number }
  | { readonly is: 'command'; readonly pass: (signal: NodeJS.Signals) => void };

/**
 * Takes this process's signals, until it is disposed of. The first that asks to end aborts `signal`, and so does that
 * nobody reads what we print any more, with an Interrupted; a later one ends the process at once, with 128 + its number.
 */
export class Interruption implements Disposable {
  readonly #controller = new AbortController();
  readonly #listening = [
    onSignals(ENDING, (name) => this.#asked(name)),
    onSignals(NEWS, (name) => this.#owner.is === 'command' && this.#owner.pass(name)),
  ];
  #owner: Owner = { is: 'us' };
  // Node leaves SIGPIPE out: the write fails instead.
  readonly #unread = (): void => this.#controller.abort(new Interrupted('SIGPIPE'));

  constructor() {
    process.stdout.once('error', this.#unread);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Until what it returns is disposed of, signals are the command's: `pass` hears of each, and nobody else. */
  passTo(pass: (signal: NodeJS.Signals) => void): Disposable {
    const before = this.#owner;
    this.#owner = { is: 'command', pass };
    return { [Symbol.dispose]: () => (this.#owner = before) };
  }

  [Symbol.dispose](): void {
    for (const each of this.#listening) each[Symbol.dispose]();
    process.stdout.off('error', this.#unread);
  }

  #asked(name: NodeJS.Signals): void {
    const owner = this.#owner;
    if (owner.is === 'command') owner.pass(name);
    else if (owner.is === 'us') {
      this.#owner = { is: 'us, ending', since: systemClock.now() };
      this.#controller.abort(new Interrupted(name));
    } else if (systemClock.now() - owner.since > ECHO_MS) process.exit(signalExitCode(name));
  }
}
