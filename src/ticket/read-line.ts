/**
 * Reading a line, without what other primitives keep below the same name: a queue of that name may have 100,000 jobs there.
 * The ranges between the reserved segments are read at one revision, so that together they are as good as one.
 */
import type { CallOptions } from '../etcd/transport/call.js';
import type { Kv } from '../etcd/kv/kv.js';
import type { OpResult } from '../etcd/kv/kv-results.js';
import type { KeyRange } from '../etcd/kv/key-range.js';
import type { KeyValue } from '../etcd/kv/key-value.js';
import { type Op, op, type RangeOptions } from '../etcd/kv/op.js';
import { RESERVED_SEGMENTS } from '../util/key-space.js';
import type { LineName } from './line-keys.js';

/** etcd's limit of operations in one transaction. */
export const MOST_OPS = 128;

/** What was read of a line. */
export interface LineRead {
  readonly kvs: readonly KeyValue[];
  readonly revision: bigint;
}

/** What the keys of the other primitives of this name begin with, in the order of their bytes. */
export function reservedBelow(name: string): string[] {
  return RESERVED_SEGMENTS.map((segment) => `${name}/${segment}/`);
}

/** The ranges that hold the line of `name`, and what is beside it from `start` on, but nothing reserved. */
export function lineRanges(name: string, start = `${name}/`): KeyRange[] {
  const ranges: KeyRange[] = [];
  let from = start;
  for (const reserved of reservedBelow(name)) {
    ranges.push({ end: reserved, start: from });
    // The first key that does not begin with it: "0" comes after "/".
    from = `${reserved.slice(0, -1)}0`;
  }
  return [...ranges, { end: `${name}0`, start: from }];
}

/** The reads of a line, as one step of a transaction; `kvsOf` takes them out of its result. */
export function readOp(name: string, options: RangeOptions = {}): Op {
  return op.txn({ then: lineRanges(name).map((range) => op.get(range, options)) });
}

/** Reads of several lines, for one transaction. etcd counts the steps of the inner ones with those of the outer. */
export function readOps(names: readonly string[], options: RangeOptions = {}): Op[] {
  const fits = names.length + RESERVED_SEGMENTS.length < MOST_OPS;
  return names.map((name) => (fits ? readOp(name, options) : op.get({ prefix: `${name}/` }, options)));
}

/** The keys that a read found, in the order of their bytes; a transaction's are those of its reads. */
export function kvsOf(response: OpResult | undefined): readonly KeyValue[] {
  if (response?.type === 'txn') return response.responses.flatMap((each) => kvsOf(each));
  return response?.type === 'get' ? response.kvs : [];
}

/**
 * Whether what a read found is the front of the line, with nothing left out: of several ranges with a limit each, what one
 * of them cut off may stand before what another did not.
 */
export function isFront(response: OpResult): boolean {
  return response.type !== 'txn' || !response.responses.some((each) => each.type === 'get' && each.more);
}

/** Reads a line, and what is beside it from `besideKey` on. One linearizable read. */
export async function readLine(
  kv: Kv,
  { name, besideKey }: LineName,
  options: CallOptions & Pick<RangeOptions, 'keysOnly' | 'revision'> = {},
): Promise<LineRead> {
  const { keysOnly, revision: at, ...call } = options;
  const reads = lineRanges(name, besideKey).map((range) => op.get(range, { keysOnly, revision: at }));
  const { responses, revision } = await kv.txn({ then: reads }, call);
  return { kvs: responses.flatMap((each) => kvsOf(each)), revision };
}
