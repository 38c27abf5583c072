import fc from 'fast-check';
import {
  type Compare,
  compare,
  type CompareSign,
  type KeyRange,
  type Op,
  op,
  type RangeOptions,
} from 'conclave';
import type {
  CompareInput,
  DeleteRangeRequestInput,
  PutRequestInput,
  RangeRequestInput,
  RequestOpInput,
  TxnRequestInput,
  WatchCreateRequestInput,
} from '#conclave/proto/messages.gen.js';

/** What a sequence may refer to: resolved when the operation runs, the same on both servers. */
export interface Now {
  readonly revision: bigint;
  /** The oldest revision that can be read. */
  readonly compacted: bigint;
}

/** Something that depends on the store's revision at the time. */
export type Later<T> = (now: Now) => T;

/** A request made by Conclave's client, or put on the wire as it is. */
export type Operation =
  | { readonly is: 'range'; readonly range: KeyRange; readonly options: Later<RangeOptions> }
  | { readonly is: 'put'; readonly key: string; readonly value: string; readonly options: object }
  | { readonly is: 'delete'; readonly range: KeyRange; readonly prevKv: boolean }
  | { readonly is: 'txn'; readonly spec: Later<{ if: Compare[]; then: Op[]; else: Op[] }> }
  | { readonly is: 'compact'; readonly revision: Later<bigint>; readonly physical: boolean }
  | { readonly is: 'grant'; readonly id: bigint; readonly ttl: bigint }
  | { readonly is: 'revoke'; readonly id: bigint }
  | { readonly is: 'timeToLive'; readonly id: bigint; readonly keys: boolean }
  | { readonly is: 'keepAlive'; readonly id: bigint }
  | { readonly is: 'leases' }
  | { readonly is: 'rawRange'; readonly request: Later<RangeRequestInput> }
  | { readonly is: 'rawPut'; readonly request: PutRequestInput }
  | { readonly is: 'rawDelete'; readonly request: DeleteRangeRequestInput }
  | { readonly is: 'rawTxn'; readonly request: Later<TxnRequestInput> }
  | { readonly is: 'watch'; readonly request: Later<WatchCreateRequestInput> }
  | { readonly is: 'unwatch'; readonly watchId: bigint };

const KEYS = ['a', 'a/1', 'a/2', 'a/2/x', 'b', 'b0', 'ÿ'] as const;
const key = fc.constantFrom(...KEYS);
const value = fc.constantFrom('', 'x', 'y', 'long value', '\0');
const leaseId = fc.constantFrom(1n, 2n, 3n);
const anyLease = fc.constantFrom(0n, 1n, 2n, 3n, 77n, -5n);
const flag = fc.boolean();

/** A revision near the present one, from long ago to not yet. */
const nearby: fc.Arbitrary<Later<bigint>> = fc.constantFrom(-12n, -5n, -3n, -2n, -1n, 0n, 1n, 7n).map(
  (by) =>
    ({ revision }) =>
      revision + by < 1n ? 1n : revision + by,
);

function later<T>(value: T): Later<T> {
  return () => value;
}

/** Resolves every part of a record. */
function allLater<T extends object>(parts: { [Name in keyof T]: Later<T[Name]> }): Later<T> {
  return (now) => {
    const names = Object.keys(parts) as (keyof T)[];
    return Object.fromEntries(names.map((name) => [name, parts[name](now)])) as T;
  };
}

function listLater<T>(parts: readonly Later<T>[]): Later<T[]> {
  return (now) => parts.map((part) => part(now));
}

const range: fc.Arbitrary<KeyRange> = fc.oneof(
  { arbitrary: key, weight: 3 },
  fc.record({ prefix: fc.constantFrom('', 'a', 'a/', 'b', 'ÿ') }),
  fc.record({ from: fc.constantFrom('', 'a/2', 'b') }),
  fc.constantFrom({ end: 'b', start: 'a' }, { end: 'a/2', start: 'a/1' }, { end: 'zz', start: 'b' }),
);

const rangeOptions: fc.Arbitrary<Later<RangeOptions>> = fc
  .record<{ [Name in keyof RangeOptions]: Later<RangeOptions[Name]> }, never>(
    {
      countOnly: flag.map(later),
      keysOnly: flag.map(later),
      limit: fc.constantFrom(0, 1, 2, 100).map(later),
      maxCreateRevision: nearby,
      maxModRevision: nearby,
      minCreateRevision: nearby,
      minModRevision: nearby,
      revision: nearby,
      serializable: flag.map(later),
      sort: fc
        .record({
          by: fc.constantFrom('key', 'version', 'create', 'mod', 'value'),
          order: fc.constantFrom('asc', 'desc'),
        })
        .map(later),
    },
    { requiredKeys: [] },
  )
  .map((parts) => allLater<RangeOptions>(parts));

