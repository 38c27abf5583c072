// Histories of registers for the tests: from lines that a person reads, and every order tried in turn.
import type { CallOutcome, HistoryRecord, RegisterOperation } from 'conclave/testing';

/** One call for a history: from where to where it lasts, what it does and what came of it. */
export interface Planned {
  readonly process: string;
  readonly from: number;
  readonly to: number;
  readonly key?: string;
  readonly operation: RegisterOperation;
  readonly outcome: CallOutcome | 'none';
}

/** The records of calls, in the order of their times, which are all different. */
export function historyOf(calls: readonly Planned[]): HistoryRecord[] {
  const records = calls.flatMap(
    ({ process, from, to, key = 'x', operation, outcome }, call): HistoryRecord[] => [
      { is: 'call', atMs: from, process, call, key, operation },
      ...(outcome === 'none' ? [] : [{ is: 'return' as const, atMs: to, process, call, outcome }]),
    ],
  );
  return records.sort((one, other) => one.atMs - other.atMs);
}

interface Cell {
  value: string | undefined;
  revision: bigint | undefined;
  floor: bigint;
}

/** Whether a call can be done to a cell with what it told; does it. As plain as can be, and nothing of the checker. */
function apply(cell: Cell, { operation, outcome }: Planned): boolean {
  const told = outcome === 'none' || outcome.is !== 'ok' ? undefined : outcome;
  const write = (value: string | undefined): boolean => {
    if (told?.revision !== undefined && told.revision <= cell.floor) return false;
    cell.floor = told?.revision ?? cell.floor;
    cell.revision = value === undefined ? 0n : told?.revision;
    cell.value = value;
    return true;
  };
  if (operation.is === 'write') return write(operation.value);
  if (operation.is === 'read') {
    if (told === undefined) return true;
    if (told.value !== cell.value) return false;
    if (told.revision === undefined || told.revision === cell.revision) return true;
    if (cell.revision !== undefined || told.revision <= cell.floor) return false;
    cell.revision = cell.floor = told.revision;
    return true;
  }
  const applies = operation.is === 'delete' ? cell.value !== undefined : operation.expected === cell.value;
  if (told?.applied !== undefined && told.applied !== applies) return false;
  return applies ? write(operation.is === 'delete' ? undefined : operation.value) : true;
}

/** Tries every order of every set of calls that holds all which are known to be done. One key only. */
export function bruteForce(calls: readonly Planned[]): boolean {
  const maybe = (call: Planned): boolean => call.outcome === 'none' || call.outcome.is === 'unknown';
  const extend = (order: readonly Planned[]): boolean => {
    const cell: Cell = { value: undefined, revision: 0n, floor: 0n };
    if (!order.every((call) => apply(cell, call))) return false;
    const rest = calls.filter(
      (call) => !order.includes(call) && !(call.outcome !== 'none' && call.outcome.is === 'void'),
    );
    if (rest.every(maybe)) return true;
    return rest.some((call) => {
      const isLate = rest.some((other) => !maybe(other) && other.to < call.from);
      return !isLate && extend([...order, call]);
    });
  };
  return extend([]);
}
