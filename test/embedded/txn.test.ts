import assert from 'node:assert/strict';
import test from 'node:test';

import type { CompareInput, RequestOpInput } from '#conclave/proto/messages.gen.js';
import { services } from '#conclave/proto/services.js';

import { Bench, bytes, OPEN } from './harness.js';

const { KV } = services;
const put = (key: string, value = ''): RequestOpInput => ({
  requestPut: { key: bytes(key), value: bytes(value) },
});
const get = (key: string): RequestOpInput => ({ requestRange: { key: bytes(key) } });
const missing = (key: string): CompareInput => ({
  key: bytes(key),
  target: 'CREATE',
  result: 'EQUAL',
  createRevision: 0n,
});

test('a transaction takes one branch, sees its own writes and makes one revision', async () => {
  await using bench = await Bench.start();
  const txn = {
    compare: [missing('a')],
    success: [put('a', '1'), put('b', '2'), get('a')],
    failure: [get('a')],
  };
  const first = await bench.call(KV.Txn, txn);
  assert.equal(first.succeeded, true);
  assert.equal(first.header?.revision, 2n);
  assert.equal(first.responses[2]?.responseRange?.kvs[0]?.value.toString(), '1');
  const second = await bench.call(KV.Txn, txn);
  assert.equal(second.succeeded, false);
  assert.equal(second.header?.revision, 2n, 'a transaction that only reads makes no revision');
});

test('the compares of a nested transaction see the store as it was before', async () => {
  await using bench = await Bench.start();
  const { responses } = await bench.call(KV.Txn, {
    success: [put('a'), { requestTxn: { compare: [missing('a')], success: [get('a')] } }],
  });
  const nested = responses[1]?.responseTxn;
  assert.equal(nested?.succeeded, true);
  assert.equal(nested.responses[0]?.responseRange?.count, 1n);
});

test('a value compare on a missing key is false whatever it asks', async () => {
  await using bench = await Bench.start();
  for (const result of ['EQUAL', 'NOT_EQUAL', 'LESS', 'GREATER'] as const) {
    const compare = [{ key: bytes('a'), target: 'VALUE' as const, result, value: bytes('') }];
    assert.equal((await bench.call(KV.Txn, { compare })).succeeded, false, result);
  }
});

test('a compare on a range holds when every key passes', async () => {
  await using bench = await Bench.start();
  await bench.put('a', 'x');
  await bench.put('b', 'y');
  const compare = (rangeEnd: Buffer): CompareInput[] => [
    { key: bytes('a'), rangeEnd, target: 'VALUE', result: 'EQUAL', value: bytes('x') },
  ];
  assert.equal((await bench.call(KV.Txn, { compare: compare(bytes('b')) })).succeeded, true);
  assert.equal((await bench.call(KV.Txn, { compare: compare(OPEN) })).succeeded, false);
});

test('what cannot be done is refused in etcd’s words and nothing is applied', async () => {
  await using bench = await Bench.start();
  const many = (count: number): RequestOpInput[] => Array.from({ length: count }, (_, at) => put(`k${at}`));
  const nested = (count: number): RequestOpInput => ({ requestTxn: { success: many(count) } });
  const refused: [string, RequestOpInput[]][] = [
    ['3 INVALID_ARGUMENT: etcdserver: too many operations in txn request', many(129)],
    ['3 INVALID_ARGUMENT: etcdserver: too many operations in txn request', [nested(128)]],
    ['3 INVALID_ARGUMENT: etcdserver: duplicate key given in txn request', [put('a'), put('a')]],
    [
      '3 INVALID_ARGUMENT: etcdserver: duplicate key given in txn request',
      [put('b'), { requestDeleteRange: { key: bytes('a'), rangeEnd: bytes('c') } }],
    ],
    ['3 INVALID_ARGUMENT: etcdserver: key is not provided', [put('a'), put('')]],
    [
      '5 NOT_FOUND: etcdserver: requested lease not found',
      [put('a'), { requestPut: { key: bytes('b'), lease: 7n } }],
    ],
    [
      '3 INVALID_ARGUMENT: etcdserver: key not found',
      [put('a'), { requestPut: { key: bytes('b'), ignoreValue: true } }],
    ],
    [
      '11 OUT_OF_RANGE: etcdserver: mvcc: required revision is a future revision',
      [put('a'), { requestRange: { key: bytes('a'), revision: 2n } }],
    ],
  ];
  for (const [message, success] of refused)
    await assert.rejects(bench.call(KV.Txn, { success }), { message });
  // A branch that will not be taken is checked for its form all the same.
  const failure = [put('')];
  await assert.rejects(bench.call(KV.Txn, { failure }), { details: 'etcdserver: key is not provided' });
  assert.equal((await bench.call(KV.Range, { key: bytes('\0'), rangeEnd: OPEN })).header?.revision, 1n);
  assert.equal((await bench.call(KV.Txn, { success: many(128) })).header?.revision, 2n);
});

test('a range answers with limit, order, filters and count as etcd does', async () => {
  await using bench = await Bench.start();
  for (const [key, value] of [
    ['c', '1'],
    ['a', '3'],
    ['b', '2'],
  ] as const)
    await bench.put(key, value);
  const every = { key: bytes('\0'), rangeEnd: OPEN };
  const keys = async (options: object): Promise<string> => {
    const { kvs, count, more } = await bench.call(KV.Range, { ...every, ...options });
    return `${kvs.map(({ key }) => key.toString()).join('')} ${String(count)}${more ? ' more' : ''}`;
  };
  assert.equal(await keys({}), 'abc 3');
  assert.equal(await keys({ limit: 2n }), 'ab 3 more');
  assert.equal(await keys({ limit: 3n }), 'abc 3');
  assert.equal(await keys({ limit: -1n }), 'abc 3');
  assert.equal(await keys({ limit: 1n, sortOrder: 'ASCEND', sortTarget: 'CREATE' }), 'c 3 more');
  assert.equal(await keys({ sortOrder: 'DESCEND', sortTarget: 'VALUE' }), 'abc 3');
  assert.equal(
    await keys({ limit: 1n, sortTarget: 'VALUE' }),
    'b 3 more',
    'sorts what the limit and one more left',
  );
  assert.equal(
    await keys({ minModRevision: 3n, maxCreateRevision: 3n }),
    'a 3',
    'filters do not change the count',
  );
  assert.equal(await keys({ countOnly: true, limit: 1n }), ' 3');
});

test('a request of more than 1.5 MiB is too large, a read is not', async () => {
  await using bench = await Bench.start();
  const value = Buffer.alloc(1_600_000);
  await assert.rejects(bench.call(KV.Put, { key: bytes('a'), value }), {
    message: '3 INVALID_ARGUMENT: etcdserver: request is too large',
  });
  const compare = [{ key: bytes('a'), target: 'VALUE' as const, value }];
  assert.equal((await bench.call(KV.Txn, { compare })).succeeded, false);
});
