// What `conclave/keys` promises beyond v2's answers: watchers, expiry, races, lost answers, leftovers, bad input.
import assert from 'node:assert/strict';
import { afterEach, it } from 'node:test';

import { Client } from 'conclave';
import { KeysAPI, KeysError, type KeysResponse, type KeysWatcher } from 'conclave/keys';
import { FaultProxy } from 'conclave/testing';

import { onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';

function code(errorCode: number): (error: unknown) => boolean {
  return (error) => error instanceof KeysError && error.errorCode === errorCode;
}

async function next(watcher: KeysWatcher): Promise<KeysResponse> {
  const { value } = await watcher.next();
  assert.ok(value !== undefined, 'the watcher has ended');
  return value;
}

onEachBackend('keys', (backend) => {
  const prefixes: string[] = [];
  /** A tree of its own, removed in the end. */
  function tree(name: string, client: Client = backend.client()): KeysAPI {
    prefixes.push(`${name}/`);
    return new KeysAPI(client, { prefix: name });
  }
  afterEach(async () => {
    const client = new Client({ endpoints: backend.endpoints });
    for (const prefix of prefixes.splice(0)) await client.kv.delete({ prefix });
    for (const id of await client.lease.list()) await client.lease.revoke(id);
    await client.close();
  });

  it('tells a watcher what happens after an index, in order, with what was there before', async () => {
    const keys = tree('history');
    const first = await keys.set('/a/x', '1');
    await keys.update('/a/x', '2');
    await keys.set('/other', 'unseen');
    await keys.set('/a/x', '3', { prevValue: '2' });
    await keys.delete('/a/x', { prevValue: '3' });
    await keys.create('/a/x', '4');
    await keys.delete('/a', { recursive: true });

    await using watcher = keys.watcher('/a/x', { afterIndex: first.index });
    const told: unknown[] = [];
    for await (const { action, node, prevNode } of watcher) {
      told.push([action, node.key, node.value, prevNode?.value]);
      if (node.key === '/a') break;
    }
    assert.deepEqual(told, [
      ['update', '/a/x', '2', '1'],
      ['compareAndSwap', '/a/x', '3', '2'],
      ['compareAndDelete', '/a/x', undefined, '3'],
      ['create', '/a/x', '4', undefined],
      ['delete', '/a', undefined, undefined],
    ]);
  });

  it('tells a recursive watcher of all below its key, but of nothing hidden, and a plain one of its key alone', async () => {
    const keys = tree('recursive');
    await using all = keys.watcher('/', { recursive: true });
    await using own = keys.watcher('/a');
    await Promise.all([all.created, own.created]);
    await keys.set('/a/_secret/x', '1');
    await keys.set('/a/b/c', '2');
    await keys.createInOrder('/a', '3');
    await keys.update('/a', undefined, { dir: true });
    assert.equal((await next(all)).node.key, '/a/b/c');
    assert.equal((await next(all)).node.value, '3');
    assert.equal((await next(all)).node.key, '/a');
    const { action, node } = await next(own);
    assert.deepEqual([action, node.key, node.dir], ['update', '/a', true]);
  });

  it('wakes no watcher for a refresh, which keeps the value and gives the key its new time', async () => {
    const keys = tree('refresh');
    await keys.set('/k', 'v', { ttl: 50 });
    await using watcher = keys.watcher('/k');
    await watcher.created;
    const refreshed = await keys.update('/k', undefined, { refresh: true, ttl: 500 });
    assert.deepEqual([refreshed.node.value, refreshed.node.ttl, refreshed.prevNode?.ttl], ['v', 500, 50]);
    await keys.set('/k', 'w');
    const { action, node, prevNode } = await next(watcher);
    assert.deepEqual([action, node.value, node.ttl, prevNode?.value], ['set', 'w', undefined, 'v']);
  });

  it('rejects with 401 when the history after the index has been compacted', async () => {
    const client = backend.client();
    const keys = tree('compacted', client);
    const { index } = await keys.set('/k', '1');
    const last = await keys.set('/k', '2');
    await client.kv.compact(last.index);
    await using watcher = keys.watcher('/k', { afterIndex: index - 1n });
    await assert.rejects(watcher.next(), code(401));
  });

  it('expires a key, and tells its watcher so', async () => {
    const keys = tree('expire');
    await keys.set('/d/k', 'v', { ttl: 1 });
    await using watcher = keys.watcher('/d', { recursive: true });
    const { action, node, prevNode } = await next(watcher);
    assert.deepEqual([action, node.key, node.value, prevNode?.value], ['expire', '/d/k', undefined, 'v']);
    await assert.rejects(keys.get('/d/k'), code(100));
  });

  it('takes along what is in a directory that expires: watchers hear of the directory, and nothing comes back', async () => {
    const client = backend.client();
    const keys = tree('expired-dir', client);
    await keys.set('/d', undefined, { dir: true, ttl: 1 });
    await keys.set('/d/sub/k', 'v');
    await using watcher = keys.watcher('/d/sub/k');
    const { action, node } = await next(watcher);
    assert.deepEqual([action, node.key, node.dir], ['expire', '/d', true]);
    await assert.rejects(keys.get('/d/sub/k'), code(100));
    await keys.set('/d/sub/other', 'w');
    const { node: now } = await keys.get('/d', { recursive: true });
    assert.deepEqual(
      now.nodes?.[0]?.nodes?.map(({ key }) => key),
      ['/d/sub/other'],
    );
    assert.equal((await client.kv.range({ prefix: 'expired-dir/d/' })).count, 2n);
  });

  it('removes what an expired directory has left, also when nobody watched', async () => {
    const client = backend.client();
    const keys = tree('left', client);
    await keys.set('/d', undefined, { dir: true, ttl: 1 });
    await keys.set('/d/k', 'v');
    await until(async () => (await client.kv.get('left//d')) === undefined, { what: '/d has expired' });
    assert.equal((await client.kv.range({ prefix: 'left/d/' })).count, 1n);
    await assert.rejects(keys.get('/d'), code(100));
    assert.equal((await client.kv.range({ prefix: 'left/d/' })).count, 0n);
  });

  it('leaves no lease behind when a change is refused, or when what was bound to it is replaced', async () => {
    const client = backend.client();
    const keys = tree('leases', client);
    const before = (await client.lease.list()).length;
    await keys.set('/k', '1', { ttl: 300 });
    for (let turn = 0; turn < 5; turn++) await keys.update('/k', undefined, { refresh: true, ttl: 300 });
    assert.equal((await client.lease.list()).length, before + 1);
    await assert.rejects(keys.create('/k', '2', { ttl: 300 }), code(105));
    await keys.delete('/k');
    assert.equal((await client.lease.list()).length, before);
  });

  it('gives 100 concurrent createInOrder of several clients names of their own, in the order of their indices', async () => {
    const several = Array.from({ length: 4 }, () => tree('in-order', backend.client()));
    const made = await Promise.all(
      several.flatMap((keys) =>
        Array.from({ length: 25 }, async (_, at) => keys.createInOrder('/q', `${at}`)),
      ),
    );
    const byIndex = made
      .sort((a, b) => Number(a.node.createdIndex - b.node.createdIndex))
      .map(({ node }) => node.key);
    assert.equal(new Set(byIndex).size, 100);
    assert.deepEqual(byIndex, [...byIndex].sort());
    const { node } = await tree('in-order').get('/q', { sorted: true });
    assert.deepEqual(
      node.nodes?.map(({ key }) => key),
      byIndex,
    );
  });

  it('lets exactly one of many concurrent changes win', async () => {
    const keys = Array.from({ length: 10 }, () => tree('race', backend.client()));
    const outcomes = async (run: (each: KeysAPI, at: number) => Promise<unknown>): Promise<unknown[]> => {
      const settled = await Promise.allSettled(keys.map(run));
      return settled.map((each) =>
        each.status === 'fulfilled' ? 'won' : (each.reason as KeysError).errorCode,
      );
    };
    const oneWon = (others: number): unknown[] => [...Array.from({ length: 9 }, () => others), 'won'];
    const created = await outcomes((each, at) => each.create('/deep/er/k', String(at)));
    assert.deepEqual(created.sort(), oneWon(105));
    await keys[0]?.set('/k', 'before');
    const swapped = await outcomes((each, at) => each.set('/k', String(at), { prevValue: 'before' }));
    assert.deepEqual(swapped.sort(), oneWon(101));
    const deleted = await outcomes((each) => each.delete('/k'));
    assert.deepEqual(deleted.sort(), oneWon(100));
  });

  it('applies each change once when its answer is lost, and answers as if it had come', async () => {
    const proxy = await FaultProxy.start(backend.endpoints[0] ?? '', { grpc: true });
    const client = new Client({ endpoints: [proxy.endpoint], timeoutMs: 3000 });
    const keys = tree('lost', client);
    const lose = async (change: () => Promise<KeysResponse>): Promise<KeysResponse> => {
      const marked = (message: Buffer): boolean => message.includes('"mark":');
      const fault = proxy.onCall('/etcdserverpb.KV/Txn', 'dropReply', { where: marked });
      const done = await change();
      assert.equal(fault.hits, 1);
      return done;
    };
    try {
      const { index } = await keys.get('/');
      const answers = [
        await lose(() => keys.create('/d/n', '0')),
        await lose(() => keys.update('/d/n', '1')),
        await lose(() => keys.set('/d/n', '2', { prevValue: '1' })),
        await lose(() => keys.createInOrder('/d', 'first')),
        await lose(() => keys.createInOrder('/d', 'second')),
        await lose(() => keys.delete('/d/n', { prevValue: '2' })),
      ];
      await using watcher = keys.watcher('/d', { afterIndex: index, recursive: true });
      for (const { action, node } of answers) {
        const told = await next(watcher);
        assert.deepEqual(
          [told.action, told.node.key, told.node.modifiedIndex],
          [action, node.key, node.modifiedIndex],
        );
      }
      await keys.set('/d/end', '');
      assert.equal((await next(watcher)).node.key, '/d/end');
    } finally {
      await client.close();
      await proxy.close();
    }
  });

  it('refuses bad input before any request, and ends its waits with the signal', async () => {
    const keys = tree('bad');
    await assert.rejects(keys.set('/k', 'v', { dir: true }), TypeError);
    await assert.rejects(keys.set('/k', undefined, { refresh: true }), TypeError);
    await assert.rejects(keys.set('/k', 'v', { ttl: 0.5 }), RangeError);
    await assert.rejects(keys.set('/k', 'v', { prevValue: '' }), TypeError);
    await assert.rejects(keys.set('/k', 'v', { ttlSeconds: 5 } as never), /unknown option "ttlSeconds"/);
    await assert.rejects(keys.get(7 as never), TypeError);
    await assert.rejects(keys.get('/a'.repeat(101)), RangeError);
    assert.throws(() => new KeysAPI({} as never), TypeError);
    const ending = new AbortController();
    await using watcher = keys.watcher('/k', { signal: ending.signal });
    const waiting = watcher.next();
    const reason = new Error('enough');
    ending.abort(reason);
    await assert.rejects(waiting, (error) => error === reason);
    watcher.close();
    assert.equal((await watcher.next()).done, true);
  });
});
