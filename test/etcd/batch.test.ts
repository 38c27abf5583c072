import assert from 'node:assert/strict';
import { it, test } from 'node:test';
import { Client, ConclaveError, hasCode } from 'conclave';
import { FaultProxy, startEtcd } from 'conclave/testing';
import { onEachBackend } from '../support/backends.js';

const MANY = 300;
const numbers = (count: number): number[] => Array.from({ length: count }, (_, at) => at);

/** Settles all; an error stands for its call. */
async function settled<T>(calls: readonly Promise<T>[]): Promise<(T | ConclaveError)[]> {
  const results = await Promise.allSettled(calls);
  return results.map((result) => {
    if (result.status === 'fulfilled') return result.value;
    if (result.reason instanceof ConclaveError) return result.reason;
    throw result.reason;
  });
}

onEachBackend('calls that are made at once', (backend) => {
  it('read what each asked for', async () => {
    await using client = backend.client();
    const at = (number: number): string => `read/${number}`;
    await Promise.all(numbers(MANY).map((number) => client.kv.put(at(number), String(number))));
    const asked = numbers(MANY * 2).filter((number) => number % 3 !== 0);
    const found = await Promise.all(
      asked.map((number) =>
        client.kv.get(at(number), { keysOnly: number % 2 === 0, serializable: number % 5 === 0 }),
      ),
    );
    for (const [index, number] of asked.entries()) {
      const value = found[index]?.string();
      assert.equal(value, number >= MANY ? undefined : number % 2 === 0 ? '' : String(number), at(number));
    }
    await client.kv.delete({ prefix: 'read/' });
  });

  it('write what each was given, also to one key, and share a revision only when asked to', async () => {
    for (const batch of ['all', 'reads', 'none'] as const) {
      await using client = backend.client({ batch });
      const puts = await Promise.all(
        numbers(MANY).map((number) => client.kv.put(`w/${number % 120}`, `${number}`)),
      );
      const revisions = new Set(puts.map(({ revision }) => revision));
      assert.equal(revisions.size < MANY / 10, batch === 'all', `${batch}: ${revisions.size} revisions`);
      const now = await client.kv.range({ prefix: 'w/' });
      for (const kv of now.kvs) assert.equal(Number(kv.string()) % 120, Number(kv.key.slice(2)));
      const gone = await Promise.all(
        numbers(130).map((number) => client.kv.delete(`w/${number}`, { prevKv: true })),
      );
      assert.equal(gone.filter(({ deleted }) => deleted === 1n).length, 120);
      for (const [at, { previous }] of gone.entries()) {
        const before = now.kvs.find((kv) => kv.key === `w/${at}`);
        assert.equal(previous[0]?.string(), before?.string());
      }
    }
  });

  it('get each its own error, and none of its neighbours', async () => {
    await using client = backend.client({ batch: 'all' });
    const results = await settled(
      numbers(MANY).map((number) => {
        const options =
          number % 100 === 50 ? { leaseId: 4711n } : number % 100 === 60 ? { ignoreValue: true } : {};
        return client.kv.put(`e/${number}`, number % 100 === 60 ? '' : 'x', options);
      }),
    );
    for (const [number, result] of results.entries()) {
      const code =
        number % 100 === 50 ? 'LEASE_NOT_FOUND' : number % 100 === 60 ? 'KEY_NOT_FOUND' : undefined;
      assert.equal(hasCode(result) ? result.code : undefined, code, `put ${number}`);
      if (hasCode(result)) assert.match(result.message, new RegExp(`put "e/${number}"`));
    }
    assert.equal((await client.kv.delete({ prefix: 'e/' })).deleted, BigInt(MANY - 6));
  });

  it('leave out one that is aborted', async () => {
    await using client = backend.client({ batch: 'all' });
    const before = new AbortController();
    const reason = new Error('not any more');
    const calls = numbers(20).map((number) =>
      client.kv.put(`a/${number}`, 'x', number === 7 ? { signal: before.signal } : {}),
    );
    before.abort(reason);
    const results = await Promise.allSettled(calls);
    assert.deepEqual(
      results.filter((result) => result.status === 'rejected').map((result) => result.reason as unknown),
      [reason],
    );
    assert.equal((await client.kv.delete({ prefix: 'a/' })).deleted, 19n);
  });

  it('may be larger together than a request can be', async () => {
    await using client = backend.client({ batch: 'all' });
    const value = 'v'.repeat(300_000);
    await Promise.all(numbers(20).map((number) => client.kv.put(`l/${number}`, value)));
    const found = await Promise.all(numbers(20).map((number) => client.kv.get(`l/${number}`)));
    assert.ok(found.every((kv) => kv?.value.length === value.length));
    const refused = await settled([
      ...numbers(5).map((number) => client.kv.put(`l/${number}`, 'x')),
      client.kv.put('l/5', 'v'.repeat(3_000_000)),
    ]);
    assert.deepEqual(
      refused.map((result) => (hasCode(result) ? result.code : 'ok')),
      [...numbers(5).map(() => 'ok'), 'REQUEST_TOO_LARGE'],
    );
    await client.kv.delete({ prefix: 'l/' });
  });
});

test('when the answer of a transaction is lost, each of its writes says so of itself, and reads are asked again', async () => {
  await using etcd = await startEtcd();
  await using proxy = await FaultProxy.start(etcd.endpoint, { grpc: true });
  await using client = new Client({ batch: 'all', endpoints: [proxy.endpoint] });
  await client.kv.put('first', 'x');

  using lost = proxy.onCall('/etcdserverpb.KV/Txn', 'dropReply', { then: 'reset' });
  const results = await settled(numbers(11).map((number) => client.kv.put(`k/${number}`, 'x')));
  assert.equal(lost.hits, 1);
  const unknown = results.filter((result) => hasCode(result, 'UNKNOWN_OUTCOME'));
  assert.equal(unknown.length, 10);
  assert.match(String(unknown.at(-1)), /put "k\/10"/);
  assert.equal((await client.kv.range({ prefix: 'k/' })).count, 11n, 'they had been applied');

  using again = proxy.onCall('/etcdserverpb.KV/Txn', 'dropReply', { then: 'reset' });
  const found = await Promise.all(numbers(11).map((number) => client.kv.get(`k/${number}`)));
  assert.equal(again.hits, 1);
  assert.ok(found.every((kv) => kv?.string() === 'x'));
});

test('a server that takes fewer steps, and keys that are not ours to read, are met one by one', async () => {
  await using etcd = await startEtcd({ args: ['--max-txn-ops=5'], auth: { rootPassword: 'secret' } });
  const { endpoints } = etcd;
  await using root = new Client({ auth: { password: 'secret', username: 'root' }, batch: 'all', endpoints });
  await root.auth.userAdd('reader', 'pass');
  await root.auth.roleAdd('reading');
  await root.auth.roleGrantPermission('reading', 'read', { prefix: 'open/' });
  await root.auth.userGrantRole('reader', 'reading');
  await Promise.all(
    numbers(50).map((number) => root.kv.put(`${number % 10 === 9 ? 'shut' : 'open'}/${number}`, 'x')),
  );

  await using reader = new Client({ auth: { password: 'pass', username: 'reader' }, endpoints });
  const results = await settled(
    numbers(50).map((number) => reader.kv.get(`${number % 10 === 9 ? 'shut' : 'open'}/${number}`)),
  );
  for (const [number, result] of results.entries()) {
    const expected = number % 10 === 9 ? 'PERMISSION_DENIED' : 'x';
    assert.equal(hasCode(result) ? result.code : result?.string(), expected, `get ${number}`);
  }
});
