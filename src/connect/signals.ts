/** Ending in order when the process is asked to end. */
import process from 'node:process';

const SIGNALS = ['SIGTERM', 'SIGINT'] as const;

/**
 * Calls `end` at the first of the signals, once, and then lets the signal do what it does to a process that does not listen,
 * unless others listen, too. Returns how to stop listening.
 */
export function onSignals(end: () => Promise<void>): () => void {
  const stop = (): void => {
    for (const signal of SIGNALS) process.removeListener(signal, listener);
  };
  const listener = (signal: NodeJS.Signals): void => {
    // From here on a second one ends the process at once.
    stop();
    void end().finally(() => {
      if (process.listenerCount(signal) === 0) process.kill(process.pid, signal);
    });
  };
  for (const signal of SIGNALS) process.on(signal, listener);
  return stop;
}
