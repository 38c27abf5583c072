// Histories for the tests of the checkers: records one after another, ten milliseconds apart.
import type { HistoryRecord, Violation } from 'conclave/testing';

type Untimed<R> = R extends unknown ? Omit<R, 'atMs'> & { readonly atMs?: number } : never;
/** A record that may leave its time to its place. */
export type Draft = Untimed<HistoryRecord>;

/** Gives each record the time of its place, unless it has one. */
export function timed(...drafts: readonly Draft[]): HistoryRecord[] {
  return drafts.map((draft, at) => ({ atMs: at * 10, ...draft }));
}

/** The rules that are broken, each once, in alphabetical order. */
export function rules(violations: readonly Violation[]): string[] {
  return [...new Set(violations.map(({ rule }) => rule))].sort();
}

/** One attempt of a process to hold `x`, as drafts by name. */
export function attemptOf(process: string, attempt: number, name = 'x') {
  const base = { attempt, name, process };
  return {
    acquire: { ...base, is: 'acquire' },
    queued: (createRevision: bigint) => ({ ...base, createRevision, is: 'queued' }) as const,
    held: (token: bigint) => ({ ...base, is: 'held', token }) as const,
    gaveUp: { ...base, is: 'gaveUp' },
    lossSignal: { ...base, is: 'lossSignal' },
    release: { ...base, is: 'release' },
    write: (revision: bigint | undefined) => ({ ...base, is: 'guardedWrite', revision }) as const,
    gone: (revision?: bigint) =>
      ({ ...base, is: 'gone', ...(revision === undefined ? {} : { revision }) }) as const,
  } as const;
}
