/**
 * The limit of a semaphore, as its users agree on it: the key `name.~limit`, without a lease. Its value is
 * `{"limit":4}`, or after a resize `{"limit":8,"declared":4}`, where `declared` is what the first user asked for.
 *
 * A smaller limit takes nothing from those who hold. So that everybody agrees on who does, it is written in two steps:
 * with `before`, the limit that counted until then; and, once the line as it was at that revision has been read, with
 * `admitted`, the create revision up to which keys had been admitted.
 */
import { ConclaveError } from '../errors/conclave-error.js';
import { compare } from '../etcd/kv/compare.js';
import type { KeyValue } from '../etcd/kv/key-value.js';
import { type Op, op } from '../etcd/kv/op.js';
import type { Policy } from '../ticket/line-audience.js';
import { tagOf } from './tag.js';

/** What is agreed. */
export interface Limit {
  /** How many permits there are now. */
  readonly limit: number;
  /** How many there were to be when it was first used; other than `limit` after a resize. */
  readonly declared: number;
  /** Keys created up to this revision were admitted when the limit was greater, and hold for as long as they are there. */
  readonly admitted?: number | undefined;
  /** The greater limit until this one was written; undefined once `admitted` says who held then. */
  readonly before?: number | undefined;
}

const parsed = new WeakMap<KeyValue, Limit | 'unreadable'>();

/** The key beside the line of `name` that holds its limit. */
export function limitKeyOf(name: string): string {
  return `${name}.~limit`;
}

/** The value of the key: the same bytes for the same agreement. */
export function writeLimit({ limit, declared, admitted, before }: Limit): string {
  const asDeclared = limit === declared && admitted === undefined && before === undefined;
  return JSON.stringify(asDeclared ? { limit } : { limit, declared, admitted, before });
}

/** What removes the limit, unless it was resized. Safe to repeat. */
export function forgetLimit(key: string, { declared }: Limit): Op[] {
  // A limit that has come back to what was declared may say who was admitted before.
  const start = `{"limit":${String(declared)},"declared":${String(declared)}`;
  const conditions = [
    [compare.value(key, '=', writeLimit({ declared, limit: declared }))],
    [compare.value(key, '>', `${start},`), compare.value(key, '<', `${start}-`)],
  ];
  return conditions.map((each) => op.txn({ if: each, then: [op.delete(key)] }));
}

/** What the key says. Throws `MISMATCH` when it is not a limit of ours. */
export function readLimit(kv: KeyValue): Limit {
  const found = parse(kv);
  if (found !== 'unreadable') return found;
  const text = `${kv.key} should hold a semaphore's limit but holds ${JSON.stringify(kv.string().slice(0, 60))}: somebody else wrote it`;
  throw new ConclaveError('MISMATCH', text, { key: kv.key });
}

/** How many permits there are; undefined when the key is not a limit of ours. */
export function limitOf(kv: KeyValue | undefined): number | undefined {
  const found = kv === undefined ? 'unreadable' : parse(kv);
  return found === 'unreadable' ? undefined : found.limit;
}

/**
 * From the front of the line on those that were admitted before the limit shrank, and more for as long as the weights of
 * all fit into the limit. A key without a weight (of a plain Mutex, of Go's clients) needs all there is.
 */
export const whileItFits: Policy = function* whileItFits(line, beside) {
  const agreed = beside === undefined ? 'unreadable' : parse(beside);
  if (agreed !== 'unreadable') yield* admittedOf(line, agreed);
};

/** As `whileItFits`, for a limit that is known. */
export function* admittedOf(line: Iterable<KeyValue>, { limit, admitted = 0 }: Limit): Iterable<KeyValue> {
  let used = 0;
  for (const kv of line) {
    const weight = tagOf(kv).weight ?? Infinity;
    const fits = used + weight <= limit || (weight === Infinity && used === 0);
    if (!fits && kv.createRevision > admitted) return;
    used += weight;
    yield kv;
  }
}

function parse(kv: KeyValue): Limit | 'unreadable' {
  let found = parsed.get(kv);
  if (found === undefined) {
    found = parseLimit(kv);
    parsed.set(kv, found);
  }
  return found;
}

function parseLimit(kv: KeyValue): Limit | 'unreadable' {
  let value: unknown;
  try {
    value = kv.json();
  } catch {
    return 'unreadable';
  }
  const { limit, declared = limit, admitted, before } = (value ?? {}) as Record<string, unknown>;
  if (!isCount(limit) || !isCount(declared)) return 'unreadable';
  return {
    admitted: isCount(admitted) ? admitted : undefined,
    before: isCount(before) ? before : undefined,
    declared,
    limit,
  };
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value > 0;
}
