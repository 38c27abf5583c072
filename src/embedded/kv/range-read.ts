import type { RangeRequest, RangeRequestSortTarget, RangeResponseInput } from '../../proto/messages.gen.js';
import type { KeyVersion } from '../store/key-history.js';
import { keyRange } from '../store/key-range.js';
import type { Reader, Store } from '../store/store.js';

const NOTHING = Buffer.alloc(0);

/** Answers a range request that has been checked. Throws etcd's errors for a revision out of reach. */
export function readRange(store: Store, reader: Reader, request: RangeRequest): RangeResponseInput {
  const limit = request.limit > 0n ? Number(request.limit) : Infinity;
  const wanted = filter(request);
  const order = sorter(request);
  // As in etcd, an order asked for, or a filter, needs the whole range; a target alone sorts what the limit has left.
  const whole = request.sortOrder !== 'NONE' || wanted !== undefined;
  const found = store.range(keyRange(request.key, request.rangeEnd), {
    reader,
    revision: request.revision,
    limit: request.countOnly ? 0 : whole ? Infinity : limit + 1,
  });
  const kvs = wanted === undefined ? found.kvs : found.kvs.filter(wanted);
  if (order !== undefined) kvs.sort(order);
  const more = kvs.length > limit;
  if (more) kvs.length = limit;
  return {
    header: { revision: reader.revision },
    kvs: request.keysOnly ? kvs.map((kv) => ({ ...kv, value: NOTHING })) : kvs,
    // As in etcd, the filters change what is returned and not what is counted.
    count: BigInt(found.count),
    more,
  };
}

/** The filters of a request as one; undefined when there are none. A bound of 0 is no bound. */
function filter(request: RangeRequest): ((kv: KeyVersion) => boolean) | undefined {
  const { minModRevision, maxModRevision, minCreateRevision, maxCreateRevision } = request;
  const bounds = minModRevision | maxModRevision | minCreateRevision | maxCreateRevision;
  if (bounds === 0n) return undefined;
  return (kv) =>
    (minModRevision === 0n || kv.modRevision >= minModRevision) &&
    (maxModRevision === 0n || kv.modRevision <= maxModRevision) &&
    (minCreateRevision === 0n || kv.createRevision >= minCreateRevision) &&
    (maxCreateRevision === 0n || kv.createRevision <= maxCreateRevision);
}

type Comparison = (a: KeyVersion, b: KeyVersion) => number;

function compareBigints(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

const comparisons: Readonly<Record<RangeRequestSortTarget, Comparison>> = {
  KEY: (a, b) => (a.text < b.text ? -1 : 1),
  VERSION: (a, b) => compareBigints(a.version, b.version),
  CREATE: (a, b) => compareBigints(a.createRevision, b.createRevision),
  MOD: (a, b) => compareBigints(a.modRevision, b.modRevision),
  VALUE: (a, b) => Buffer.compare(a.value, b.value),
};

/** The order a request asks for; undefined when the order of keys will do. A target without an order sorts ascending. */
function sorter({ sortOrder, sortTarget }: RangeRequest): Comparison | undefined {
  if (sortTarget === 'KEY' && sortOrder !== 'DESCEND') return undefined;
  const ascending = comparisons[sortTarget];
  return sortOrder === 'DESCEND' ? (a, b) => ascending(b, a) : ascending;
}