const putOptions = fc.record(
  { ignoreLease: fc.constant(true), ignoreValue: fc.constant(true), leaseId: anyLease, prevKv: flag },
  { requiredKeys: [] },
);

const condition: fc.Arbitrary<Later<Compare>> = fc
  .tuple(
    range,
    fc.constantFrom<CompareSign>('=', '!=', '<', '>'),
    nearby,
    value,
    fc.integer({ max: 4, min: 0 }),
  )
  .map(([where, sign, revision, text, target]) => (now) => {
    if (target === 0) return compare.createRevision(where, sign, revision(now));
    if (target === 1) return compare.modRevision(where, sign, revision(now));
    if (target === 2) return compare.version(where, sign, BigInt(text.length));
    if (target === 3) return compare.value(where, sign, text);
    return compare.lease(where, sign, BigInt(text.length));
  });

const { step } = fc.letrec<{ step: Later<Op>; spec: Later<{ if: Compare[]; then: Op[]; else: Op[] }> }>(
  (tie) => ({
    spec: fc
      .record({
        else: fc.array(tie('step'), { maxLength: 3 }),
        if: fc.array(condition, { maxLength: 2 }),
        then: fc.array(tie('step'), { maxLength: 3 }),
      })
      .map((parts) =>
        allLater({ else: listLater(parts.else), if: listLater(parts.if), then: listLater(parts.then) }),
      ),
    step: fc.oneof(
      { depthSize: 'small', withCrossShrink: true },
      fc.tuple(range, rangeOptions).map(
        ([where, options]) =>
          (now: Now) =>
            op.get(where, options(now)),
      ),
      fc.tuple(key, value, putOptions).map(([where, what, options]) => later(op.put(where, what, options))),
      fc.tuple(range, flag).map(([where, prevKv]) => later(op.delete(where, { prevKv }))),
      tie('spec').map((spec) => (now: Now) => op.txn(spec(now))),
    ),
  }),
);

const spec = fc
  .record({
    else: fc.array(step, { maxLength: 4 }),
    if: fc.array(condition, { maxLength: 3 }),
    then: fc.array(step, { maxLength: 4 }),
  })
  .map((parts) =>
    allLater({ else: listLater(parts.else), if: listLater(parts.if), then: listLater(parts.then) }),
  );

/** Any bytes for a key, the empty one too, and any end, in the right order or not. */
const rawKey = fc.constantFrom('', '\0', 'a', 'a/1', 'a/2', 'b', 'ÿ').map((text) => Buffer.from(text));
/** Never empty but present: to etcd, though not to its clients, that is another word for "to the end". */
const rawEnd = fc
  .constantFrom('', '', '\0', 'a', 'a0', 'b', '\0\0')
  .map((text) => (text === '' ? undefined : Buffer.from(text)));
const rawRevision: fc.Arbitrary<Later<bigint>> = fc.oneof(nearby, fc.constantFrom(-1n, 0n).map(later));

const rawRange: fc.Arbitrary<Later<RangeRequestInput>> = fc
  .tuple(
    fc.record(
      {
        countOnly: flag,
        key: rawKey,
        keysOnly: flag,
        limit: fc.constantFrom(-1n, 0n, 1n, 2n),
        rangeEnd: rawEnd,
        // Numbers that name no order are left out: releases of etcd before 3.5.17 do not refuse them, or panic.
        sortOrder: fc.constantFrom('NONE', 'ASCEND', 'DESCEND'),
        sortTarget: fc.constantFrom('KEY', 'VERSION', 'CREATE', 'MOD', 'VALUE'),
      },
      { requiredKeys: ['key'] },
    ),
    rawRevision,
  )
  .map(([request, revision]) => (now) => ({ ...request, revision: revision(now) }));

const rawPut: fc.Arbitrary<PutRequestInput> = fc.record(
  {
    ignoreLease: flag,
    ignoreValue: flag,
    key: rawKey,
    lease: anyLease,
    prevKv: flag,
    value: value.map((text) => Buffer.from(text)),
  },
  { requiredKeys: [] },
);

const rawDelete: fc.Arbitrary<DeleteRangeRequestInput> = fc.record(
  { key: rawKey, prevKv: flag, rangeEnd: rawEnd },
  { requiredKeys: [] },
);

const rawCompare: fc.Arbitrary<Later<CompareInput>> = fc.oneof(
  condition.map((made) => (now: Now) => made(now).wire),
  // A target without the value to compare with, an empty key, an unknown sign.
  fc
    .record({
      key: rawKey,
      rangeEnd: rawEnd,
      result: fc.constantFrom('EQUAL', 'NOT_EQUAL', 'LESS', 'GREATER'),
      target: fc.constantFrom('VERSION', 'CREATE', 'MOD', 'VALUE', 'LEASE'),
    })
    .map((wire) => later(wire as CompareInput)),
);

