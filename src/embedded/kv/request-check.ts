import type {
  DeleteRangeRequest,
  PutRequest,
  RangeRequest,
  RequestOp,
  TxnRequest,
} from '../../proto/messages.gen.js';
import { IntervalTree } from '../watch/interval-tree.js';
import { keyRange, keyText, type KeyText } from '../store/key-range.js';
import { etcdError } from '../rpc/rpc-error.js';

/** How many compares, or operations of one branch, a transaction and all that are around it may have. */
const MAX_TXN_OPS = 128;

/** Refuses a range request etcd would refuse without looking at the store. */
export function checkRange(request: RangeRequest): void {
  if (request.key.length === 0) throw etcdError('EMPTY_KEY');
  // The decoder leaves an enum number that it does not know as a number.
  if (typeof request.sortOrder === 'number' || typeof request.sortTarget === 'number') {
    throw etcdError('INVALID_SORT_OPTION');
  }
}

/** Refuses a put request etcd would refuse without looking at the store. */
export function checkPut(request: PutRequest): void {
  if (request.key.length === 0) throw etcdError('EMPTY_KEY');
  if (request.ignoreValue && request.value.length > 0) throw etcdError('VALUE_PROVIDED');
  if (request.ignoreLease && request.lease !== 0n) throw etcdError('LEASE_PROVIDED');
}

/** Refuses a delete request etcd would refuse without looking at the store. */
export function checkDelete(request: DeleteRangeRequest): void {
  if (request.key.length === 0) throw etcdError('EMPTY_KEY');
}

/** Refuses a transaction etcd would refuse without looking at the store; both branches count. */
export function checkTxn(txn: TxnRequest): void {
  checkTxnOps(txn, MAX_TXN_OPS);
  checkOverlaps(txn.success);
  checkOverlaps(txn.failure);
}

function checkTxnOps(txn: TxnRequest, budget: number): void {
  const ops = Math.max(txn.compare.length, txn.success.length, txn.failure.length);
  if (ops > budget) throw etcdError('TOO_MANY_OPS');
  if (txn.compare.some((compare) => compare.key.length === 0)) throw etcdError('EMPTY_KEY');
  for (const op of txn.success) checkOp(op, budget - ops);
  for (const op of txn.failure) checkOp(op, budget - ops);
}

function checkOp(op: RequestOp, budget: number): void {
  if (op.requestRange) checkRange(op.requestRange);
  else if (op.requestPut) checkPut(op.requestPut);
  else if (op.requestDeleteRange) checkDelete(op.requestDeleteRange);
  else if (op.requestTxn) checkTxnOps(op.requestTxn, budget);
  // An operation with nothing in it: etcd's own, odd, answer.
  else throw etcdError('KEY_NOT_FOUND');
}

/** What one branch writes, whichever way the transactions in it go. */
interface Writes {
  readonly puts: Set<KeyText>;
  readonly deletes: IntervalTree<true>;
}

/**
 * Refuses a key that is put twice, or put and deleted, where both could happen. As in etcd, the puts of a nested
 * transaction are not held against deletes of a later one, and a delete of everything from a key on ("\0") is ignored.
 */
function checkOverlaps(ops: readonly RequestOp[]): Writes {
  const puts = new Set<KeyText>();
  const deletes = new IntervalTree<true>();
  for (const { requestDeleteRange: request } of ops) {
    if (request === undefined) continue;
    if (request.rangeEnd.length === 1 && request.rangeEnd[0] === 0) continue;
    deletes.add(keyRange(request.key, request.rangeEnd), true);
  }
  for (const { requestTxn: nested } of ops) {
    if (nested === undefined) continue;
    const then = checkOverlaps(nested.success);
    const otherwise = checkOverlaps(nested.failure);
    for (const key of then.puts) addPut(key);
    // Only one of the two branches will be taken, so they may share keys.
    for (const key of otherwise.puts) if (!then.puts.has(key)) addPut(key);
    for (const branch of [then, otherwise])
      for (const range of branch.deletes.ranges()) deletes.add(range, true);
  }
  for (const { requestPut: request } of ops) if (request !== undefined) addPut(keyText(request.key));
  return { puts, deletes };

  function addPut(key: KeyText): void {
    if (puts.has(key) || deletes.at(key).length > 0) throw etcdError('DUPLICATE_KEY');
    puts.add(key);
  }
}
