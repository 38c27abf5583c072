// The calls of a history by key, and what each of them does to a register: what linearizability.ts searches through.
import type { CallOutcome, HistoryRecord, RecordOf, RegisterOperation } from './history.js';

/** One call that may have been done. */
export interface RegisterCall {
  readonly operation: RegisterOperation;
  /** Undefined: nobody knows what came of it. */
  readonly outcome: Extract<CallOutcome, { is: 'ok' }> | undefined;
  /** Where in the history it was called, and where it returned: Infinity if it may still be under way. */
  readonly calledAt: number;
  readonly returnedAt: number;
  readonly records: readonly HistoryRecord[];
}

/** What a register holds. */
export interface RegisterState {
  readonly value: string | undefined;
  /** Of the write that made it; undefined: not known. */
  readonly revision: bigint | undefined;
  /** The highest revision that is known to be past. */
  readonly floor: bigint;
  /** A write of unknown outcome made it, and nothing has depended on that yet. */
  readonly isUnseen: boolean;
}

/** All calls that may have had an effect or told something, by key, in the order in which they were called. */
export function callsByKey(history: readonly HistoryRecord[]): Map<string, RegisterCall[]> {
  const returns = new Map<number, { at: number; record: RecordOf<'return'> }>();
  for (const [at, record] of history.entries())
    if (record.is === 'return') returns.set(record.call, { at, record });
  const byKey = new Map<string, RegisterCall[]>();
  for (const [calledAt, record] of history.entries()) {
    if (record.is !== 'call') continue;
    const end = returns.get(record.call);
    const told = end?.record.outcome ?? { is: 'unknown' };
    if (told.is === 'void' || (told.is === 'unknown' && record.operation.is === 'read')) continue;
    const outcome = told.is === 'ok' ? told : undefined;
    const calls = byKey.get(record.key) ?? [];
    byKey.set(record.key, calls);
    calls.push({
      operation: record.operation,
      outcome,
      calledAt,
      returnedAt: outcome === undefined || end === undefined ? Infinity : end.at,
      records: end === undefined ? [record] : [record, end.record],
    });
  }
  return byKey;
}

/** The state after a call, if it can have been done in this one with what it told; undefined if it cannot. */
export function after(state: RegisterState, { operation, outcome }: RegisterCall): RegisterState | undefined {
  switch (operation.is) {
    case 'read':
      return outcome?.value === state.value ? read(state, outcome?.revision) : undefined;
    case 'write':
      // One that may never have been done is left out where nothing depends on it: that is the same history.
      return state.isUnseen ? undefined : written(state, operation.value, outcome);
    case 'delete': {
      const existed = state.value !== undefined;
      if (outcome?.applied !== undefined && outcome.applied !== existed) return undefined;
      if (!existed) return outcome === undefined ? undefined : seen(state);
      if (state.isUnseen && outcome?.applied === undefined) return undefined;
      return written(state, undefined, outcome);
    }
    case 'compareAndSet': {
      const matches = operation.expected === state.value;
      if (outcome?.applied !== undefined && outcome.applied !== matches) return undefined;
      if (matches) return written(state, operation.value, outcome);
      return outcome === undefined ? undefined : seen(state);
    }
  }
}

function seen(state: RegisterState): RegisterState {
  return state.isUnseen ? { ...state, isUnseen: false } : state;
}

function read(state: RegisterState, told: bigint | undefined): RegisterState | undefined {
  if (told === undefined || state.revision === told) return seen(state);
  if (state.value === undefined) return told === 0n ? seen(state) : undefined;
  if (state.revision !== undefined || told <= state.floor) return undefined;
  return { ...state, revision: told, floor: told, isUnseen: false };
}

function written(
  state: RegisterState,
  value: string | undefined,
  outcome: RegisterCall['outcome'],
): RegisterState | undefined {
  const revision = outcome?.revision;
  if (revision !== undefined && revision <= state.floor) return undefined;
  return {
    value,
    revision: value === undefined ? 0n : revision,
    floor: revision ?? state.floor,
    isUnseen: outcome === undefined,
  };
}
