/** The store as it was at one revision: many small reads, put together into few requests. */
import type { Client } from '../etcd/client.js';
import type { OpResult } from '../etcd/kv/kv-results.js';
import type { KeyRange } from '../etcd/kv/key-range.js';
import type { KeyValue } from '../etcd/kv/key-value.js';
import { op, type RangeOptions } from '../etcd/kv/op.js';

/** etcd's limit of operations in one transaction, with some room. */
const MOST_OPS = 120;
/** So many requests are under way at once. */
const MOST_AT_ONCE = 16;
/** A request for each lease: etcd has none for several. */
const MOST_LEASES_AT_ONCE = 100;

/** What one read finds. */
export interface Found {
  readonly kvs: readonly KeyValue[];
  /** How many keys there are, also of those that were not read. */
  readonly count: number;
}

/** One read. */
export interface Wanted {
  readonly range: KeyRange;
  readonly options?: Pick<RangeOptions, 'countOnly' | 'keysOnly' | 'limit'>;
  /** As it was at another revision. */
  readonly revision?: bigint;
}

/** Reads of the store as it was at `revision`. */
export class Moment {
  readonly client: Client;
  readonly revision: bigint;
  readonly signal: AbortSignal | undefined;

  constructor(client: Client, revision: bigint, signal?: AbortSignal) {
    this.client = client;
    this.revision = revision;
    this.signal = signal;
  }

  /** Makes all of these reads; the answers are in the same order. Rejects with `COMPACTED` when the revision is gone. */
  async read(wanted: readonly Wanted[]): Promise<Found[]> {
    const groups: Wanted[][] = [];
    for (let at = 0; at < wanted.length; at += MOST_OPS) groups.push(wanted.slice(at, at + MOST_OPS));
    const answers = await inParallel(groups, MOST_AT_ONCE, async (group) => {
      const steps = group.map(({ options, range, revision = this.revision }) =>
        op.get(range, { ...options, revision }),
      );
      const { responses } = await this.client.kv.txn({ then: steps }, { signal: this.signal });
      return responses.map(foundBy);
    });
    return answers.flat();
  }

  /** The keys with their values; undefined: it is not there. */
  async values(keys: readonly KeyValue['keyBytes'][] | readonly string[]): Promise<(KeyValue | undefined)[]> {
    return (await this.read(keys.map((range) => ({ range })))).map(({ kvs }) => kvs[0]);
  }

  /** The seconds that are left of each lease now; a lease that is gone is not in it. */
  async leasesLeft(leases: Iterable<bigint>): Promise<ReadonlyMap<bigint, number>> {
    const left = new Map<bigint, number>();
    await inParallel([...new Set(leases)], MOST_LEASES_AT_ONCE, async (lease) => {
      const { ttlSeconds } = await this.client.lease.timeToLive(lease, { signal: this.signal });
      if (ttlSeconds >= 0) left.set(lease, ttlSeconds);
    });
    return left;
  }
}

function foundBy(response: OpResult): Found {
  return response.type === 'get'
    ? { count: Number(response.count), kvs: response.kvs }
    : { count: 0, kvs: [] };
}

/** Does `work` for each, so many at once, and resolves with the results in order. The first error ends it. */
async function inParallel<Item, Result>(
  items: readonly Item[],
  most: number,
  work: (item: Item) => Promise<Result>,
): Promise<Result[]> {
  const results: Result[] = [];
  const rest = items.entries();
  const one = async (): Promise<void> => {
    for (const [at, item] of rest) results[at] = await work(item);
  };
  await Promise.all(Array.from({ length: Math.min(most, items.length) }, one));
  return results;
}
