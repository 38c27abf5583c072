/** etcd's key-value calls. */
import { services } from '../../proto/services.js';
import {
  type DeleteRangeRequestInput,
  type PutRequestInput,
  type RangeRequestInput,
  type TxnResponse,
} from '../../proto/messages.gen.js';
import { promised } from '../../util/promised.js';
import type { Bytes } from '../../util/bytes.js';
import { checkCount, checkInt64, checkOptions } from '../../util/validate.js';
import { Batcher } from './batcher.js';
import { areBoundToOneLease, bytesOf, isHeavy, isRead, type Name, nameOf, txnName } from './calls.js';
import type { CallKind, CallOptions, MemberCallOptions } from '../transport/call.js';
import type { Endpoint } from '../transport/endpoint.js';
import { type Link, memberOf } from '../transport/link.js';
import type { Compare } from './compare.js';
import { encodeKey, encodeRange, type KeyRange } from './key-range.js';
import { type KeyValue } from './key-value.js';
import {
  type DeleteResult,
  deleteResult,
  type PutResult,
  putResult,
  type RangeResult,
  rangeResult,
  txnResult,
} from './kv-results.js';
import { deleteStep, getStep, putStep } from './kv-steps.js';
import {
  type DeleteOptions,
  deleteRequest,
  type Op,
  type PutOptions,
  putRequest,
  type RangeOptions,
  rangeRequest,
  txnRequest,
  type TxnResultOf,
  type TxnSpec,
} from './op.js';
import { scanRange } from './scan.js';
import type { WriteGate } from './write-gate.js';

export type { OpResult, TxnResult } from './kv-results.js';

/** Options of a transaction's call. */
export interface TxnCallOptions extends MemberCallOptions {
  /**
   * Says that a compare keeps the transaction from being applied twice, so that it may be sent again when its answer
   * is lost. `succeeded` is then false if the first try had been applied. @default false
   */
  readonly idempotent?: boolean | undefined;
  /** Called when it is sent again after an answer was lost: the earlier request may still arrive, after the later one. */
  readonly onRepeat?: (() => void) | undefined;
  /** @internal Its `timeoutMs` counts from when it is sent, as the client's own limit does. */
  readonly waits?: boolean | undefined;
}

/** Options of a scan. */
export interface ScanOptions
  extends MemberCallOptions, Pick<RangeOptions, 'revision' | 'serializable' | 'keysOnly'> {
  /**
   * Keys fetched at a time; given, all is read page by page.
   * @default 1000 in the first page, then whatever the server puts together, or pages of 1000
   */
  readonly pageSize?: number | undefined;
}

const TXN_OPTIONS = ['idempotent', 'onRepeat', 'timeoutMs', 'signal', 'waits', 'endpoint'] as const;
const SCAN_OPTIONS = [
  'revision',
  'serializable',
  'keysOnly',
  'pageSize',
  'timeoutMs',
  'signal',
  'endpoint',
] as const;
const PAGE_SIZE = 1000;

/**
 * Which calls may share a transaction when many are made at once: `reads` (of single keys), those and `all` plain puts and
 * deletes of single keys, or `none`.
 */
export type Batching = 'none' | 'reads' | 'all';

/** A call as it is sent: how errors name it, and the member that is asked, if one is named. */
interface Sent extends Name {
  readonly endpoint: Endpoint | undefined;
}

/**
 * etcd's key-value calls. Those that take an `endpoint` are made to that member alone, by themselves: they share no
 * transaction with others, and no other member is asked beside it or after it.
 */
export class Kv {
  readonly #connection: Link;
  readonly #gate: WriteGate;
  readonly #reads: Batcher | undefined;
  readonly #writes: Batcher | undefined;

  constructor(connection: Link, gate: WriteGate, batch: Batching) {
    this.#connection = connection;
    this.#gate = gate;
    this.#reads = batch === 'none' ? undefined : new Batcher(connection, 'read');
    this.#writes = batch === 'all' ? new Batcher(connection, 'write') : undefined;
  }

