import { orAborted, sleep } from '../util/abort.js';
import type { CallOptions } from './call.js';
import type { Connection } from './connection.js';

/** Lets a write wait for watches that were opened before it. */
export interface WriteGate {
  /** Resolves when every watch opened so far exists on the server; undefined when there is nothing to wait for. */
  readonly settled: Promise<void> | undefined;
}

/** The longest a write waits for a watch that is being opened, in milliseconds. */
const GATE_MS = 1000;

/**
 * Lets the watches opened before a write see it; if they cannot be opened, the write does not wait for ever, nor for more
 * than half of its own time. Rejects with the signal's reason.
 */
export async function afterWatches(
  { settled }: WriteGate,
  connection: Connection,
  { signal, timeoutMs = connection.timeoutMs }: CallOptions,
): Promise<void> {
  if (settled === undefined) return;
  const stop = new AbortController();
  const limit = sleep(connection.clock, Math.min(GATE_MS, timeoutMs / 2), stop.signal).catch(() => undefined);
  try {
    await orAborted(Promise.race([settled, limit]), signal);
  } finally {
    stop.abort();
  }
}
