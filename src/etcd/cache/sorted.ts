/** The orders of etcd's ranges, for keys that are in memory. */
import { checkChoice, checkOptions } from '../../util/validate.js';
import type { KeyValue } from '../kv/key-value.js';
import type { RangeOptions } from '../kv/op.js';

type Sort = NonNullable<RangeOptions['sort']>;

const VALUES: Readonly<Record<Sort['by'], (kv: KeyValue) => bigint | Buffer>> = {
  create: (kv) => kv.createRevision,
  key: (kv) => kv.keyBytes,
  mod: (kv) => kv.modRevision,
  value: (kv) => kv.value,
  version: (kv) => kv.version,
};

/** Checks an order; returns what sorts by it. Keys of the same rank stay in the order in which they are given. */
export function sorted(sort: RangeOptions['sort']): (kvs: KeyValue[]) => KeyValue[] {
  if (sort === undefined) return (kvs) => kvs;
  checkOptions(sort, ['by', 'order'], 'sort');
  const { by, order = 'asc' } = sort;
  checkChoice(by, Object.keys(VALUES), 'sort.by');
  checkChoice(order, ['asc', 'desc'], 'sort.order');
  const valueOf = VALUES[by];
  const sign = order === 'asc' ? 1 : -1;
  return (kvs) => kvs.sort((one, other) => sign * compared(valueOf(one), valueOf(other)));
}

function compared(one: bigint | Buffer, other: bigint | Buffer): number {
  if (typeof one === 'bigint') return one < (other as bigint) ? -1 : one > (other as bigint) ? 1 : 0;
  return Buffer.compare(one, other as Buffer);
}
