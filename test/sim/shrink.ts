/** Finds a smaller run of the same seed that breaks a rule, too. */
import type { HistoryRecord } from 'conclave/testing';

import { type Played, play, type PlayOptions } from './play.js';

/** A record as a line. */
export function asText(record: HistoryRecord): string {
  return JSON.stringify(record, (_, value: unknown) => (typeof value === 'bigint' ? String(value) : value));
}

/** The smallest run that was found. */
export interface Shrunk {
  readonly played: Played;
  /** What it is played with, in words. */
  readonly what: string;
}

/** Fewer processes, workloads, and kinds of faults, less time: each for as long as a rule is still broken. */
export async function shrink(seed: number, among?: readonly string[]): Promise<Shrunk> {
  let options: PlayOptions = { among, seed };
  let played = await play(options);
  const attempt = async (smaller: PlayOptions): Promise<boolean> => {
    const result = await play(smaller);
    if (result.violations.length === 0) return false;
    options = smaller;
    played = result;
    return true;
  };
  for (const processes of [1, 2, 3]) if (await attempt({ ...options, processes })) break;
  for (const name of played.workloads) {
    const workloads = (options.workloads ?? played.workloads).filter((each) => each !== name);
    if (workloads.length > 0) await attempt({ ...options, workloads });
  }
  for (const fault of played.faults.keys()) {
    const { faults = [...played.faults.keys()] } = options;
    await attempt({ ...options, faults: faults.filter((each) => each !== fault) });
  }
  for (const faultsMs of [1000, 2000, 4000]) if (await attempt({ ...options, faultsMs })) break;
  const { faults = [...played.faults.keys()], faultsMs, processes } = options;
  const parts = [
    processes === undefined ? 'all its processes' : `${processes} processes`,
    played.workloads.join(', '),
    `faults: ${faults.join(', ') || 'none'}`,
    ...(faultsMs === undefined ? [] : [`${faultsMs} ms of them`]),
  ];
  return { played, what: parts.join('; ') };
}
