/**
 * Caches in simulated worlds, against what etcd has really committed: members that go, lag or fall silent, cut and slow
 * connections, processes that freeze, compaction, and etcd that comes back empty or as it was.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type CacheChange, type CacheConsistency, type Client, hasCode, type KeyValue, op } from 'conclave';
import { type SimProcess, World } from 'conclave/testing';
import { Random } from '../faults/random.js';

const WORLDS = 20;
const RUN_MS = 20_000;
const KEYS = 6;
const PREFIX = 'c/';

/** Keys and values, as text that is the same for the same ones. */
const textOf = (pairs: Iterable<readonly [string, string]>): string => JSON.stringify([...pairs].sort());
const storeOf = (kvs: Iterable<KeyValue>): string =>
  textOf([...kvs].map((kv) => [kv.key, kv.string()] as const));

/** A stretch of etcd's history, which goes back at its end. */
interface Era {
  /** The revision at which it began. */
  readonly from: bigint;
  /** The revision at which it is, or ended. */
  last: bigint;
  /** The keys of the caches at each revision of it. */
  readonly stores: Map<bigint, string>;
  /** What each of its revisions has changed of them. */
  readonly changes: Map<bigint, string>;
}

/** All that was committed, as the server itself tells. */
class Truth {
  readonly eras: Era[] = [{ changes: new Map(), from: 1n, last: 1n, stores: new Map([[1n, '[]']]) }];
  readonly #world: World;
  #now = new Map<string, string>();