  /** The key's value, or undefined if it does not exist. Rejects with `COMPACTED` for a `revision` that is gone. */
  get(
    key: Bytes,
    options: MemberCallOptions & Pick<RangeOptions, 'revision' | 'serializable' | 'keysOnly'> = {},
  ): Promise<KeyValue | undefined> {
    return promised(() => {
      const request = rangeRequest(encodeKey(key), options);
      const name = this.#sent('range', key, options);
      const alone = (limit: CallOptions): Promise<KeyValue | undefined> =>
        this.#range(request, name, limit).then(({ kvs }) => kvs[0]);
      const isShared = name.endpoint === undefined && options.revision === undefined;
      const reads = isShared ? this.#reads : undefined;
      return reads === undefined ? alone(options) : reads.run(getStep(request, { alone, name }), options);
    });
  }

  /**
   * Reads a range. Linearizable unless `serializable`. Safe to repeat, and repeated on another member if need be, unless
   * `endpoint` names one.
   */
  async range(range: KeyRange, options: RangeOptions & MemberCallOptions = {}): Promise<RangeResult> {
    return await this.#range(rangeRequest(range, options), this.#sent('range', range, options), options);
  }

  /**
   * Iterates over a range in key order, all at one revision: `revision`, or that of its first page. What follows that page
   * comes as one stream where the member has it (etcd 3.7), else page by page. Throws `COMPACTED` if the revision is
   * compacted meanwhile, and `HISTORY_REVERTED` if another cluster answers.
   */
  async *scan(range: KeyRange, options: ScanOptions = {}): AsyncGenerator<KeyValue, void, undefined> {
    checkOptions(options, SCAN_OPTIONS, 'a scan');
    const { keysOnly, pageSize, revision, serializable } = options;
    if (revision !== undefined) checkInt64(revision, 'revision', 0n);
    yield* scanRange(this.#connection, {
      ...limits(options),
      ...this.#sent('scan', range, options),
      keysOnly,
      pageSize: checkCount(pageSize ?? PAGE_SIZE, 'pageSize', 1),
      paged: pageSize !== undefined,
      range: encodeRange(range),
      // To etcd, 0 is "now", which is another revision with each page.
      revision: revision === 0n ? undefined : revision,
      serializable,
    });
  }

  /**
   * Writes a key. Rejects with `UNKNOWN_OUTCOME` when the answer is lost: it is never sent twice. Rejects with
   * `LEASE_NOT_FOUND` when `leaseId` is gone.
   */
  put(key: Bytes, value: Bytes, options: PutOptions & MemberCallOptions = {}): Promise<PutResult> {
    return promised(() => {
      const request = putRequest(key, value, options);
      const name = this.#sent('put', key, options);
      const alone = (limit: CallOptions): Promise<PutResult> => this.#put(request, name, limit);
      const writes = name.endpoint === undefined ? this.#writes : undefined;
      return this.#gate.pass(name.what, options, (limit) =>
        writes === undefined ? alone(limit) : writes.run(putStep(request, { alone, name }), limit),
      );
    });
  }

  /** Deletes a range. Rejects with `UNKNOWN_OUTCOME` when the answer is lost. */
  delete(range: KeyRange, options: DeleteOptions & MemberCallOptions = {}): Promise<DeleteResult> {
    return promised(() => {
      const request = deleteRequest(range, options);
      const name = this.#sent('delete', range, options);
      const alone = (limit: CallOptions): Promise<DeleteResult> => this.#delete(request, name, limit);
      const isShared = name.endpoint === undefined && request.rangeEnd === undefined;
      const writes = isShared ? this.#writes : undefined;
      return this.#gate.pass(name.what, options, (limit) =>
        writes === undefined ? alone(limit) : writes.run(deleteStep(request, { alone, name }), limit),
      );
    });
  }

  /**
   * Runs a transaction. One that only reads is repeated like a read; one that writes rejects with `UNKNOWN_OUTCOME`
   * when its answer is lost, unless `idempotent`. `LEASE_NOT_FOUND` means that nothing it writes is there.
   *
   * `responses` is typed by the steps as they are written: `responses[0]` is what the first step of `then` is answered with
   * if there is no `if`, or once `succeeded` has been looked at.
   */
  async txn<
    const Then extends readonly Op[] = readonly [],
    const Else extends readonly Op[] = readonly [],
    const If extends readonly Compare[] | undefined = undefined,
  >(spec: TxnSpec<Then, Else, If>, options: TxnCallOptions = {}): Promise<TxnResultOf<Then, Else, If>> {
    const request = txnRequest(spec);
    checkOptions(options, TXN_OPTIONS, 'txn');
    const endpoint = memberOf(this.#connection, options);
    const steps = [...request.success, ...request.failure];
    const readOnly = steps.every(isRead);
    const kind: CallKind = readOnly ? 'read' : options.idempotent === true ? 'guarded' : 'write';
    const name = txnName(steps);
    const run = (limit: CallOptions): Promise<TxnResponse> =>
      this.#connection.unary({
        bytes: steps.reduce((sum, step) => sum + bytesOf(step), 0),
        endpoint,
        heavy: readOnly && steps.some(isHeavy),
        key: name.key,
        kind,
        onRepeat: options.onRepeat,
        request,
        rpc: services.KV.Txn,
        signal: limit.signal,
        timeoutMs: limit.timeoutMs,
        waits: options.waits,
        what: name.what,
        // What an earlier try has written is gone with the lease.
        settledBy: areBoundToOneLease(steps) ? ['LEASE_NOT_FOUND'] : [],
      });
    const reply = readOnly ? await run(options) : await this.#gate.pass(name.what, options, run);
    return txnResult(reply) as TxnResultOf<Then, Else, If>;
  }

  /**
   * Forgets history before `revision`, which itself stays readable. Rejects with `COMPACTED` if that was done already,
   * with `FUTURE_REVISION` if the store is not there yet. With `physical`, resolves once the space is free.
   */
  async compact(
    revision: bigint,
    options: MemberCallOptions & { readonly physical?: boolean } = {},
  ): Promise<void> {
    checkOptions(options, ['physical', 'timeoutMs', 'signal', 'endpoint'], 'compact');
    await this.#connection.unary({
      ...limits(options),
      endpoint: memberOf(this.#connection, options),
      kind: 'write',
      request: { physical: options.physical, revision: checkInt64(revision, 'revision', 0n) },
      rpc: services.KV.Compact,
      what: `compact ${String(revision)}`,
    });
  }

  #sent(verb: string, range: KeyRange, options: MemberCallOptions): Sent {
    return { ...nameOf(verb, range), endpoint: memberOf(this.#connection, options) };
  }

  async #range(
    request: RangeRequestInput,
    { endpoint, key, what }: Sent,
    { signal, timeoutMs }: CallOptions,
  ): Promise<RangeResult> {
    const rpc = services.KV.Range;
    const heavy = isHeavy({ requestRange: request });
    return rangeResult(
      await this.#connection.unary({
        endpoint,
        heavy,
        key,
        kind: 'read',
        request,
        rpc,
        signal,
        timeoutMs,
        what,
      }),
    );
  }

  #put(
    request: PutRequestInput,
    { endpoint, key, what }: Sent,
    { signal, timeoutMs }: CallOptions,
  ): Promise<PutResult> {
    const rpc = services.KV.Put;
    const bytes = request.value?.length;
    return this.#connection
      .unary({ bytes, endpoint, key, kind: 'write', request, rpc, signal, timeoutMs, what })
      .then(putResult);
  }

  #delete(
    request: DeleteRangeRequestInput,
    { endpoint, key, what }: Sent,
    { signal, timeoutMs }: CallOptions,
  ): Promise<DeleteResult> {
    const rpc = services.KV.DeleteRange;
    return this.#connection
      .unary({ endpoint, key, kind: 'write', request, rpc, signal, timeoutMs, what })
      .then(deleteResult);
  }
}

function limits({ timeoutMs, signal }: CallOptions): CallOptions {
  return { signal, timeoutMs };
}
