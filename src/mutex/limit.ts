/**
 * The limit of a semaphore, as its users agree on it: the key `name.~limit`, without a lease. Its value is
 * `{"limit":4}`, or after a resize `{"limit":8,"declared":4}`, where `declared` is what the first user asked for.
 */
import { ConclaveError } from '../errors/conclave-error.js';
import type { KeyValue } from '../etcd/key-value.js';
import type { Policy } from '../ticket/line-audience.js';
import { tagOf } from './tag.js';

/** What is agreed. */
export interface Limit {
  /** How many permits there are now. */
  readonly limit: number;
  /** How many there were to be when it was first used; other than `limit` after a resize. */
  readonly declared: number;
}

const parsed = new WeakMap<KeyValue, Limit | 'unreadable'>();

/** The key beside the line of `name` that holds its limit. */
export function limitKeyOf(name: string): string {
  return `${name}.~limit`;
}

/** The value of the key: the same bytes for the same agreement. */
export function writeLimit({ limit, declared }: Limit): string {
  return JSON.stringify(limit === declared ? { limit } : { limit, declared });
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
 * Holders and waiters from the front on for as long as their weights fit into the limit. A key without a weight (of a
 * plain Mutex, of Go's clients) needs all there is.
 */
export const whileItFits: Policy = function* whileItFits(line, beside) {
  const limit = limitOf(beside);
  if (limit === undefined) return;
  let used = 0;
  for (const kv of line) {
    const weight = tagOf(kv).weight ?? Infinity;
    if (weight === Infinity && used === 0) yield kv;
    used += weight;
    if (used > limit) return;
    yield kv;
  }
};

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
  const { limit, declared = limit } = (value ?? {}) as Record<string, unknown>;
  if (!isCount(limit) || !isCount(declared)) return 'unreadable';
  return { declared, limit };
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value > 0;
}
