import assert from 'node:assert/strict';
import { describe, it, test } from 'node:test';
import { Client, ConclaveError, hasCode } from 'conclave';
import { FaultProxy, startEtcd } from 'conclave/testing';
import { onEachBackend } from '../support/backends.js';
import { services } from '#conclave/proto/services.js';
import { countingClock, FakeMember, STEP_MS, type WireAnswer } from './fake-member.js';

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

const TXN = '/etcdserverpb.KV/Txn';

onEachBackend('a call given up while it is under way with others', (backend) => {
  it('leaves each of the others its own answer', async () => {
    await using proxy = await FaultProxy.start(backend.endpoints[0] ?? '', { grpc: true });
    await using client = new Client({ batch: 'all', endpoints: [proxy.endpoint] });
    await Promise.all(numbers(12).map((number) => client.kv.put(`u/${number}`, `old ${number}`)));
    const reason = new Error('not any more');
    for (const send of [
      (number: number, signal: AbortSignal) => client.kv.get(`u/${number}`, { signal }),
      async (number: number, signal: AbortSignal) =>
        (await client.kv.put(`u/${number}`, 'new', { prevKv: true, signal })).previous,
    ]) {
      using held = proxy.onCall(TXN, 'holdReply');
      const aborts = numbers(12).map(() => new AbortController());
      // The first goes by itself.
      const calls = aborts.map(({ signal }, number) => send(number, signal));
      const given = Promise.allSettled([calls[4], calls[11]]);
      await held.hit();
      aborts[4]?.abort(reason);
      aborts[11]?.abort(reason);
      assert.deepEqual(
        (await given).map((each) => each.status === 'rejected' && (each.reason as unknown)),
        [reason, reason],
      );
      held.release();
      for (const [number, call] of calls.entries())
        if (number !== 4 && number !== 11) assert.equal((await call)?.string(), `old ${number}`);
    }
    await client.kv.delete({ prefix: 'u/' });
  });
});

describe('calls that are refused together', () => {
  const passing: Readonly<Record<string, WireAnswer>> = {
    NO_LEADER: { message: 'etcdserver: no leader', status: 14 },
    TOO_MANY_REQUESTS: { message: 'etcdserver: too many requests', status: 8 },
    UNAVAILABLE: { rst: 8 },
  };
  for (const [code, wire] of Object.entries(passing)) {
    it(`are each told ${code} when it does not pass before their deadline`, async () => {
      for (const batch of ['reads', 'all'] as const) {
        await using member = await FakeMember.start();
        let answers = 0;
        const clock = countingClock(() => answers);
        await using client = new Client({
          batch,
          clock,
          endpoints: member.endpoint,
          timeoutMs: 12 * STEP_MS,
        });
        await client.kv.get('a');
        member.answer = () => {
          answers += 1;
          return wire;
        };
        const results = await settled<unknown>([
          ...numbers(5).map((number) => client.kv.get(`a/${number}`)),
          ...numbers(5).map((number) => client.kv.put(`a/${number}`, 'x')),
        ]);
        const written = code === 'UNAVAILABLE' ? 'UNKNOWN_OUTCOME' : code;
        assert.deepEqual(
          results.map((result) => hasCode(result) && result.code),
          [...numbers(5).map(() => code), ...numbers(5).map(() => written)],
        );
        assert.deepEqual(
          results.map((result) => hasCode(result) && result.key),
          [...numbers(5), ...numbers(5)].map((number) => `a/${number}`),
        );
      }
    });
  }

  it('all settle when the reply has too few answers', async () => {
    await using member = await FakeMember.start();
    await using client = new Client({ batch: 'all', endpoints: member.endpoint });
    const one = { header: { revision: 7n }, responses: [{ responseRange: {} }], succeeded: true };
    member.answer = (path) => ({
      reply: path === TXN ? services.KV.Txn.responseSerialize(one) : Buffer.alloc(0),
    });
    const reads = await settled(numbers(4).map((number) => client.kv.get(`r/${number}`)));
    const codes = (results: readonly unknown[]): unknown[] =>
      results.map((result) => (hasCode(result) ? result.code : 'ok'));
    assert.deepEqual(codes(reads), ['ok', 'ok', 'ETCD', 'ETCD']);
    const puts = await settled(numbers(4).map((number) => client.kv.put(`w/${number}`, 'x')));
    assert.deepEqual(codes(puts), ['ok', 'ok', 'UNKNOWN_OUTCOME', 'UNKNOWN_OUTCOME']);
  });
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
