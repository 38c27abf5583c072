import assert from 'node:assert/strict';
import { before, afterEach, test } from 'node:test';
import { type Client, ConclaveError, type KeyRange, op, type RangeOptions } from 'conclave';
import { onEachBackend } from '../support/backends.js';
import { withCode } from './support/rejections.js';

onEachBackend('kv', (backend) => {
  let client: Client;
  before(() => {
    client = backend.client();
  });
  afterEach(async () => {
    await client.kv.delete({ prefix: '' });
  });

  const put = async (key: string, value = ''): Promise<bigint> => (await client.kv.put(key, value)).revision;
  const keysOf = async (range: KeyRange, options: RangeOptions = {}): Promise<string> => {
    const { kvs } = await client.kv.range(range, options);
    return kvs.map((kv) => kv.key).join(' ');
  };

  test('a key has its value, revisions, version and lease', async () => {
    const lease = await client.lease.grant(60);
    const created = await put('a', '{"n":1}');
    const changed = await client.kv.put('a', '{"n":2}', { leaseId: lease.id });
    assert.equal(changed.revision, created + 1n);
    assert.equal(changed.previous, undefined);
    const kv = await client.kv.get('a');
    assert.deepEqual(
      [kv?.key, kv?.string(), kv?.json(), kv?.createRevision, kv?.modRevision, kv?.version, kv?.leaseId],
      ['a', '{"n":2}', { n: 2 }, created, created + 1n, 2n, lease.id],
    );
    await client.lease.revoke(lease.id);
    assert.equal(await client.kv.get('a'), undefined);
  });

  test('keys and values are bytes', async () => {
    const key = Uint8Array.of(0xff, 0x00, 0x80);
    await client.kv.put(key, Uint8Array.of(0xc0, 0x00));
    const [kv] = (await client.kv.range({ prefix: Uint8Array.of(0xff) })).kvs;
    assert.deepEqual([...(kv?.keyBytes ?? [])], [...key]);
    assert.deepEqual([...(kv?.value ?? [])], [0xc0, 0x00]);
  });

  test('ranges: a key, a prefix, from a key on, from one to another, everything', async () => {
    for (const key of ['a', 'a/1', 'a/2', 'a0', 'b']) await put(key);
    assert.equal(await keysOf('a'), 'a');
    assert.equal(await keysOf({ prefix: 'a/' }), 'a/1 a/2');
    assert.equal(await keysOf({ from: 'a/2' }), 'a/2 a0 b');
    assert.equal(await keysOf({ end: 'a0', start: 'a/1' }), 'a/1 a/2');
    assert.equal(await keysOf({ prefix: '' }), 'a a/1 a/2 a0 b');
    const prefix = Buffer.from('a/');
    assert.equal(await keysOf({ prefix }), 'a/1 a/2');
    assert.equal(prefix.toString(), 'a/');
    assert.equal(await keysOf({ from: '' }), 'a a/1 a/2 a0 b');
  });

  test('ranges may be given as Buffers, which stay as they are', async () => {
    for (const key of ['a', 'a/1', 'a/2', 'a0']) await put(key);
    const [prefix, start, end] = ['a/', 'a/1', 'a0'].map((text) => Buffer.from(text)) as [
      Buffer,
      Buffer,
      Buffer,
    ];
    assert.equal(await keysOf({ prefix }), 'a/1 a/2');
    assert.equal(await keysOf({ end, start }), 'a/1 a/2');
    assert.equal(await keysOf({ from: start }), 'a/1 a/2 a0');
    const watch = client.watch({ prefix });
    assert.equal((await client.kv.delete({ prefix })).deleted, 2n);
    assert.equal((await watch.next()).value?.events.length, 2);
    watch.close();
    assert.deepEqual([prefix, start, end].map(String), ['a/', 'a/1', 'a0']);
  });

  test('limit cuts, more says so, count counts all', async () => {
    for (const key of ['a', 'b', 'c']) await put(key);
    const page = await client.kv.range({ prefix: '' }, { limit: 2 });
    assert.deepEqual([page.kvs.length, page.more, page.count], [2, true, 3n]);
    const all = await client.kv.range({ prefix: '' }, { limit: 3 });
    assert.deepEqual([all.kvs.length, all.more, all.count], [3, false, 3n]);
  });

  test('keysOnly leaves the values out, countOnly the keys', async () => {
    await put('a', 'x');
    const [kv] = (await client.kv.range('a', { keysOnly: true })).kvs;
    assert.equal(kv?.string(), '');
    const counted = await client.kv.range('a', { countOnly: true });
    assert.deepEqual([counted.kvs.length, counted.count], [0, 1n]);
  });

  test('sorts by key, version, create and mod revision, and value, both ways', async () => {
    for (const [key, value] of [
      ['b', '1'],
      ['a', '3'],
      ['c', '2'],
      ['b', '4'],
    ] as const)
      await put(key, value);
    const sorted = (
      by: 'key' | 'version' | 'create' | 'mod' | 'value',
      order?: 'asc' | 'desc',
    ): Promise<string> => keysOf({ prefix: '' }, { sort: order === undefined ? { by } : { by, order } });
    assert.equal(await sorted('key'), 'a b c');
    assert.equal(await sorted('key', 'desc'), 'c b a');
    assert.equal(await sorted('create'), 'b a c');
    assert.equal(await sorted('mod', 'desc'), 'b c a');
    assert.equal((await sorted('version', 'desc')).slice(0, 1), 'b');
    assert.equal(await sorted('value', 'asc'), 'c a b');
  });

  test('revision bounds choose keys and are not counted', async () => {
    const first = await put('a');
    const second = await put('b');
    const third = await put('a');
    assert.equal(await keysOf({ prefix: '' }, { minModRevision: third }), 'a');
    assert.equal(await keysOf({ prefix: '' }, { maxModRevision: second }), 'b');
    assert.equal(await keysOf({ prefix: '' }, { minCreateRevision: second }), 'b');
    assert.equal(await keysOf({ prefix: '' }, { maxCreateRevision: first }), 'a');
    const { count } = await client.kv.range({ prefix: '' }, { maxCreateRevision: first });
    assert.equal(count, 2n);
    await put('c');
    // The limit cuts what the bounds have chosen, not what they choose from.
    const { kvs, more } = await client.kv.range({ prefix: '' }, { limit: 1, minCreateRevision: second });
    assert.deepEqual([kvs.map((kv) => kv.key), more], [['b'], true]);
    assert.equal(await keysOf({ prefix: '' }, { limit: 1, maxModRevision: second }), 'b');
  });

  test('reads the past, serializable or not', async () => {
    const then = await put('a', 'old');
    await put('a', 'new');
    assert.equal((await client.kv.get('a', { revision: then }))?.string(), 'old');
    assert.equal((await client.kv.get('a', { serializable: true }))?.string(), 'new');
    assert.equal(await client.kv.get('a', { revision: then - 1n }), undefined);
  });

  test('a scan goes through all pages at one revision, whatever is written meanwhile', async () => {
    for (let n = 0; n < 25; n++) await put(`s/${String(n).padStart(2, '0')}`, 'before');
    const seen: string[] = [];
    for await (const kv of client.kv.scan({ prefix: 's/' }, { pageSize: 4 })) {
      assert.equal(kv.string(), 'before');
      seen.push(kv.key);
      await Promise.all([put('s/24', 'after'), put(`s/0${seen.length}x`, 'after'), client.kv.delete('s/20')]);
    }
    assert.equal(seen.length, 25);
    assert.deepEqual(seen, [...seen].sort());
  });

  test('a scan at revision 0, which is now, is at one revision, too', async () => {
    for (const key of ['s/1', 's/2', 's/3']) await put(key);
    const scan = client.kv.scan({ prefix: 's/' }, { pageSize: 1, revision: 0n });
    const seen = [(await scan.next()).value?.key];
    await client.kv.delete('s/2');
    await put('s/4');
    for await (const kv of scan) seen.push(kv.key);
    assert.deepEqual(seen, ['s/1', 's/2', 's/3']);
  });

  test('a small value that is kept does not keep the large reply that it came with', async () => {
    await put('l/large', 'v'.repeat(1_000_000));
    await put('l/small', 'x');
    const ranged = (await client.kv.range({ prefix: 'l/' })).kvs;
    // The first goes by itself, the others together.
    const [, large, small] = await Promise.all(
      ['l/1', 'l/large', 'l/small'].map((key) => client.kv.get(key)),
    );
    for (const [big, little] of [ranged, [large, small]]) {
      assert.deepEqual([little?.key, little?.string(), big?.key], ['l/small', 'x', 'l/large']);
      assert.equal(big?.value.length, 1_000_000);
      for (const bytes of [little?.keyBytes, little?.value, big.keyBytes])
        assert.ok(
          // One of Node's pools at most, from which it takes small pieces: 8 KiB, from Node 24 on 64.
          (bytes?.buffer.byteLength ?? Infinity) <= 2 * Buffer.poolSize,
          `${bytes?.buffer.byteLength} bytes are kept`,
        );
    }
  });

  test('an error names the key, or what its range begins with', async () => {
    const at = (await client.kv.put('k', 'x')).revision + 1000n;
    const calls: Readonly<Record<string, Promise<unknown>>> = {
      a: client.kv.put('a', 'x', { leaseId: 4711n }),
      b: client.kv.txn({ then: [op.put('b', 'x', { leaseId: 4711n })] }),
      c: client.kv.put('c', '', { ignoreValue: true }),
      d: client.kv.get('d', { revision: at }),
      'e/': client.kv.range({ prefix: 'e/' }, { revision: at }),
      f: client.kv.range({ end: 'g', start: 'f' }, { revision: at }),
      'h/': client.kv.scan({ from: 'h/' }, { revision: at }).next(),
    };
    await Promise.all(
      Object.entries(calls).map(([key, call]) => assert.rejects(call, { key, name: 'ConclaveError' })),
    );
  });

  test('a scan whose revision is compacted meanwhile throws COMPACTED', async () => {
    for (const key of ['s/a', 's/b', 's/c']) await put(key);
    const scan = client.kv.scan({ prefix: 's/' }, { pageSize: 1 });
    assert.equal((await scan.next()).done, false);
    await client.kv.compact(await put('s/a'));
    await assert.rejects(scan.next(), withCode('COMPACTED'));
  });

  test('put keeps the value or the lease when asked, and gives back what was there', async () => {
    const lease = await client.lease.grant(60);
    await client.kv.put('a', 'x', { leaseId: lease.id });
    const { previous } = await client.kv.put('a', '', { ignoreValue: true, leaseId: lease.id, prevKv: true });
    assert.deepEqual([previous?.string(), previous?.version], ['x', 1n]);
    await client.kv.put('a', 'y', { ignoreLease: true });
    const kept = await client.kv.get('a');
    assert.deepEqual([kept?.string(), kept?.leaseId, kept?.version], ['y', lease.id, 3n]);
    await put('a', 'z');
    assert.equal((await client.kv.get('a'))?.leaseId, undefined);
    await client.lease.revoke(lease.id);
    assert.equal((await client.kv.get('a'))?.string(), 'z');
  });

  test('delete tells how much and what; deleting nothing makes no revision', async () => {
    await put('d/1', 'x');
    const last = await put('d/2', 'y');
    const gone = await client.kv.delete({ prefix: 'd/' }, { prevKv: true });
    assert.deepEqual(
      [gone.deleted, gone.revision, gone.previous.map((kv) => kv.string())],
      [2n, last + 1n, ['x', 'y']],
    );
    const nothing = await client.kv.delete('d/1', { prevKv: true });
    assert.deepEqual([nothing.deleted, nothing.revision, nothing.previous], [0n, last + 1n, []]);
  });

  test('compaction forgets what is older, and says so with etcd’s words', async () => {
    const old = await put('a', '1');
    const kept = await put('a', '2');
    await put('a', '3');
    await client.kv.compact(kept, { physical: true });
    assert.equal((await client.kv.get('a', { revision: kept }))?.string(), '2');
    const compacted = etcdSays('COMPACTED', 'OUT_OF_RANGE', 'mvcc: required revision has been compacted');
    const future = etcdSays(
      'FUTURE_REVISION',
      'OUT_OF_RANGE',
      'mvcc: required revision is a future revision',
    );
    await assert.rejects(client.kv.get('a', { revision: old }), compacted);
    await assert.rejects(client.kv.compact(kept), compacted);
    await assert.rejects(client.kv.compact(kept + 100n), future);
    await assert.rejects(client.kv.get('a', { revision: kept + 100n }), future);
  });

  test('errors of a put have a code, etcd’s own words, and name the key', async () => {
    const refused = (
      options: object,
      code: string,
      status: string,
      words: string,
      value = '',
    ): Promise<void> =>
      assert.rejects(client.kv.put('nobody', value, options), (error) => {
        etcdSays(code, status, words)(error);
        assert.match(String(error), /nobody/);
        return true;
      });
    await refused({ leaseId: 12345n }, 'LEASE_NOT_FOUND', 'NOT_FOUND', 'requested lease not found');
    await refused({ ignoreValue: true }, 'KEY_NOT_FOUND', 'INVALID_ARGUMENT', 'key not found');
    await refused({ ignoreLease: true }, 'KEY_NOT_FOUND', 'INVALID_ARGUMENT', 'key not found');
    await refused({ ignoreValue: true }, 'VALUE_PROVIDED', 'INVALID_ARGUMENT', 'value is provided', 'x');
    await refused(
      { ignoreLease: true, leaseId: 1n },
      'LEASE_PROVIDED',
      'INVALID_ARGUMENT',
      'lease is provided',
    );
    await assert.rejects(client.kv.put('big', Buffer.alloc(1_600_000)), withCode('REQUEST_TOO_LARGE'));
    await assert.rejects(client.kv.put('bigger', Buffer.alloc(3_000_000)), withCode('REQUEST_TOO_LARGE'));
  });

  test('a call ends with its signal’s reason, and at its own deadline', async () => {
    const reason = new Error('changed my mind');
    await assert.rejects(
      client.kv.get('a', { signal: AbortSignal.abort(reason) }),
      (error) => error === reason,
    );
    const abort = new AbortController();
    const get = client.kv.get('a', { signal: abort.signal });
    abort.abort(reason);
    await assert.rejects(get, (error) => error === reason);
    await assert.rejects(client.kv.get('a', { timeoutMs: 0 }), withCode('DEADLINE_EXCEEDED'));
  });

  test('a thousand calls at once all come back', async () => {
    await Promise.all(Array.from({ length: 1000 }, (_, n) => put(`m/${n}`, String(n))));
    const { count } = await client.kv.range({ prefix: 'm/' }, { countOnly: true });
    assert.equal(count, 1000n);
  });
});

/** An error that etcd answered. */
function etcdSays(code: string, status: string, words: string): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof ConclaveError);
    assert.deepEqual([error.code, error.etcd], [code, { message: `etcdserver: ${words}`, status }]);
    return true;
  };
}
