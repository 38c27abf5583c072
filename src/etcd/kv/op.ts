import type {
  DeleteRangeRequestInput,
  PutRequestInput,
  RangeRequestInput,
  RangeRequestSortTarget,
  RequestOpInput,
} from '../../proto/messages.gen.js';
import type { Bytes } from '../../util/bytes.js';
import { checkCount, checkInt64, checkOptions } from '../../util/validate.js';
import type { Compare } from './compare.js';
import { encodeKey, encodeRange, encodeValue, type KeyRange } from './key-range.js';
import type { DeleteAnswer, GetAnswer, OpResult, PutAnswer, TxnAnswer, TxnResult } from './kv-results.js';

/** Options of a read; every one of etcd's. */
export interface RangeOptions {
  /** At most this many keys; `more` in the answer says whether there were others. @default no limit */
  readonly limit?: number | undefined;
  /** Read the store as it was at this revision. @default now */
  readonly revision?: bigint | undefined;
  /** The order of the answer. @default by key, ascending */
  readonly sort?: {
    readonly by: 'key' | 'version' | 'create' | 'mod' | 'value';
    readonly order?: 'asc' | 'desc';
  };
  /** Answered by the member alone, which may be behind. Works without a quorum. @default false */
  readonly serializable?: boolean | undefined;
  /** Leave the values out. @default false */
  readonly keysOnly?: boolean | undefined;
  /** Only count. @default false */
  readonly countOnly?: boolean | undefined;
  /** Only keys changed at or after this revision; `count` in the answer is not filtered. */
  readonly minModRevision?: bigint | undefined;
  /** Only keys changed at or before this revision. */
  readonly maxModRevision?: bigint | undefined;
  /** Only keys created at or after this revision. */
  readonly minCreateRevision?: bigint | undefined;
  /** Only keys created at or before this revision. */
  readonly maxCreateRevision?: bigint | undefined;
}

/** Options of a put. */
export interface PutOptions {
  /** Binds the key to this lease. A put without it detaches the key from the lease it had. */
  readonly leaseId?: bigint | undefined;
  /** Return what the key held before. @default false */
  readonly prevKv?: boolean | undefined;
  /** Keep the key's value; the value given must be empty, the key must exist. @default false */
  readonly ignoreValue?: boolean | undefined;
  /** Keep the key's lease; no `leaseId` may be given, the key must exist. @default false */
  readonly ignoreLease?: boolean | undefined;
}

/** Options of a delete. */
export interface DeleteOptions {
  /** Return what was deleted. @default false */
  readonly prevKv?: boolean | undefined;
}

/** A transaction: `then` runs when every condition of `if` holds, `else` otherwise; all of it at one revision. */
export interface TxnSpec<
  Then extends readonly Op[] = readonly Op[],
  Else extends readonly Op[] = readonly Op[],
  If extends readonly Compare[] | undefined = readonly Compare[] | undefined,
> {
  readonly if?: If | undefined;
  readonly then?: Then | undefined;
  readonly else?: Else | undefined;
}

declare const answer: unique symbol;

/** One step of a transaction, answered by an `Answer`. Made by `op`; opaque otherwise. */
export interface Op<Answer extends OpResult = OpResult> {
  /** As it goes over the wire. */
  readonly wire: RequestOpInput;
  /** Never there: it tells the compiler what the step is answered with. */
  readonly [answer]?: Answer;
}

/** What steps are answered with, one for each. */
export type Answers<Steps extends readonly Op[]> = {
  readonly [At in keyof Steps]: Steps[At] extends Op<infer Answer> ? Answer : OpResult;
};

/** What a transaction of these steps comes to: without `if`, `then` always runs. */
export type OutcomeOf<
  Then extends readonly Op[],
  Else extends readonly Op[],
  If extends readonly Compare[] | undefined,
> =
  | { readonly succeeded: true; readonly responses: Answers<Then> }
  | ([If] extends [undefined] ? never : { readonly succeeded: false; readonly responses: Answers<Else> });

/** What `client.kv.txn` resolves with for these steps. */
export type TxnResultOf<
  Then extends readonly Op[],
  Else extends readonly Op[],
  If extends readonly Compare[] | undefined,
> = OutcomeOf<Then, Else, If> & Pick<TxnResult, 'revision'>;

const SORT_TARGETS: Readonly<Record<string, RangeRequestSortTarget>> = {
  create: 'CREATE',
  key: 'KEY',
  mod: 'MOD',
  value: 'VALUE',
  version: 'VERSION',
};

const REVISIONS = [
  'revision',
  'minModRevision',
  'maxModRevision',
  'minCreateRevision',
  'maxCreateRevision',
] as const;
const RANGE_OPTIONS = [
  ...REVISIONS,
  'limit',
  'sort',
  'serializable',
  'keysOnly',
  'countOnly',
  'timeoutMs',
  'signal',
  'endpoint',
] as const;
const PUT_OPTIONS = [
  'leaseId',
  'prevKv',
  'ignoreValue',
  'ignoreLease',
  'timeoutMs',
  'signal',
  'endpoint',
] as const;
const DELETE_OPTIONS = ['prevKv', 'timeoutMs', 'signal', 'endpoint'] as const;

