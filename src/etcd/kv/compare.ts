import type { CompareCompareResult, CompareInput } from '../../proto/messages.gen.js';
import type { Bytes } from '../../util/bytes.js';
import { checkInt64 } from '../../util/validate.js';
import { encodeRange, encodeValue, type KeyRange } from './key-range.js';

/** How a compare holds what is stored against what is given. */
export type CompareSign = '=' | '!=' | '<' | '>';

/** One condition of a transaction. Made by `compare`; opaque otherwise. */
export interface Compare {
  /** As it goes over the wire. */
  readonly wire: CompareInput;
}

const RESULTS: Readonly<Record<CompareSign, CompareCompareResult>> = {
  '!=': 'NOT_EQUAL',
  '<': 'LESS',
  '=': 'EQUAL',
  '>': 'GREATER',
};

function condition(range: KeyRange, sign: CompareSign, rest: CompareInput): Compare {
  const result = RESULTS[sign] as CompareCompareResult | undefined;
  if (result === undefined) throw new TypeError(`a compare's sign must be =, !=, < or >, not ${sign}`);
  const { key, rangeEnd } = encodeRange(range);
  return { wire: { key, rangeEnd, result, ...rest } };
}

/**
 * The conditions a transaction can test. Every key of a range must meet it; a key that does not exist compares as
 * all zeros, except that a `value` compare on it never holds, whatever the sign.
 */
export const compare = {
  /** The revision at which the key was created; 0n: it does not exist. */
  createRevision: (range: KeyRange, sign: CompareSign, createRevision: bigint): Compare =>
    condition(range, sign, {
      createRevision: checkInt64(createRevision, 'createRevision'),
      target: 'CREATE',
    }),
  /** The revision of the key's last change; 0n: it does not exist. */
  modRevision: (range: KeyRange, sign: CompareSign, modRevision: bigint): Compare =>
    condition(range, sign, { modRevision: checkInt64(modRevision, 'modRevision'), target: 'MOD' }),
  /** How often the key was written since its creation; 0n: it does not exist. */
  version: (range: KeyRange, sign: CompareSign, version: bigint): Compare =>
    condition(range, sign, { target: 'VERSION', version: checkInt64(version, 'version') }),
  /** The key's value, compared as bytes. */
  value: (range: KeyRange, sign: CompareSign, value: Bytes): Compare =>
    condition(range, sign, { target: 'VALUE', value: encodeValue(value) }),
  /** The lease the key is bound to; 0n: none. */
  lease: (range: KeyRange, sign: CompareSign, leaseId: bigint): Compare =>
    condition(range, sign, { lease: checkInt64(leaseId, 'leaseId'), target: 'LEASE' }),
  /** The key exists. */
  exists: (key: Bytes): Compare => compare.createRevision(key, '!=', 0n),
  /** The key does not exist. */
  missing: (key: Bytes): Compare => compare.createRevision(key, '=', 0n),
};
