/** What the key-value calls resolve with, and how it is read from the wire. */
import type {
  DeleteRangeResponse,
  PutResponse,
  RangeResponse,
  ResponseOp,
  TxnResponse,
} from '../../proto/messages.gen.js';
import { inJson } from '../../util/shown.js';
import { KeyValue } from './key-value.js';

/** What a read found. */
export interface RangeResult {
  readonly kvs: readonly KeyValue[];
  /** How many keys the range holds, whatever the limit and the revision filters. */
  readonly count: bigint;
  /** Whether `limit` cut the answer. */
  readonly more: boolean;
  /** The store's revision when it answered. */
  readonly revision: bigint;
}

/** What a put did. */
export interface PutResult {
  /** The revision of the write. */
  readonly revision: bigint;
  /** What the key held before; only with `prevKv`, and only if it existed. */
  readonly previous: KeyValue | undefined;
}

/** What a delete did. */
export interface DeleteResult {
  /** The revision of the deletion, or the store's revision if there was nothing to delete. */
  readonly revision: bigint;
  readonly deleted: bigint;
  /** What was deleted; only with `prevKv`. */
  readonly previous: readonly KeyValue[];
}

/** The answer to a read in a transaction. */
export interface GetAnswer {
  readonly type: 'get';
  readonly kvs: readonly KeyValue[];
  /** How many keys the range holds, whatever the limit and the revision filters. */
  readonly count: bigint;
  /** Whether `limit` cut the answer. */
  readonly more: boolean;
}

/** The answer to a put in a transaction. */
export interface PutAnswer {
  readonly type: 'put';
  /** What the key held before; only with `prevKv`, and only if it existed. */
  readonly previous: KeyValue | undefined;
}

/** The answer to a delete in a transaction. */
export interface DeleteAnswer {
  readonly type: 'delete';
  readonly deleted: bigint;
  /** What was deleted; only with `prevKv`. */
  readonly previous: readonly KeyValue[];
}

/** The answer to a transaction within a transaction. */
export type TxnAnswer<Outcome extends TxnOutcome = TxnOutcome> = Outcome & { readonly type: 'txn' };

/** The answer to one step of a transaction, in the order of the steps. */
export type OpResult = GetAnswer | PutAnswer | DeleteAnswer | TxnAnswer;

/** Which branch of a transaction ran, and what its steps answered. */
export interface TxnOutcome {
  /** Whether the conditions held, so that `then` ran and not `else`. */
  readonly succeeded: boolean;
  /** One for each step, in their order. */
  readonly responses: readonly OpResult[];
}

/** What a transaction did. */
export interface TxnResult extends TxnOutcome {
  /** The revision of its writes, or the store's revision if it wrote nothing. */
  readonly revision: bigint;
}

export function rangeResult({ count, header, kvs, more }: RangeResponse): RangeResult {
  return inJson({ count, kvs: kvs.map((kv) => new KeyValue(kv)), more, revision: header?.revision ?? 0n });
}

export function putResult({ header, prevKv }: PutResponse): PutResult {
  return inJson({
    previous: prevKv === null ? undefined : new KeyValue(prevKv),
    revision: header?.revision ?? 0n,
  });
}

export function deleteResult({ deleted, header, prevKvs }: DeleteRangeResponse): DeleteResult {
  return inJson({
    deleted,
    previous: prevKvs.map((kv) => new KeyValue(kv)),
    revision: header?.revision ?? 0n,
  });
}

export function txnResult({ header, responses, succeeded }: TxnResponse): TxnResult {
  return inJson({
    responses: responses.map((each) => inJson(opResult(each))),
    revision: header?.revision ?? 0n,
    succeeded,
  });
}

function opResult(response: ResponseOp): OpResult {
  if (response.responsePut !== undefined) {
    const { prevKv } = response.responsePut;
    return { previous: prevKv === null ? undefined : new KeyValue(prevKv), type: 'put' };
  }
  if (response.responseDeleteRange !== undefined) {
    const { deleted, prevKvs } = response.responseDeleteRange;
    return { deleted, previous: prevKvs.map((kv) => new KeyValue(kv)), type: 'delete' };
  }
  if (response.responseTxn !== undefined) {
    const { succeeded, responses } = response.responseTxn;
    return { responses: responses.map((each) => inJson(opResult(each))), succeeded, type: 'txn' };
  }
  const range = response.responseRange;
  return {
    count: range?.count ?? 0n,
    kvs: (range?.kvs ?? []).map((kv) => new KeyValue(kv)),
    more: range?.more ?? false,
    type: 'get',
  };
}
