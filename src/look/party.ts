/** Somebody who holds or waits, by the key that says so. */
import type { KeyValue } from '../etcd/kv/key-value.js';
import { leaseHex } from '../etcd/lease/lease.js';
import { ownerOf } from '../ticket/owner.js';
import type { Party } from './names.js';

/** Where else than in the key it stands. */
export interface PartyKeys {
  /** The key that is on the lease. @default the key itself */
  readonly bound?: KeyValue | undefined;
  /** The key that says who it is. @default the key itself */
  readonly note?: KeyValue | undefined;
}

/** Who stands at a key. */
export function partyOf(kv: KeyValue, { bound = kv, note = kv }: PartyKeys = {}): Party {
  const owner = ownerOf(note);
  return {
    key: kv.key,
    ...owner,
    lease: bound.leaseId === undefined ? undefined : leaseHex(bound.leaseId),
    createRevision: String(kv.createRevision),
    modRevision: String(kv.modRevision),
    foreign: owner.host === undefined,
  };
}