  constructor(world: World) {
    this.#world = world;
    world.server.onCommit((revision, changes) => {
      const ours = changes.filter(({ key }) => key.toString().startsWith(PREFIX));
      for (const { deleted, key, value } of ours) {
        if (deleted) this.#now.delete(key.toString());
        else this.#now.set(key.toString(), value.toString());
      }
      const { era } = this;
      era.last = revision;
      era.stores.set(revision, textOf(this.#now));
      if (ours.length === 0) return;
      const told = ours.map(
        ({ deleted, key, value }) => [key.toString(), deleted ? '-' : `+${value.toString()}`] as const,
      );
      era.changes.set(revision, textOf(told));
    });
  }

  get era(): Era {
    return this.eras[this.eras.length - 1] as Era;
  }

  /** Where history is: which era, and at which revision of it. */
  get place(): { readonly era: number; readonly revision: bigint } {
    return { era: this.eras.length - 1, revision: this.era.last };
  }

  /** Etcd comes back as it was at `revision`; 0n: empty. */
  goBack(revision: bigint): void {
    const { stores } = this.era;
    const kept = revision === 0n ? '[]' : (stores.get(revision) ?? '[]');
    const from = revision === 0n ? 1n : revision;
    this.#now = new Map(JSON.parse(kept) as [string, string][]);
    this.eras.push({ changes: new Map(), from, last: from, stores: new Map([[from, kept]]) });
    this.#world.server.restart(revision === 0n ? 'nothing' : { revision });
  }
}

/** What a read found, and when. */
interface Read {
  readonly consistency: CacheConsistency;
  readonly began: Truth['place'];
  readonly ended: Truth['place'];
  readonly store: string;
}

/** Whether what was read had been there at a moment at which it may have been read. */
function fits({ began, consistency, ended, store }: Read, eras: readonly Era[]): boolean {
  return eras.some((era, at) => {
    if (at > ended.era) return false;
    if (consistency === 'linearizable' && at < began.era) return false;
    const least = consistency === 'linearizable' && at === began.era ? began.revision : 0n;
    const most = at === ended.era ? ended.revision : era.last;
    return [...era.stores].some(
      ([revision, there]) =>
        there === store &&
        revision <= most &&
        // It was there until the next revision.
        revision >= least &&
        (typeof consistency === 'string' || revision >= consistency.atLeast),
    );
  });
}

/** Why a read may fail in such a world. */
const PASSING = ['UNAVAILABLE', 'DEADLINE_EXCEEDED', 'TIMEOUT', 'FUTURE_REVISION', 'COMPACTED'] as const;

/** One world: what was read in it, what was told, and what was committed. */
async function play(seed: number) {
  await using world = new World(seed);
  const { random } = world;
  const truth = new Truth(world);
  const reads: Read[] = [];
  const told: CacheChange[][] = [];
  let failed = 0;
  /** Who has not asked yet since etcd came back: a history that has grown past what they saw is not told apart. */
  const unaware = new Set<SimProcess>();
  const pause = (process: SimProcess, ms: number): Promise<void> =>
    new Promise((resolve) => void process.clock.setTimer(ms, () => resolve()));
  const passing = async (work: Promise<unknown>): Promise<void> => {
    try {
      await work;
    } catch (error) {
      if (!hasCode(error, ...PASSING, 'UNKNOWN_OUTCOME', 'NO_LEADER')) throw error;
      failed += 1;
    }
  };

  const write = async (client: Client, process: SimProcess): Promise<void> => {
    for (let at = 0; ; at++) {
      const key = `${random.below(4) === 0 ? 'd/' : PREFIX}${random.below(KEYS)}`;
      const value = `${process.name} ${at}`;
      const kind = random.below(6);
      if (kind === 0) await passing(client.kv.delete(key));
      else if (kind === 1) await passing(client.kv.delete({ end: `${key}~`, start: key }));
      else if (kind === 2)
        await passing(client.kv.txn({ then: [op.put(key, value), op.put(`${PREFIX}both`, value)] }));
      else await passing(client.kv.put(key, value));
      do await pause(process, 20 + random.below(200));
      while (unaware.size > 0);
    }
  };

  const read = async (client: Client, process: SimProcess): Promise<void> => {
    const cache = client.cache({ prefix: PREFIX });
    const changes: CacheChange[] = [];
    told.push(changes);
    const following = (async () => {
      for await (const change of cache.changes()) changes.push(change);
    })();
    following.catch(() => undefined);
    const once = async (): Promise<void> => {
      const began = truth.place;
      const kinds = ['linearizable', 'linearizable', 'local', { atLeast: cache.revision + 2n }] as const;
      const consistency = kinds[random.below(kinds.length)] ?? 'local';
      const { kvs } = await cache.list({ consistency });
      reads.push({ began, consistency, ended: truth.place, store: storeOf(kvs) });
      if (consistency === 'linearizable' && began.era === truth.place.era) unaware.delete(process);
    };
    for (;;) {
      await Promise.all([passing(once()), passing(once())]);
      await pause(process, 10 + random.below(100));
    }
  };

  let fault: unknown;
  const start = (name: string, work: (client: Client, process: SimProcess) => Promise<void>): SimProcess => {
    const process = world.process(name);
    work(world.client(process), process).catch((error: unknown) => {
      if (!hasCode(error, 'CLOSED')) fault ??= error;
    });
    return process;
  };
  const processes = [start('w1', write), start('w2', write), start('r1', read), start('r2', read)];
  const member = () => world.members[random.below(3)] ?? world.members[0];
  const faults: readonly (() => void)[] = [
    () => world.network.cut(),
    () => processes.slice(random.below(4)).forEach((each) => world.network.cut({ process: each })),
    () =>
      (world.network.weather = { cuts: 0.02, late: 0.3, latencyMs: [0.2, random.below(2) === 0 ? 5 : 200] }),
    () => (world.network.weather = { cuts: 0, late: 0, latencyMs: [0.2, 2] }),
    () => compact(),
    () => cutOff(),
    () => forAWhile(() => member()?.state, 'down'),
    () => forAWhile(() => member()?.state, 'silent'),
  ];
  const compact = (): void => {
    const { store } = world.server.member;
    if (store.revision > store.compactedRevision) store.compact(store.revision);
  };
  /** Readers are away for longer than what is kept. */
  const cutOff = (): void => {
    const away = processes.slice(2);
    for (const each of away) {
      each.freeze();
      world.network.cut({ process: each });
    }
    world.timeline.after(1500, () => {
      compact();
      for (const each of away) each.thaw();
    });
  };
  const forAWhile = (_: unknown, state: 'down' | 'silent'): void => {
    const one = member();
    if (one === undefined) return;
    one.state = state;
    world.timeline.after(500 + random.below(2000), () => (one.state = 'up'));
  };
  const lag = (): void => {
    const one = member();
    if (one === undefined) return;
    one.lags = true;
    world.timeline.after(500 + random.below(1500), () => (one.lags = false));
  };
  for (let at = 1000; at < RUN_MS - 4000; at += 400 + random.below(800)) {
    const some = random.below(faults.length + 1);
    world.timeline.at(at, () => (faults[some] ?? lag)());
  }
  if (random.below(2) === 0) {
    world.timeline.at(RUN_MS / 2, () => {
      for (const each of world.members) each.lags = false;
      for (const each of processes.slice(2)) unaware.add(each);
      truth.goBack(random.below(2) === 0 ? 0n : truth.era.last / 2n);
    });
  }
  await world.run(RUN_MS);
  if (fault !== undefined) throw fault;
  return { eras: truth.eras, failed, reads, told };
}

/** What was told leads from store to store of one era after the other, and leaves nothing out. */
function judgeChanges(changes: readonly CacheChange[], eras: readonly Era[]): void {
  const now = new Map<string, string>();
  let last = 0n;
  let first = 0;
  for (const { events, relisted, revision } of changes) {
    for (const { kv, prevKv, type } of events) {
      assert.equal(prevKv?.string(), now.get(kv.key), `what ${kv.key} had before ${revision}`);
      if (type === 'put') now.set(kv.key, kv.string());
      else now.delete(kv.key);
    }
    const event = textOf(
      events.map(({ kv, type }) => [kv.key, type === 'put' ? `+${kv.string()}` : '-'] as const),
    );
    const store = textOf(now);
    const holds = (era: Era): boolean => {
      const from = [...era.stores.keys()].filter((at) => at <= revision).at(-1);
      if (from === undefined || era.stores.get(from) !== store) return false;
      if (relisted) return true;
      if (era.changes.get(revision) !== event) return false;
      return [...era.changes.keys()].every((at) => at <= last || at >= revision);
    };
    const found = eras.findIndex((era, at) => at >= first && holds(era));
    assert.ok(found >= 0, `${relisted ? 'all' : 'one'} at ${revision}: ${event} gives ${store}`);
    if (relisted) first = found;
    last = revision;
  }
}

test(`caches in ${WORLDS} simulated worlds have what was committed, as new as was asked for`, async (t) => {
  const seeds = new Random(t);
  const sums = { changes: 0, failed: 0, reads: 0, relisted: 0, wentBack: 0 };
  for (let at = 0; at < WORLDS; at++) {
    const seed = seeds.below(2 ** 31);
    try {
      const { eras, failed, reads, told } = await play(seed);
      for (const read of reads) {
        const why = () =>
          JSON.stringify(read, (_, some: unknown) => (typeof some === 'bigint' ? String(some) : some));
        if (!fits(read, eras)) assert.fail(`read what was not there then: ${why()}`);
      }
      for (const changes of told) judgeChanges(changes, eras);
      sums.failed += failed;
      sums.reads += reads.length;
      sums.changes += told.flat().length;
      sums.relisted += told.flat().filter(({ relisted }) => relisted).length;
      sums.wentBack += eras.length - 1;
    } catch (error) {
      t.diagnostic(`world ${seed}`);
      throw error;
    }
  }
  t.diagnostic(JSON.stringify(sums));
  assert.ok(sums.reads > sums.failed && sums.relisted > 2 * WORLDS && sums.wentBack > 0);
});
