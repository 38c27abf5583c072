/** What a cache, and its reads, are made with. */
import { checkChoice, checkInt64, checkOptions } from '../../util/validate.js';
import type { KeyRange } from '../kv/key-range.js';
import type { KeyValue } from '../kv/key-value.js';
import type { RangeOptions } from '../kv/op.js';
import type { CallOptions } from '../transport/call.js';

/** Options of a cache. */
export interface CacheOptions {
  /**
   * What it may hold, in bytes: of names and values, and 450 for each key. When the range has more, the cache ends with
   * `OVER_LIMIT`. While the range is read anew there may be twice as much. @default 64 MiB
   */
  readonly maxBytes?: number | undefined;
}

/**
 * How new an answer must be. `linearizable`: it has every write that was answered before the read began, as `kv.get` has.
 * `{ atLeast }`: it has all that was written up to this revision. `local`: what is there, without asking etcd.
 */
export type CacheConsistency = 'linearizable' | 'local' | { readonly atLeast: bigint };

/** Options of a cache's reads. */
export interface CacheReadOptions extends CallOptions {
  /** How new the answer must be. @default 'linearizable' */
  readonly consistency?: CacheConsistency | undefined;
}

/** Options of `list`. */
export interface CacheListOptions extends CacheReadOptions, Pick<RangeOptions, 'limit' | 'sort'> {
  /** Only what lies in this part of the cache's range. @default all of it */
  readonly range?: KeyRange | undefined;
  /** Only those that it returns true for. `limit` counts those. */
  readonly filter?: ((kv: KeyValue) => boolean) | undefined;
}

/** What `list` found. */
export interface CacheList {
  readonly kvs: readonly KeyValue[];
  /** Whether `limit` cut the answer. */
  readonly more: boolean;
  /** The revision at which the cache was. */
  readonly revision: bigint;
}

/** The names of `CacheReadOptions`. */
export const READ_OPTIONS = ['consistency', 'timeoutMs', 'signal'] as const;
/** The names of `CacheListOptions`. */
export const LIST_OPTIONS = [...READ_OPTIONS, 'range', 'limit', 'sort', 'filter'] as const;

/** Checks it; returns the revision that it asks for, if any. */
export function checkConsistency(consistency: CacheConsistency): bigint | undefined {
  if (typeof consistency === 'object' && (consistency as unknown) !== null) {
    checkOptions(consistency, ['atLeast'], 'consistency');
    return checkInt64(consistency.atLeast, 'atLeast', 0n);
  }
  checkChoice(consistency, ['linearizable', 'local'], 'consistency');
  return undefined;
}
