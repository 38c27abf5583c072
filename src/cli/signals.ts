import { constants } from 'node:os';

/** What asks a command to end. */
export const ENDING = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'] as const;

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

/** A signal that aborts, with an Interrupted, when this process is asked to end or nobody reads what it prints any more. */
export function interruption(): Disposable & { readonly signal: AbortSignal } {
  const controller = new AbortController();
  const stop = onSignals(ENDING, (name) => controller.abort(new Interrupted(name)));
  // Node leaves SIGPIPE out: the write fails instead.
  const unread = (): void => controller.abort(new Interrupted('SIGPIPE'));
  process.stdout.once('error', unread);
  return {
    signal: controller.signal,
    [Symbol.dispose]() {
      stop[Symbol.dispose]();
      process.stdout.off('error', unread);
    },
  };
}
