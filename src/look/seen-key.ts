/**
 * What a key of the store is, told by its bytes and its lease alone: nobody has to say what a name is used for. A place in
 * a line is known by its last segment, which is the hex of its own lease, as Conclave, Go's `concurrency` package and
 * etcdctl write it.
 */
import type { KeyValue } from '../etcd/kv/key-value.js';
import { leaseHex } from '../etcd/lease/lease.js';
import { RESERVED_SEGMENTS, SESSION_KEYS } from '../util/key-space.js';

/** The primitives that keep several keys below a segment of their own, `name/.queue/…`. */
export const SPACES = ['barrier', 'double-barrier', 'latch', 'queue'] as const;

export type Space = (typeof SPACES)[number];

/** What a key is. */
export type SeenKey =
  /** A place in the line of `name`. `proven`: its last segment is its lease, so that `name` is a line. */
  | { readonly is: 'ticket'; readonly name: string; readonly suffix: string; readonly proven: boolean }
  /** Beside the line of `name`: whose the place of this suffix is. */
  | { readonly is: 'note'; readonly name: string; readonly suffix: string }
  /** Beside the line of `name`: a setting or a request of those who use it. */
  | { readonly is: 'beside'; readonly name: string; readonly what: 'limit' | 'upgrade' }
  /** One of the keys that a primitive keeps below `name`; all of them begin with `prefix`. */
  | { readonly is: 'inside'; readonly name: string; readonly space: Space; readonly prefix: string }
  /** Something that shows nothing by itself; so do all keys that begin with `prefix`. */
  | { readonly is: 'hidden'; readonly prefix: string };

const WHO = '.~who';

/** What the key is; undefined: none of a primitive's. */
export function seenKey(kv: KeyValue): SeenKey | undefined {
  const { key } = kv;
  // No name has one: what others keep there is not shown.
  if (key.includes('\0')) return undefined;
  if (key.startsWith(SESSION_KEYS)) return { is: 'hidden', prefix: SESSION_KEYS };
  const reserved = reservedIn(key);
  if (reserved !== undefined) return reserved;
  const beside = /^(.+)\.~(limit|upgrade)$/s.exec(key);
  if (beside !== null) {
    const [, name = '', what] = beside;
    return { is: 'beside', name, what: what === 'limit' ? 'limit' : 'upgrade' };
  }
  return inLine(kv);
}

function inLine(kv: KeyValue): SeenKey | undefined {
  const { key, leaseId } = kv;
  const slash = key.lastIndexOf('/');
  if (leaseId === undefined || slash <= 0) return undefined;
  const [name, suffix] = [key.slice(0, slash), key.slice(slash + 1)];
  if (name.endsWith(WHO)) return { is: 'note', name: name.slice(0, -WHO.length), suffix };
  if (key.includes('.~')) return undefined;
  const lease = leaseHex(leaseId);
  return { is: 'ticket', name, proven: suffix === lease || suffix.startsWith(`${lease}-`), suffix };
}

/** A key below the first segment that is reserved, if there is one with a name before it. */
function reservedIn(key: string): SeenKey | undefined {
  if (!key.includes('/.')) return undefined;
  for (let slash = key.indexOf('/', 1); slash > 0; slash = key.indexOf('/', slash + 1)) {
    const end = key.indexOf('/', slash + 1);
    if (end < 0) return undefined;
    const segment = key.slice(slash + 1, end);
    if (!RESERVED_SEGMENTS.includes(segment)) continue;
    const prefix = key.slice(0, end + 1);
    const space = SPACES.find((each) => `.${each}` === segment);
    return space === undefined
      ? { is: 'hidden', prefix }
      : { is: 'inside', name: key.slice(0, slash), prefix, space };
  }
  return undefined;
}
