/** What the compiler knows of answers and values; each claim is also looked at as it runs. */
import assert from 'node:assert/strict';
import { afterEach, before, test } from 'node:test';
import {
  type Client,
  compare,
  type ConclaveError,
  type DeleteAnswer,
  type GetAnswer,
  type KeyValue,
  op,
  type Op,
  type OpResult,
  type PutAnswer,
  type Schema,
  type TxnResult,
  type TxnSpec,
} from 'conclave';
import { onEachBackend } from '../support/backends.js';

/** Compiles only if both are one and the same type. */
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const is = <Claim extends true>(claim: Claim): void => assert.ok(claim);

interface Port {
  readonly port: number;
}

/** A Standard Schema made by hand: neither zod nor valibot is installed here. */
const portSchema: Schema<Port> = {
  '~standard': {
    validate: (value) => {
      const { port } = value as Partial<Port>;
      if (typeof port === 'number') return { value: { port } };
      return {
        issues: [{ message: 'expected a number', path: ['port'] }, { message: 'and something else' }],
      };
    },
    vendor: 'by hand',
    version: 1,
  },
};

onEachBackend('typed answers', (backend) => {
  let client: Client;
  before(() => {
    client = backend.client();
  });
  afterEach(async () => {
    await client.kv.delete({ prefix: '' });
  });
  const stored = async (value: string): Promise<KeyValue> => {
    await client.kv.put('v', value);
    const kv = await client.kv.get('v');
    assert.ok(kv);
    return kv;
  };

  test('without if, each answer has the type of its step and succeeded is true', async () => {
    const result = await client.kv.txn({ then: [op.put('a', '1'), op.get('a'), op.delete('b')] });
    is<Same<typeof result.succeeded, true>>(result.succeeded);
    is<Same<typeof result.responses, readonly [PutAnswer, GetAnswer, DeleteAnswer]>>(true);
    assert.equal(result.responses[1].kvs[0]?.string(), '1');
    assert.equal(result.responses[2].deleted, 0n);
    // @ts-expect-error: there is no fourth step
    assert.equal(result.responses[3], undefined);
    // @ts-expect-error: a put has no keys
    assert.equal(result.responses[0].kvs, undefined);
  });

  test('with if, succeeded tells the answers of then from those of else', async () => {
    const spec = () =>
      client.kv.txn({ if: [compare.missing('a')], then: [op.put('a', '1')], else: [op.get('a')] });
    const first = await spec();
    assert.ok(first.succeeded);
    is<Same<typeof first.responses, readonly [PutAnswer]>>(true);
    const second = await spec();
    assert.ok(!second.succeeded);
    is<Same<typeof second.responses, readonly [GetAnswer]>>(true);
    assert.equal(second.responses[0].kvs[0]?.string(), '1');
  });

  test('a branch that is left out is answered with nothing', async () => {
    const result = await client.kv.txn({ if: [compare.exists('none')], then: [op.get('a')] });
    assert.ok(!result.succeeded);
    is<Same<typeof result.responses, readonly []>>(true);
    assert.deepEqual(result.responses, []);
  });

  test('the answers of a nested transaction are typed likewise', async () => {
    const inner = op.txn({ if: [compare.missing('n')], then: [op.put('n', '1')], else: [op.get('n')] });
    const { responses } = await client.kv.txn({ then: [inner, op.txn({ then: [op.get('n')] })] });
    const [first, second] = responses;
    assert.ok(first.succeeded);
    is<Same<(typeof first.responses)[0], PutAnswer>>(true);
    assert.equal(second.responses[0].kvs[0]?.string(), '1');
  });

  test('of steps that are put together elsewhere, each answer is told apart by its type', async () => {
    const steps: Op[] = [op.put('a', '1'), op.get('a')];
    const { responses } = await client.kv.txn({ then: steps });
    is<Same<typeof responses, readonly OpResult[]>>(true);
    assert.deepEqual(
      responses.map(({ type }) => type),
      ['put', 'get'],
    );
    const spec: TxnSpec = { then: steps };
    const result = await client.kv.txn(spec);
    is<typeof result extends TxnResult ? true : false>(true);
    is<Same<typeof result.succeeded, boolean>>(true);
    assert.equal(result.succeeded, true);
    const { responses: alike } = await client.kv.txn({ then: ['a', 'b'].map((key) => op.get(key)) });
    assert.deepEqual(
      alike.map(({ count }) => count),
      [1n, 0n],
    );
    // @ts-expect-error: a misspelt branch is refused by the compiler as well
    await assert.rejects(client.kv.txn({ thn: [] }), TypeError);
  });

  test('json() is unknown, json<T>() what the caller says it is', async () => {
    const kv = await stored('{"port":80}');
    is<Same<ReturnType<typeof kv.json>, unknown>>(true);
    assert.equal(kv.json<Port>().port, 80);
    assert.throws(() => kv.json({ scheme: portSchema } as never), TypeError);
  });

  test('json({ schema }) is what the schema makes of the value', async () => {
    const kv = await stored('{"port":80,"more":1}');
    const value = kv.json({ schema: portSchema });
    is<Same<typeof value, Port>>(true);
    assert.deepEqual(value, { port: 80 });
  });

  test('a value that is not as its schema says is INVALID_VALUE, which names the key, the place and the issues', async () => {
    const kv = await stored('{"port":"80"}');
    assert.throws(
      () => kv.json({ schema: portSchema }),
      ({ cause, code, key, message }: ConclaveError) => {
        assert.deepEqual([code, key, (cause as unknown[]).length], ['INVALID_VALUE', 'v', 2]);
        assert.match(message, /"v".*port: expected a number \(and 1 more\)/u);
        return true;
      },
    );
    const noJson = await stored('port');
    assert.throws(() => noJson.json({ schema: portSchema }), SyntaxError);
  });

  test('what is no schema, and one that answers later, is refused', async () => {
    const kv = await stored('1');
    assert.throws(() => kv.json({ schema: {} as never }), /Standard Schema/u);
    const { '~standard': standard } = portSchema;
    const later: Schema<Port> = {
      '~standard': { ...standard, validate: () => Promise.reject(new Error('later')) },
    };
    assert.throws(() => kv.json({ schema: later }), /promise/u);
  });
});