const { rawStep } = fc.letrec<{ rawStep: Later<RequestOpInput>; rawTxn: Later<TxnRequestInput> }>((tie) => ({
  rawStep: fc.oneof(
    { depthSize: 'small' },
    step.map((made) => (now: Now) => made(now).wire),
    rawRange.map((request) => (now: Now) => ({ requestRange: request(now) })),
    rawPut.map((requestPut) => later({ requestPut })),
    rawDelete.map((requestDeleteRange) => later({ requestDeleteRange })),
    fc.constant(later({})),
    tie('rawTxn').map((request) => (now: Now) => ({
      requestTxn: request(now),
    })),
  ),
  rawTxn: txnOf(tie('rawStep'), 3),
}));

function txnOf(
  steps: fc.Arbitrary<Later<RequestOpInput>>,
  maxLength: number,
): fc.Arbitrary<Later<TxnRequestInput>> {
  return fc
    .record({
      compare: fc.array(rawCompare, { maxLength: 2 }),
      failure: fc.array(steps, { maxLength }),
      success: fc.array(steps, { maxLength }),
    })
    .map((parts) =>
      allLater<TxnRequestInput>({
        compare: listLater(parts.compare),
        failure: listLater(parts.failure),
        success: listLater(parts.success),
      }),
    );
}

/** More operations than etcd takes, at one level or over several. */
const tooMany: fc.Arbitrary<Later<TxnRequestInput>> = fc
  .tuple(fc.constantFrom(63, 64, 127, 128, 129), fc.constantFrom(1, 63, 64, 65))
  .map(([outer, inner]) => {
    const get = { requestRange: { key: Buffer.from('a') } };
    const nested = { requestTxn: { success: Array.from({ length: inner }, () => get) } };
    return later({ success: [...Array.from({ length: outer - 1 }, () => get), nested] });
  });

const watch: fc.Arbitrary<Later<WatchCreateRequestInput>> = fc
  .tuple(
    fc.record(
      {
        filters: fc.subarray(['NOPUT', 'NODELETE'] as const),
        fragment: flag,
        key: rawKey,
        prevKv: flag,
        rangeEnd: rawEnd,
        watchId: fc.constantFrom(0n, 0n, 5n, 6n),
      },
      { requiredKeys: ['key', 'rangeEnd'] },
    ),
    // Not below 0: releases of etcd since 3.5.18 refuse that at once, earlier ones later or never.
    fc.oneof({ arbitrary: fc.constant(later(0n)), weight: 4 }, nearby),
  )
  .map(([request, start]) => (now) => {
    const revision = start(now);
    // Releases before 3.5.19 lose deletions made at the very revision of a compaction (etcd #19179).
    return { ...request, startRevision: revision === now.compacted ? revision + 1n : revision };
  });

/** One operation, valid or not. */
export const operation: fc.Arbitrary<Operation> = fc.oneof(
  { arbitrary: fc.record({ is: fc.constant('put'), key, options: putOptions, value }), weight: 8 },
  { arbitrary: fc.record({ is: fc.constant('range'), options: rangeOptions, range }), weight: 6 },
  { arbitrary: fc.record({ is: fc.constant('delete'), prevKv: flag, range }), weight: 2 },
  { arbitrary: fc.record({ is: fc.constant('txn'), spec }), weight: 5 },
  { arbitrary: fc.record({ is: fc.constant('compact'), physical: flag, revision: nearby }), weight: 1 },
  {
    arbitrary: fc.record({
      id: leaseId,
      is: fc.constant('grant'),
      ttl: fc.constantFrom(-1n, 0n, 1n, 500n, 1000n, 9_000_000_000n, 9_000_000_001n),
    }),
    weight: 4,
  },
  { arbitrary: fc.record({ id: anyLease, is: fc.constant('revoke') }), weight: 1 },
  { arbitrary: fc.record({ id: anyLease, is: fc.constant('timeToLive'), keys: flag }), weight: 2 },
  { arbitrary: fc.record({ id: anyLease, is: fc.constant('keepAlive') }), weight: 1 },
  { arbitrary: fc.record({ is: fc.constant('leases') }), weight: 1 },
  { arbitrary: fc.record({ is: fc.constant('rawRange'), request: rawRange }), weight: 4 },
  { arbitrary: fc.record({ is: fc.constant('rawPut'), request: rawPut }), weight: 2 },
  { arbitrary: fc.record({ is: fc.constant('rawDelete'), request: rawDelete }), weight: 2 },
  { arbitrary: fc.record({ is: fc.constant('rawTxn'), request: txnOf(rawStep, 4) }), weight: 4 },
  { arbitrary: fc.record({ is: fc.constant('rawTxn'), request: tooMany }), weight: 1 },
  { arbitrary: fc.record({ is: fc.constant('watch'), request: watch }), weight: 2 },
  {
    arbitrary: fc.record({ is: fc.constant('unwatch'), watchId: fc.constantFrom(0n, 1n, 5n, 99n) }),
    weight: 1,
  },
);
