/**
 * A cache against the history of all writes: what it has at a revision is what was written until then; a linearizable read
 * has every write that was answered before it began; what it tells as changes is every revision, once and whole.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type CacheChange, Client, type KeyValue, op, type OpResult } from 'conclave';
import { FaultProxy } from 'conclave/testing';
import { onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';
import { Random } from '../faults/random.js';

/** Keys and their values. */
type Store = ReadonlyMap<string, string>;

interface Written {
  readonly key: string;
  /** Undefined: deleted. */
  readonly value: string | undefined;
}

/** What all writes have done, by revision. */
class Writes {
  readonly #byRevision = new Map<bigint, readonly Written[]>();
  /** The greatest revision that was answered. */
  answered = 0n;

  add(revision: bigint, written: readonly Written[]): void {
    if (written.length > 0) this.#byRevision.set(revision, written);
    if (revision > this.answered) this.answered = revision;
  }

  /** What is written at a revision below the prefix of the cache. */
  at(revision: bigint): readonly Written[] {
    return (this.#byRevision.get(revision) ?? []).filter(({ key }) => key.startsWith('c/'));
  }

  /** The store at each revision. */
  stores(): Map<bigint, Store> {
    const stores = new Map<bigint, Store>();
    const now = new Map<string, string>();
    for (let revision = 0n; revision <= this.answered; revision++) {
      for (const { key, value } of this.at(revision)) {
        if (value === undefined) now.delete(key);
        else now.set(key, value);
      }
      stores.set(revision, new Map(now));
    }
    return stores;
  }
}

/** One read of the cache. */
interface Read {
  readonly consistency: 'linearizable' | 'local' | { readonly atLeast: bigint };
  /** What had been answered when it began. */
  readonly floor: bigint;
  /** Where the cache was. */
  readonly revision: bigint;
  readonly found: Store;
  /** The only key that was asked for. */
  readonly key: string | undefined;
}

const KEYS = 8;
const ROUNDS = 10;

const storeOf = (kvs: Iterable<KeyValue>): Store => new Map([...kvs].map((kv) => [kv.key, kv.string()]));

/** One random write: of keys of the cache, of others, of several, of none. */
async function writeOne(client: Client, random: Random, writes: Writes, at: number): Promise<void> {
  const key = (): string => `${random.below(4) === 0 ? 'd' : 'c'}/${random.below(KEYS)}`;
  const value = `${at}`;
  const [one, other] = [key(), key()];
  const removed = (kvs: readonly KeyValue[]): Written[] =>
    kvs.map((kv) => ({ key: kv.key, value: undefined }));
  switch (random.below(6)) {
    case 0: {
      const { previous, revision } = await client.kv.delete(one, { prevKv: true });
      writes.add(revision, removed(previous));
      break;
    }
    case 1: {
      const end = `${one}~`;
      const { previous, revision } = await client.kv.delete({ end, start: one }, { prevKv: true });
      writes.add(revision, removed(previous));
      break;
    }
    case 2: {
      const then =
        one === other ? [op.put(one, value)] : [op.put(one, value), op.delete(other, { prevKv: true })];
      const { responses, revision } = await client.kv.txn({ then });
      const gone = responses.flatMap((each: OpResult) =>
        each.type === 'delete' ? removed(each.previous) : [],
      );
      writes.add(revision, [{ key: one, value }, ...gone]);
      break;
    }
    default: {
      const { revision } = await client.kv.put(one, value);
      writes.add(revision, [{ key: one, value }]);
      break;
    }
  }
}

/** Judges a read by the stores that there were. */
function judge({ consistency, floor, found, key, revision }: Read, stores: ReadonlyMap<bigint, Store>): void {
  const told = `${JSON.stringify(consistency, (_, some: unknown) => String(some))} at ${revision}, floor ${floor}`;
  const seen = (store: Store | undefined): Store =>
    key === undefined ? (store ?? new Map()) : new Map([...(store ?? [])].filter(([name]) => name === key));
  if (key === undefined)
    assert.deepEqual(new Map([...found].sort()), new Map([...seen(stores.get(revision))].sort()), told);
  const least = consistency === 'linearizable' ? floor : consistency === 'local' ? 0n : consistency.atLeast;
  const fits = [...stores].some(
    ([at, store]) =>
      at >= least &&
      seen(store).size === found.size &&
      [...found].every(([name, value]) => store.get(name) === value),
  );
  assert.ok(fits, `${told}: ${JSON.stringify([...found])} was nowhere from ${least} on`);
}

/** Judges what was told: it leads from one store to the next, and leaves nothing out. */
function judgeChanges(
  changes: readonly CacheChange[],
  writes: Writes,
  stores: ReadonlyMap<bigint, Store>,
): void {
  const now = new Map<string, string>();
  let last: bigint | undefined;
  for (const { events, relisted, revision } of changes) {
    for (const { kv, prevKv, type } of events) {
      assert.equal(prevKv?.string(), now.get(kv.key), `what ${kv.key} held before ${revision}`);
      if (type === 'put') now.set(kv.key, kv.string());
      else now.delete(kv.key);
    }
    if (!relisted) {
      for (let at = (last ?? 0n) + 1n; at < revision; at++)
        assert.deepEqual(writes.at(at), [], `${at} was left out`);
      const told = events.map(({ kv, type }) => ({
        key: kv.key,
        value: type === 'put' ? kv.string() : undefined,
      }));
      assert.deepEqual(told.sort(byKey), [...writes.at(revision)].sort(byKey));
      assert.ok(last === undefined || revision > last);
    }
    assert.deepEqual(
      new Map([...now].sort()),
      new Map([...(stores.get(revision) ?? [])].sort()),
      `after ${revision}`,
    );
    last = revision;
  }
}

const byKey = (one: Written, other: Written): number => (one.key < other.key ? -1 : 1);

onEachBackend('a cache, beside writes that are known', (backend) => {
  test('has what was written, as new as was asked for, through cuts and compaction', async (t) => {
    const random = new Random(t);
    const direct = backend.client({ batch: 'none' });
    await using proxy = await FaultProxy.start(backend.endpoints[0] ?? '');
    await using away = new Client({ endpoints: proxy.endpoint, timeoutMs: 20_000 });
    const writes = new Writes();
    const reads: Read[] = [];
    const changes: CacheChange[] = [];
    let end = 2n ** 62n;
    await using cache = away.cache({ prefix: 'c/' });
    const following = (async () => {
      for await (const change of cache.changes()) {
        changes.push(change);
        if (change.revision >= end) return;
      }
    })();
    let isOver = false;
    let count = 0;

    const writer = async (): Promise<void> => {
      while (!isOver) await writeOne(direct, random, writes, ++count);
    };
    const reader = async (): Promise<void> => {
      while (!isOver) {
        const floor = writes.answered;
        const consistency = random.pick([
          'linearizable',
          'linearizable',
          'local',
          { atLeast: floor },
        ] as const);
        const key = random.below(2) === 0 ? `c/${random.below(KEYS)}` : undefined;
        if (key === undefined) {
          const { kvs, revision } = await cache.list({ consistency });
          reads.push({ consistency, floor, found: storeOf(kvs), key, revision });
        } else {
          const kv = await cache.get(key, { consistency });
          reads.push({
            consistency,
            floor,
            found: storeOf(kv === undefined ? [] : [kv]),
            key,
            revision: cache.revision,
          });
        }
        await new Promise((resolve) => setImmediate(resolve));
      }
    };
    const working = Promise.all([writer(), writer(), reader(), reader(), reader()]);
    await cache.ready();
    for (let round = 0; round < ROUNDS; round++) {
      const [written, read] = [count, reads.length];
      if (round % 3 === 2) {
        await proxy.refuse();
        proxy.cut();
        await until(() => count > written + 20);
        await direct.kv.compact(writes.answered);
        await proxy.accept();
      } else if (round % 3 === 1) proxy.cut();
      await until(() => count > written + 40 && reads.length > read + 40);
    }
    isOver = true;
    await working;
    const last = await direct.kv.put('c/end', 'end');
    writes.add(last.revision, [{ key: 'c/end', value: 'end' }]);
    end = last.revision;
    await cache.get('c/end');
    await following;

    const stores = writes.stores();
    for (const read of reads) judge(read, stores);
    judgeChanges(changes, writes, stores);
    t.diagnostic(`${count} writes, ${reads.length} reads, ${changes.length} changes`);
    assert.ok(changes.filter(({ relisted }) => relisted).length >= 2, 'it was read anew, at least once');
    await direct.kv.delete({ prefix: '' });
  });
});
