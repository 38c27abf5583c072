/**
 * Keys owned and given back in simulated worlds: processes that freeze, are killed and replaced, sessions that are lost,
 * members that go, lag or fall silent, cut and slow connections, requests that arrive late. What each call told is judged by
 * the checker of linearizability, the reads from memory included.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compare, type Conclave, hasCode, type Leasing, op } from 'conclave';
import {
  checkLinearizability,
  type HistoryRecord,
  type RegisterOperation,
  type SimProcess,
  World,
} from 'conclave/testing';
import { Random } from '../faults/random.js';

const WORLDS = 6;
const RUN_MS = 20_000;
const SETTLE_MS = 15_000;
const KEYS = 3;
const PREFIX = 'owned/';

type Outcome = Extract<HistoryRecord, { is: 'return' }>['outcome'];

/** What a call may fail with in such a world, and then has certainly not been done. */
const NOT_DONE = ['UNAVAILABLE', 'DEADLINE_EXCEEDED', 'TIMEOUT', 'NO_LEADER'] as const;

/** One world: what was called in it, and what was told. */
async function play(seed: number) {
  await using world = new World(seed);
  const { random } = world;
  const history: HistoryRecord[] = [];
  const counts = { calls: 0, killed: 0, lost: 0, memory: 0, reads: 0, unknown: 0, writes: 0 };
  let fault: unknown;
  const pause = (process: SimProcess, ms: number): Promise<void> =>
    new Promise((resolve) => void process.clock.setTimer(ms, () => resolve()));

  const noted = async (
    process: SimProcess,
    { key, operation }: { readonly key: string; readonly operation: RegisterOperation },
    work: () => Promise<Outcome>,
  ): Promise<void> => {
    const call = (counts.calls += 1);
    const of = { atMs: world.nowMs, process: process.name };
    history.push({ ...of, call, is: 'call', key, operation });
    const outcome = await work().catch((error: unknown): Outcome => {
      if (hasCode(error, 'UNKNOWN_OUTCOME')) counts.unknown += 1;
      if (hasCode(error, 'UNKNOWN_OUTCOME')) return { is: 'unknown' };
      if (hasCode(error, ...NOT_DONE)) return { is: 'void' };
      throw error;
    });
    history.push({ ...of, atMs: world.nowMs, call, is: 'return', outcome });
  };

  const once = async (leasing: Leasing, process: SimProcess): Promise<void> => {
    const key = `k${random.below(KEYS)}`;
    const value = `${process.name} ${counts.calls}`;
    const options = { timeoutMs: 3000 };
    const kind = random.below(16);
    const read = { is: 'read' } as const;
    if (kind > 3) {
      counts.reads += 1;
      if (leasing.owns(key)) counts.memory += 1;
      await noted(process, { key, operation: read }, async () => {
        const kv = await leasing.get(key, options);
        return { is: 'ok', revision: kv?.modRevision ?? 0n, value: kv?.string() };
      });
      return;
    }
    counts.writes += 1;
    if (kind === 0) {
      await noted(process, { key, operation: { is: 'delete' } }, async () => {
        const { deleted, revision } = await leasing.delete(key, options);
        return deleted > 0n ? { applied: true, is: 'ok', revision } : { applied: false, is: 'ok' };
      });
    } else if (kind === 1) {
      const expected = (await leasing.get(key).catch(() => undefined))?.string();
      const same = expected === undefined ? compare.missing(key) : compare.value(key, '=', expected);
      const spec = { if: [same], then: [op.put(key, value)] };
      const operation = { expected, is: 'compareAndSet', value } as const;
      await noted(process, { key, operation }, async () => {
        const { revision, succeeded } = await leasing.txn(spec, options);
        return succeeded ? { applied: true, is: 'ok', revision } : { applied: false, is: 'ok' };
      });
    } else {
      await noted(process, { key, operation: { is: 'write', value } }, async () => {
        const { revision } = await leasing.put(key, value, options);
        return { is: 'ok', revision };
      });
    }
  };

  const work = async (process: SimProcess): Promise<void> => {
    let conclave: Conclave | undefined;
    while (conclave === undefined)
      conclave = await world.connect(process, { ttlSeconds: 2 }).catch(() => undefined);
    const leasing = conclave.leasing({ pauseMs: 300, prefix: PREFIX });
    const task = async (): Promise<void> => {
      while (world.nowMs < RUN_MS) {
        await once(leasing, process);
        await pause(process, 1 + random.below(random.below(10) === 0 ? 500 : 40));
      }
    };
    await Promise.all([task(), task()]);
    counts.lost += conclave.sessionCount - 1;
    await leasing.close();
    assert.equal(leasing.size, 0);
    await conclave.close();
  };
  let running = 0;
  const start = (name: string): SimProcess => {
    const process = world.process(name);
    running += 1;
    work(process).then(
      () => (running -= 1),
      (error: unknown) => (fault ??= error),
    );
    return process;
  };

  const processes = [start('a'), start('b'), start('c')];
  const at = () => random.below(processes.length);
  const some = () => processes[at()] ?? assert.fail();
  const member = () => world.members[random.below(3)] ?? assert.fail();
  const forAWhile = (mostMs: number, begin: () => void, end: () => void): void => {
    begin();
    world.timeline.after(300 + random.below(mostMs), end);
  };
  const freeze = (): void => {
    const one = some();
    const isCut = random.below(2) === 0;
    forAWhile(
      4000,
      () => {
        one.freeze();
        if (isCut) world.network.cut({ process: one });
      },
      () => one.thaw(),
    );
  };
  const faults: readonly (() => void)[] = [
    freeze,
    freeze,
    () => world.network.cut(),
    () => world.network.cut({ process: some() }),
    () =>
      (world.network.weather = { cuts: 0.02, late: 0.3, latencyMs: [0.2, random.below(2) === 0 ? 5 : 100] }),
    () => (world.network.weather = { cuts: 0, late: 0, latencyMs: [0.2, 2] }),
    () => {
      const which = at();
      world.kill(processes[which] ?? assert.fail());
      running -= 1;
      counts.killed += 1;
      processes[which] = start(`d${counts.killed}`);
    },
    () => {
      const one = member();
      const state = random.below(2) === 0 ? 'down' : 'silent';
      forAWhile(
        2000,
        () => (one.state = state),
        () => (one.state = 'up'),
      );
    },
    () => {
      const one = member();
      forAWhile(
        1500,
        () => (one.lags = true),
        () => (one.lags = false),
      );
    },
    () => {
      const { store } = world.server.member;
      if (store.revision > store.compactedRevision) store.compact(store.revision);
    },
  ];
  for (let from = 1000; from < RUN_MS - 2000; from += 300 + random.below(1200)) {
    const kind = random.below(faults.length);
    world.timeline.at(from, () => faults[kind]?.());
  }
  await world.run(RUN_MS);
  world.network.weather = { cuts: 0, late: 0, latencyMs: [0.2, 2] };
  await world.run(SETTLE_MS, () => running === 0 || fault !== undefined);
  if (fault !== undefined) throw fault;
  assert.equal(running, 0, 'all have ended');
  const observer = world.client(world.process('observer'));
  const looking = observer.kv.range({ prefix: PREFIX });
  await world.run(1000);
  return { counts, history, left: (await looking).kvs };
}

test(`in ${WORLDS} simulated worlds, leased keys are linearizable, and none stays owned`, async (t) => {
  const seeds = new Random(t);
  const sums: Record<string, number> = {};
  for (let at = 0; at < WORLDS; at++) {
    const seed = seeds.below(2 ** 31);
    try {
      const { counts, history, left } = await play(seed);
      assert.deepEqual(checkLinearizability(history), []);
      assert.deepEqual(
        left.map(({ key }) => key),
        [],
      );
      for (const [name, count] of Object.entries(counts)) sums[name] = (sums[name] ?? 0) + count;
    } catch (error) {
      t.diagnostic(`world ${seed}`);
      throw error;
    }
  }
  t.diagnostic(JSON.stringify(sums));
  const { killed = 0, lost = 0, memory = 0, reads = 0, writes = 0 } = sums;
  assert.ok(memory > reads / 10 && writes > 20 * WORLDS && lost > 0 && killed > 0);
});
