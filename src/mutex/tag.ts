/** What the keys of this room say about themselves: the mode of a lock, the weight of a permit. */

import type { KeyValue } from '../etcd/kv/key-value.js';
import { leaseHex } from '../etcd/lease/lease.js';
import type { Session } from '../session/session.js';
import { readOwner } from '../ticket/owner.js';
import { chance } from '../util/chance.js';

/** How a lock is held: by readers together, or by one writer. */
export type LockMode = 'read' | 'write';

/** What a key says. A key of a plain Mutex, of Go's clients or of etcdctl says nothing, and excludes everybody. */
export interface Tag {
  readonly mode: LockMode;
  /** Undefined: all there is. */
  readonly weight: number | undefined;
}

const FOREIGN: Tag = { mode: 'write', weight: undefined };
/** `<lease>-<id>`, as `newSuffix` makes it: no other client's key looks like this. */
const OURS = /\/-?[0-9a-f]+-[\w-]{21}$/;

const tags = new WeakMap<KeyValue, Tag>();

/** What the key says; parsed once for each version of it. */
export function tagOf(kv: KeyValue): Tag {
  let tag = tags.get(kv);
  if (tag === undefined) {
    tag = OURS.test(kv.key) ? readTag(kv) : FOREIGN;
    tags.set(kv, tag);
  }
  return tag;
}

/** The last part of a new key: one for each hold, so that a session can have many. */
export function newSuffix(session: Session): string {
  return `${leaseHex(session.leaseId)}-${chance.id()}`;
}

function readTag(kv: KeyValue): Tag {
  const { mode, weight } = readOwner(kv);
  return {
    mode: mode === 'read' ? 'read' : 'write',
    weight: typeof weight === 'number' && Number.isSafeInteger(weight) && weight > 0 ? weight : undefined,
  };
}
