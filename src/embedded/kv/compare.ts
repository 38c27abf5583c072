import type { Compare } from '../../proto/messages.gen.js';
import type { KeyVersion } from '../store/key-history.js';
import { keyRange } from '../store/key-range.js';
import type { Store } from '../store/store.js';

/** What a compare sees of a key that does not exist. */
const MISSING = { version: 0n, createRevision: 0n, modRevision: 0n, lease: 0n, value: Buffer.alloc(0) };

type Compared = Pick<KeyVersion, 'version' | 'createRevision' | 'modRevision' | 'lease' | 'value'>;

/**
 * Whether every key in the compare's range passes. An empty range is compared as one key of zeros, but for a value:
 * a value that is not there equals nothing, differs from nothing.
 */
export function holds(store: Store, compare: Compare): boolean {
  const { kvs } = store.range(keyRange(compare.key, compare.rangeEnd));
  if (kvs.length > 0) return kvs.every((kv) => passes(compare, kv));
  return compare.target !== 'VALUE' && passes(compare, MISSING);
}

function passes(compare: Compare, kv: Compared): boolean {
  const order = orderOf(compare, kv);
  switch (compare.result) {
    case 'EQUAL':
      return order === 0;
    case 'NOT_EQUAL':
      return order !== 0;
    case 'GREATER':
      return order > 0;
    case 'LESS':
      return order < 0;
    default:
      return true;
  }
}

/** How the key stands to the compare's operand: negative is less. An operand of another target counts as zero. */
function orderOf(compare: Compare, kv: Compared): number {
  switch (compare.target) {
    case 'VALUE':
      return Buffer.compare(kv.value, compare.value ?? MISSING.value);
    case 'VERSION':
      return difference(kv.version, compare.version);
    case 'CREATE':
      return difference(kv.createRevision, compare.createRevision);
    case 'MOD':
      return difference(kv.modRevision, compare.modRevision);
    case 'LEASE':
      return difference(kv.lease, compare.lease);
    default:
      return 0;
  }
}

function difference(a: bigint, b = 0n): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
