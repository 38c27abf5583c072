/** Keys that are written and read by calls on single keys, alone and several at once; none takes longer than it may. */
import { type CallOptions, compare, ConclaveError, op } from 'conclave';
import type { CallOutcome, RegisterOperation } from 'conclave/testing';

import type { Stage } from '../stage.js';
import { known, type Seat, USUAL_MS, type Workload } from '../workload.js';

const KEYS = ['r/a', 'r/b'];
/** What a call may take beyond its limit: the event loop may be busy. */
const LATE_MS = 150;

/** The client's own limit counts from when a write is sent: it waits so long for watches that were asked for before it. */
const GATE_MS = 1000;

type Done = Extract<CallOutcome, { is: 'ok' }>;
type Known = Map<string, string | undefined>;

/** A call on a register, and how it is made. */
interface Call {
  readonly operation: RegisterOperation;
  readonly run: (limits: CallOptions) => Promise<Done>;
}

function read({ client }: Seat, key: string, seen: Known): Call {
  return {
    operation: { is: 'read' },
    run: async (limits) => {
      const kv = await client.kv.get(key, limits);
      seen.set(key, kv?.string());
      return { is: 'ok', revision: kv?.modRevision ?? 0n, value: kv?.string() };
    },
  };
}

function remove({ client }: Seat, key: string): Call {
  return {
    operation: { is: 'delete' },
    run: async (limits) => {
      const { deleted, revision } = await client.kv.delete(key, limits);
      return { applied: deleted > 0n, is: 'ok', ...(deleted > 0n ? { revision } : {}) };
    },
  };
}

/** Writes a value if the key still has the one that was read. */
function compareAndSet({ client }: Seat, key: string, expected: string | undefined, value: string): Call {
  const is = expected === undefined ? compare.version(key, '=', 0n) : compare.value(key, '=', expected);
  return {
    operation: { expected, is: 'compareAndSet', value },
    run: async (limits) => {
      const { revision, succeeded } = await client.kv.txn({ if: [is], then: [op.put(key, value)] }, limits);
      return { applied: succeeded, is: 'ok', ...(succeeded ? { revision } : {}) };
    },
  };
}

/** A write that may be sent again: then it has been done, or writes another key, on a lease that may be gone. */
function writeOnce({ client, stage }: Seat, key: string, value: string, leaseId: bigint): Call {
  const mark = `r/mark/${stage.next('mark')}`;
  const spec = {
    if: [compare.missing(mark)],
    then: [op.put(key, value), op.put(mark, '')],
    else: [op.put('r/again', value, { leaseId })],
  };
  return {
    operation: { is: 'write', value },
    run: async (limits) => {
      const { revision, succeeded } = await client.kv.txn(spec, { ...limits, idempotent: true });
      return { is: 'ok', ...(succeeded ? { revision } : {}) };
    },
  };
}

/** What each register was, as far as etcd has written it. */
class Versions {
  readonly #versions: { readonly key: string; readonly revision: bigint; readonly value?: string }[] = [];

  begin(stage: Stage): void {
    stage.world.server.onCommit((revision, changes) => {
      for (const { deleted, text: key, value } of changes)
        if (KEYS.includes(key))
          this.#versions.push({ key, revision, ...(deleted ? {} : { value: value.toString() }) });
    });
  }

  at(key: string, revision: bigint): string | undefined {
    return this.#versions.findLast((version) => version.key === key && version.revision <= revision)?.value;
  }
}

/** Reads of whatever member is asked, which may be behind, are what was at the revision that they name. */
async function readSerializable({ client, random, stage }: Seat, versions: Versions): Promise<void> {
  const key = random.pick(KEYS);
  stage.operations += 1;
  const answer = await client.kv.range(key, { serializable: true }).catch(known);
  // History that has gone back has several of each revision.
  if (answer === undefined || stage.eras.length > 1) return;
  const [value, was] = [answer.kvs[0]?.string(), versions.at(key, answer.revision)];
  if (value !== was)
    stage.violate('serializable', `${key} is said to be ${value} at ${answer.revision}, and was ${was}`);
}

/** Makes a call, within a limit or the client's own. */
async function make(seat: Seat, key: string, { operation, run }: Call): Promise<void> {
  const { process, random, stage } = seat;
  stage.operations += 1;
  const number = stage.next('call');
  const timeoutMs = random.pick([undefined, 500, 1000, 2000]);
  seat.note({ call: number, is: 'call', key, operation });
  const [at, from] = [stage.history.length, process.clock.now()];
  let outcome: CallOutcome;
  try {
    outcome = await run(timeoutMs === undefined ? {} : { timeoutMs });
  } catch (error) {
    known(error);
    const isUnknown = error instanceof ConclaveError && error.code === 'UNKNOWN_OUTCOME';
    outcome = { is: isUnknown && operation.is !== 'read' ? 'unknown' : 'void' };
  }
  const tookMs = process.clock.now() - from;
  const mayMs = timeoutMs ?? USUAL_MS + GATE_MS;
  if (tookMs > mayMs + LATE_MS && !stage.wasFrozen(process, at))
    stage.violate('call-too-long', `${operation.is} ${key} took ${tookMs} ms, and may take ${mayMs}`);
  seat.note({ call: number, is: 'return', outcome });
}

async function step(seat: Seat, seen: Known, versions: Versions): Promise<void> {
  const { client, process, random, stage } = seat;
  if (random.chance(0.1)) return readSerializable(seat, versions);
  const value = (): string => `${process.name}-${stage.next('value')}`;
  const any = (key: string): Call => {
    const what = random.below(8);
    if (what < 4) return read(seat, key, seen);
    if (what < 6) {
      const written = value();
      const run = async (limits: CallOptions): Promise<Done> => ({
        is: 'ok',
        revision: (await client.kv.put(key, written, limits)).revision,
      });
      return { operation: { is: 'write', value: written }, run };
    }
    return what < 7 ? compareAndSet(seat, key, seen.get(key), value()) : remove(seat, key);
  };
  if (random.chance(0.1)) {
    const lease = await client.lease.grant(2).catch(known);
    // It may end meanwhile.
    await seat.sleep(random.between(0, 3000));
    const key = random.pick(KEYS);
    if (lease !== undefined) await make(seat, key, writeOnce(seat, key, value(), lease.id));
    return;
  }
  const keys = random.chance(0.7) ? [random.pick(KEYS)] : [...KEYS, ...KEYS];
  await Promise.all(keys.map((key) => make(seat, key, any(key))));
}

export function registers(): Workload {
  const versions = new Versions();
  return {
    begin: (stage) => versions.begin(stage),
    join: (seat) => {
      const seen: Known = new Map();
      return { step: () => step(seat, seen, versions) };
    },
    name: 'registers',
    stays: /^r\//,
  };
}
