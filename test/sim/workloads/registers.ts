/** Keys that are written and read by single calls, one of them at a time guarded by a compare. */
import { compare, ConclaveError, op } from 'conclave';
import type { CallOutcome, RegisterOperation } from 'conclave/testing';

import { known, type Seat, type Workload } from '../workload.js';

const KEYS = ['r/a', 'r/b'];

type Done = Extract<CallOutcome, { is: 'ok' }>;

/** Writes a value if the key still has the one that was read. */
async function compareAndSet(
  seat: Seat,
  key: string,
  expected: string | undefined,
  value: string,
): Promise<Done> {
  const is = expected === undefined ? compare.version(key, '=', 0n) : compare.value(key, '=', expected);
  const { revision, succeeded } = await seat.client.kv.txn({ if: [is], then: [op.put(key, value)] });
  return { applied: succeeded, is: 'ok', ...(succeeded ? { revision } : {}) };
}

async function call(seat: Seat, key: string, seen: Map<string, string | undefined>): Promise<void> {
  const { client, process, random, stage } = seat;
  stage.operations += 1;
  const number = stage.next('call');
  const value = `${process.name}-${number}`;
  const what = random.below(8);
  const expected = seen.get(key);
  let operation: RegisterOperation;
  let run: () => Promise<Done>;
  if (what < 4) {
    operation = { is: 'read' };
    run = async () => {
      const kv = await client.kv.get(key);
      seen.set(key, kv?.string());
      return { is: 'ok', revision: kv?.modRevision ?? 0n, value: kv?.string() };
    };
  } else if (what < 6) {
    operation = { is: 'write', value };
    run = async () => ({ is: 'ok', revision: (await client.kv.put(key, value)).revision });
  } else if (what < 7) {
    operation = { expected, is: 'compareAndSet', value };
    run = () => compareAndSet(seat, key, expected, value);
  } else {
    operation = { is: 'delete' };
    run = async () => {
      const { deleted, revision } = await client.kv.delete(key);
      return { applied: deleted > 0n, is: 'ok', ...(deleted > 0n ? { revision } : {}) };
    };
  }
  seat.note({ call: number, is: 'call', key, operation });
  let outcome: CallOutcome;
  try {
    outcome = await run();
  } catch (error) {
    known(error);
    const isUnknown = error instanceof ConclaveError && error.code === 'UNKNOWN_OUTCOME';
    outcome = { is: isUnknown && operation.is !== 'read' ? 'unknown' : 'void' };
  }
  seat.note({ call: number, is: 'return', outcome });
}

export const registers: Workload = {
  name: 'registers',
  stays: /^r\//,
  join: (seat) => {
    const seen = new Map<string, string | undefined>();
    return { step: () => call(seat, seat.random.pick(KEYS), seen) };
  },
};
