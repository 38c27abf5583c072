import assert from 'node:assert/strict';
import { afterEach, before, test } from 'node:test';
import { type Client, compare, type Compare, op, type OpResult } from 'conclave';
import { onEachBackend } from '../support/backends.js';
import { withCode } from './support/rejections.js';

onEachBackend('txn', (backend) => {
  let client: Client;
  before(() => {
    client = backend.client();
  });
  afterEach(async () => {
    await client.kv.delete({ prefix: '' });
  });

  const holds = async (...conditions: Compare[]): Promise<boolean> =>
    (await client.kv.txn({ if: conditions })).succeeded;
  const gets = (responses: readonly OpResult[]): string[] =>
    responses.map((each) => (each.type === 'get' ? each.kvs.map((kv) => kv.string()).join(',') : each.type));

  test('runs one branch, all of it at one revision', async () => {
    await client.kv.put('a', 'x');
    const before = (await client.kv.range('a')).revision;
    const spec = {
      else: [op.put('no', '')],
      if: [compare.value('a', '=', 'x'), compare.missing('b')],
      then: [op.put('b', '1'), op.put('c', '2'), op.delete('a'), op.get({ prefix: '' })],
    };
    const taken = await client.kv.txn(spec);
    assert.deepEqual([taken.succeeded, taken.revision], [true, before + 1n]);
    assert.deepEqual(gets(taken.responses), ['put', 'put', 'delete', '1,2']);
    const kvs = (await client.kv.range({ prefix: '' })).kvs;
    assert.deepEqual(
      kvs.map((kv) => [kv.key, kv.modRevision]),
      [
        ['b', before + 1n],
        ['c', before + 1n],
      ],
    );
    const other = await client.kv.txn(spec);
    assert.deepEqual([other.succeeded, gets(other.responses)], [false, ['put']]);
  });

  test('each step sees what earlier steps wrote', async () => {
    await client.kv.put('b', 'old');
    const { responses } = await client.kv.txn({
      then: [op.get('a'), op.put('a', '1'), op.get('a'), op.delete('b'), op.get({ prefix: '' })],
    });
    assert.deepEqual(gets(responses), ['', 'put', '1', 'delete', '1']);
  });

  test('a transaction that only reads makes no revision', async () => {
    const { revision } = await client.kv.put('a', 'x');
    const read = await client.kv.txn({ then: [op.get('a'), op.get('none')] });
    assert.equal(read.revision, revision);
    assert.deepEqual(gets(read.responses), ['x', '']);
    assert.deepEqual(await client.kv.txn({}), { responses: [], revision, succeeded: true });
  });

  test('compares create and mod revision, version, value and lease with =, !=, < and >', async () => {
    const lease = await client.lease.grant(60);
    const { revision: created } = await client.kv.put('a', 'm');
    await client.kv.put('a', 'm', { leaseId: lease.id });
    const sides = [
      [compare.createRevision, created],
      [compare.modRevision, created + 1n],
      [compare.version, 2n],
      [compare.lease, lease.id],
    ] as const;
    for (const [target, exact] of sides) {
      const found = await Promise.all(
        [exact - 1n, exact, exact + 1n].map(async (given) => [
          await holds(target('a', '=', given)),
          await holds(target('a', '!=', given)),
          await holds(target('a', '<', given)),
          await holds(target('a', '>', given)),
        ]),
      );
      assert.deepEqual(found, [
        [false, true, false, true],
        [true, false, false, false],
        [false, true, true, false],
      ]);
    }
    assert.ok(
      await holds(compare.value('a', '=', 'm'), compare.value('a', '<', 'n'), compare.value('a', '>', 'l')),
    );
    assert.ok(!(await holds(compare.value('a', '!=', 'm'))));
    await client.lease.revoke(lease.id);
  });

  test('a missing key compares as zeros, and its value never holds', async () => {
    assert.ok(
      await holds(compare.missing('a'), compare.version('a', '=', 0n), compare.modRevision('a', '<', 1n)),
    );
    assert.ok(!(await holds(compare.exists('a'))));
    for (const sign of ['=', '!=', '<', '>'] as const)
      assert.ok(!(await holds(compare.value('a', sign, 'x'))));
  });

  test('a compare on a range must hold for every key of it', async () => {
    await client.kv.txn({ then: [op.put('r/1', 'x'), op.put('r/2', 'x')] });
    assert.ok(await holds(compare.value({ prefix: 'r/' }, '=', 'x')));
    await client.kv.put('r/3', 'y');
    assert.ok(!(await holds(compare.value({ prefix: 'r/' }, '=', 'x'))));
    assert.ok(await holds(compare.createRevision({ prefix: 'none/' }, '=', 0n)));
    assert.ok(!(await holds(compare.createRevision({ prefix: 'r/' }, '=', 0n))));
  });

  test('nested transactions take their own branches and share the revision', async () => {
    const inner = {
      else: [op.put('inner', 'else')],
      if: [compare.exists('outer')],
      then: [op.put('inner', 'then')],
    };
    const { responses, revision } = await client.kv.txn({ then: [op.put('outer', '1'), op.txn(inner)] });
    const [, nested] = responses;
    // As etcd does: nested compares, too, see the store as it was before.
    assert.deepEqual([nested.succeeded, nested.responses.length], [false, 1]);
    const kv = await client.kv.get('inner');
    assert.deepEqual([kv?.string(), kv?.modRevision], ['else', revision]);
    const deep = await client.kv.txn({ then: [op.txn({ then: [op.txn({ then: [op.get('inner')] })] })] });
    assert.deepEqual(JSON.stringify(deep.responses.map((each) => each.type)), '["txn"]');
  });

  test('takes 128 operations at a level and no more', async () => {
    const many = (count: number): ReturnType<typeof op.put>[] =>
      Array.from({ length: count }, (_, n) => op.put(`n/${n}`, ''));
    await client.kv.txn({ then: many(128) });
    await assert.rejects(client.kv.txn({ then: many(129) }), withCode('TOO_MANY_OPS'));
    const compares = Array.from({ length: 129 }, () => compare.missing('x'));
    await assert.rejects(client.kv.txn({ if: compares }), withCode('TOO_MANY_OPS'));
    await assert.rejects(
      client.kv.txn({ then: [op.get('a'), op.txn({ then: many(127) })] }),
      withCode('TOO_MANY_OPS'),
    );
    await client.kv.txn({ then: [op.get('a'), op.txn({ then: many(126) })] });
  });

  test('refuses a key that is put twice, or put and deleted, where both could happen', async () => {
    const twice = withCode('DUPLICATE_KEY');
    await assert.rejects(client.kv.txn({ then: [op.put('a', '1'), op.put('a', '2')] }), twice);
    await assert.rejects(client.kv.txn({ then: [op.put('a/1', ''), op.delete({ prefix: 'a/' })] }), twice);
    await assert.rejects(
      client.kv.txn({ then: [op.put('a', ''), op.txn({ else: [op.put('a', '')] })] }),
      twice,
    );
    const either = { else: [op.put('a', 'else')], then: [op.put('a', 'then')] };
    await client.kv.txn({ then: [op.txn(either)] });
    assert.equal((await client.kv.get('a'))?.string(), 'then');
    await client.kv.txn({ then: [op.delete('a'), op.delete({ prefix: '' })] });
  });

  test('a step that fails undoes all', async () => {
    const { revision } = await client.kv.put('a', 'x');
    const failing = [
      [op.put('b', '', { leaseId: 4711n }), 'LEASE_NOT_FOUND'],
      [op.put('none', '', { ignoreValue: true }), 'KEY_NOT_FOUND'],
      [op.get('a', { revision: revision + 50n }), 'FUTURE_REVISION'],
    ] as const;
    for (const [step, code] of failing)
      await assert.rejects(
        client.kv.txn({ then: [op.put('c', ''), op.txn({ then: [step] })] }),
        withCode(code),
      );
    const after = await client.kv.range({ prefix: '' });
    assert.deepEqual([after.revision, after.kvs.map((kv) => kv.key)], [revision, ['a']]);
    const skipped = await client.kv.txn({ else: [op.put('b', '', { leaseId: 4711n })] });
    assert.equal(skipped.succeeded, true);
  });
});
