import type {
  DeleteRangeRequest,
  DeleteRangeResponseInput,
  PutRequest,
  PutResponseInput,
} from '../../proto/messages.gen.js';
import { keyRange, singleKey, keyText } from '../store/key-range.js';
import type { LeaseTable } from '../lease/lease-table.js';
import { etcdError } from '../rpc/rpc-error.js';
import type { Store } from '../store/store.js';
import type { WriteBatch } from '../store/write-batch.js';

/** Throws when a put needs a lease that does not exist. */
export function checkPutLease(leases: LeaseTable, request: PutRequest): void {
  if (request.lease !== 0n && !leases.has(request.lease)) throw etcdError('LEASE_NOT_FOUND');
}

/** Throws when a put needs a key that does not exist. */
export function checkPutKey(store: Store, request: PutRequest): void {
  if (!request.ignoreValue && !request.ignoreLease) return;
  if (store.range(singleKey(keyText(request.key))).count === 0) throw etcdError('KEY_NOT_FOUND');
}

/** Carries out a put that has been checked. */
export function applyPut(store: Store, batch: WriteBatch, request: PutRequest): PutResponseInput {
  const { ignoreValue, ignoreLease, prevKv } = request;
  const previous =
    ignoreValue || ignoreLease || prevKv
      ? store.range(singleKey(keyText(request.key)), { reader: batch }).kvs[0]
      : undefined;
  const value = ignoreValue && previous !== undefined ? previous.value : request.value;
  const lease = ignoreLease && previous !== undefined ? previous.lease : request.lease;
  batch.put(request.key, value, lease);
  return { header: { revision: batch.revision }, prevKv: prevKv ? previous : undefined };
}

/** Carries out a delete that has been checked. */
export function applyDelete(batch: WriteBatch, request: DeleteRangeRequest): DeleteRangeResponseInput {
  const deleted = batch.delete(keyRange(request.key, request.rangeEnd));
  return {
    header: { revision: batch.revision },
    deleted: BigInt(deleted.length),
    prevKvs: request.prevKv ? deleted : [],
  };
}
