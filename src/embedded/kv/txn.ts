import type { RequestOp, ResponseOpInput, TxnRequest, TxnResponseInput } from '../../proto/messages.gen.js';
import { holds } from './compare.js';
import type { LeaseTable } from '../lease/lease-table.js';
import { readRange } from './range-read.js';
import { etcdError } from '../rpc/rpc-error.js';
import type { Store } from '../store/store.js';
import type { WriteBatch } from '../store/write-batch.js';
import { applyDelete, applyPut, checkPutKey, checkPutLease } from './write-ops.js';

/** The branch a transaction will take, and the same for those inside it. */
interface Plan {
  readonly succeeded: boolean;
  readonly steps: readonly Step[];
}

interface Step {
  readonly op: RequestOp;
  /** Of a nested transaction. */
  readonly plan: Plan | undefined;
}

/**
 * Carries out a transaction that has been checked. As in etcd, all compares, nested ones too, see the store as it was
 * before; what can fail is looked for in the branches that will be taken before anything is written; and all writes
 * become one revision.
 */
export function runTxn(store: Store, leases: LeaseTable, request: TxnRequest): TxnResponseInput {
  const plan = planOf(store, request);
  for (const op of opsOf(plan)) {
    if (op.requestPut === undefined) continue;
    checkPutKey(store, op.requestPut);
    checkPutLease(leases, op.requestPut);
  }
  for (const op of opsOf(plan))
    if (op.requestRange !== undefined) checkRevision(store, op.requestRange.revision);
  return store.write((batch) => ({
    ...apply(store, batch, plan),
    header: { revision: batch.revision },
  }));
}

/** Whether a transaction only reads, whichever way it goes; one with a nested transaction counts as writing. */
export function isReadOnly(request: TxnRequest): boolean {
  const reads = (op: RequestOp): boolean => op.requestRange !== undefined;
  return request.success.every(reads) && request.failure.every(reads);
}

function planOf(store: Store, request: TxnRequest): Plan {
  const succeeded = request.compare.every((compare) => holds(store, compare));
  const ops = succeeded ? request.success : request.failure;
  return {
    succeeded,
    steps: ops.map((op) => ({
      op,
      plan: op.requestTxn === undefined ? undefined : planOf(store, op.requestTxn),
    })),
  };
}

/** The operations that will be carried out, in order. */
function* opsOf(plan: Plan): Generator<RequestOp> {
  for (const step of plan.steps) {
    if (step.plan === undefined) yield step.op;
    else yield* opsOf(step.plan);
  }
}

/** A read inside a transaction is held against the store's revision before it; a negative one is compacted. */
function checkRevision(store: Store, revision: bigint): void {
  if (revision === 0n) return;
  if (revision > store.revision) throw etcdError('FUTURE_REVISION');
  if (revision < store.compactedRevision) throw etcdError('COMPACTED');
}

function apply(store: Store, batch: WriteBatch, plan: Plan): TxnResponseInput {
  // The header of a nested answer is there and empty.
  return {
    header: {},
    succeeded: plan.succeeded,
    responses: plan.steps.map((step) => applyStep(store, batch, step)),
  };
}

function applyStep(store: Store, batch: WriteBatch, { op, plan }: Step): ResponseOpInput {
  if (plan !== undefined) return { responseTxn: apply(store, batch, plan) };
  if (op.requestRange !== undefined) return { responseRange: readRange(store, batch, op.requestRange) };
  if (op.requestPut !== undefined) return { responsePut: applyPut(store, batch, op.requestPut) };
  if (op.requestDeleteRange !== undefined)
    return { responseDeleteRange: applyDelete(batch, op.requestDeleteRange) };
  return {};
}