/** The wire form of a put. */
export function putRequest(key: Bytes, value: Bytes, options: PutOptions = {}): PutRequestInput {
  checkOptions(options, PUT_OPTIONS, 'a put');
  if (options.leaseId !== undefined) checkInt64(options.leaseId, 'leaseId');
  return {
    ignoreLease: options.ignoreLease,
    ignoreValue: options.ignoreValue,
    key: encodeKey(key),
    lease: options.leaseId,
    prevKv: options.prevKv,
    value: encodeValue(value),
  };
}

/** The wire form of a delete. */
export function deleteRequest(range: KeyRange, options: DeleteOptions = {}): DeleteRangeRequestInput {
  checkOptions(options, DELETE_OPTIONS, 'a delete');
  const { key, rangeEnd } = encodeRange(range);
  return { key, prevKv: options.prevKv, rangeEnd };
}

/** The wire form of a read. */
export function rangeRequest(range: KeyRange, options: RangeOptions = {}): RangeRequestInput {
  checkOptions(options, RANGE_OPTIONS, 'a read');
  for (const name of REVISIONS) if (options[name] !== undefined) checkInt64(options[name], name, 0n);
  const { sort, limit } = options;
  const { key, rangeEnd } = encodeRange(range);
  const request: RangeRequestInput = {
    countOnly: options.countOnly,
    key,
    keysOnly: options.keysOnly,
    limit: limit === undefined ? undefined : BigInt(checkCount(limit, 'limit')),
    maxCreateRevision: options.maxCreateRevision,
    maxModRevision: options.maxModRevision,
    minCreateRevision: options.minCreateRevision,
    minModRevision: options.minModRevision,
    rangeEnd,
    revision: options.revision,
    serializable: options.serializable,
  };
  if (sort !== undefined) {
    const target = SORT_TARGETS[sort.by];
    if (target === undefined)
      throw new TypeError(`sort.by must be key, version, create, mod or value, not ${sort.by}`);
    if (!['asc', 'desc', undefined].includes(sort.order))
      throw new TypeError(`sort.order must be asc or desc, not ${String(sort.order)}`);
    request.sortTarget = target;
    request.sortOrder = sort.order === 'desc' ? 'DESCEND' : 'ASCEND';
  }
  return request;
}

/** The wire form of a transaction. */
export function txnRequest(spec: TxnSpec): {
  compare: Compare['wire'][];
  success: RequestOpInput[];
  failure: RequestOpInput[];
} {
  checkOptions(spec, ['if', 'then', 'else'], 'a transaction');
  return {
    compare: wires(spec.if, 'if', 'compare'),
    failure: wires(spec.else, 'else', 'op'),
    success: wires(spec.then, 'then', 'op'),
  };
}

/** The wire forms of what `compare` or `op` made; refuses anything else. */
function wires<Wire extends object>(
  parts: readonly { readonly wire: Wire }[] | undefined,
  where: string,
  maker: string,
): Wire[] {
  const given: unknown = parts ?? [];
  if (!Array.isArray(given))
    throw new TypeError(`a transaction's ${where} must be an array, not ${typeof given}`);
  return (parts ?? []).map((part: { readonly wire: Wire } | undefined, at) => {
    if (typeof part?.wire !== 'object')
      throw new TypeError(
        `a transaction's ${where}[${String(at)}] must be made by ${maker}, not ${typeof part}`,
      );
    return part.wire;
  });
}

/** A step goes where its transaction goes. */
function stepOptions<Options extends object>(options: Options): Options {
  const given: unknown = options;
  if (typeof given === 'object' && given !== null && 'endpoint' in given)
    throw new TypeError('a step takes no endpoint: give it to the transaction, as txn(…, { endpoint })');
  return options;
}

/** The steps a transaction can take. */
export const op = {
  /** Reads keys; a later step sees what earlier steps wrote. */
  get: (range: KeyRange, options: RangeOptions = {}): Op<GetAnswer> => ({
    wire: { requestRange: rangeRequest(range, stepOptions(options)) },
  }),
  /** Writes one key. */
  put: (key: Bytes, value: Bytes, options: PutOptions = {}): Op<PutAnswer> => ({
    wire: { requestPut: putRequest(key, value, stepOptions(options)) },
  }),
  /** Deletes keys. */
  delete: (range: KeyRange, options: DeleteOptions = {}): Op<DeleteAnswer> => ({
    wire: { requestDeleteRange: deleteRequest(range, stepOptions(options)) },
  }),
  /** A transaction within the transaction. */
  txn: <
    const Then extends readonly Op[] = readonly [],
    const Else extends readonly Op[] = readonly [],
    const If extends readonly Compare[] | undefined = undefined,
  >(
    spec: TxnSpec<Then, Else, If>,
  ): Op<TxnAnswer<OutcomeOf<Then, Else, If>>> => ({ wire: { requestTxn: txnRequest(spec) } }),
};
