// Serializable reads in order: never older than what the client has seen, though members are behind, gone, or came back older.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { Client, op } from 'conclave';
import { startEtcd, World } from 'conclave/testing';

import { code } from '../support/world.js';

/** A world with a client, in which a promise is waited for in the world's time. */
function scene() {
  const world = new World(11);
  const client = world.client(world.process('reader'));
  const within = async <T>(promise: Promise<T>): Promise<T> => {
    let isSettled = false;
    const settled = (): void => void (isSettled = true);
    promise.then(settled, settled);
    await world.run(60_000, () => isSettled);
    return promise;
  };
  const [first, ...others] = world.members;
  assert.ok(first);
  return { client, first, others, reads: client.orderedReads(), within, world };
}

describe('ordered reads', () => {
  test('go to another member when one is behind', async () => {
    const { client, first, others, reads, within, world } = scene();
    await using _ = world;
    await within(client.kv.put('a', 'old'));
    first.lags = true;
    const [other] = others;
    const { revision } = await within(client.kv.put('a', 'new', { endpoint: other?.url }));
    const behind = await within(client.kv.get('a', { endpoint: first.url, serializable: true }));
    assert.equal(behind?.string(), 'old');
    // It stays with the one that is behind.
    client.setEndpoints([first.url]);
    assert.equal((await within(client.kv.get('a', { serializable: true })))?.string(), 'old');
    client.setEndpoints(world.members.map(({ url }) => url));
    assert.equal((await within(client.kv.get('a', { serializable: true })))?.string(), 'old');
    assert.equal((await within(reads.get('a', { serializable: true })))?.string(), 'new');
    const { revision: at } = await within(reads.range({ prefix: 'a' }, { serializable: true }));
    assert.ok(at >= revision);
    const { responses } = await within(reads.txn({ then: [op.get('a', { serializable: true })] }));
    assert.equal(responses[0].kvs[0]?.string(), 'new');
    const past = await within(reads.range('a', { revision, serializable: true }));
    assert.equal(past.kvs[0]?.string(), 'new');
    assert.equal((await within(reads.get('a')))?.string(), 'new');
  });

  test('wait for the member that is named, until their time is over', async () => {
    const { client, first, reads, within, world } = scene();
    await using _ = world;
    await within(client.kv.put('a', 'old'));
    for (const member of world.members) member.lags = member === first;
    await within(client.kv.put('a', 'new', { endpoint: world.members[1]?.url }));
    const named = { endpoint: first.url, serializable: true, timeoutMs: 2000 } as const;
    await within(assert.rejects(reads.get('a', named), code('DEADLINE_EXCEEDED')));
    world.timeline.after(1000, () => (first.lags = false));
    assert.equal((await within(reads.get('a', named)))?.string(), 'new');
  });

  test('end in time when nobody is new enough, or nobody answers', async () => {
    const { client, first, others, reads, within, world } = scene();
    await using _ = world;
    await within(client.kv.put('a', 'old'));
    first.lags = true;
    await within(client.kv.put('a', 'new', { endpoint: others[0]?.url }));
    for (const other of others) other.state = 'down';
    const options = { serializable: true, timeoutMs: 3000 };
    const began = world.nowMs;
    await within(assert.rejects(reads.get('a', options), code('DEADLINE_EXCEEDED')));
    assert.ok(world.nowMs - began < 5000);
    first.state = 'down';
    await within(assert.rejects(reads.get('a', options), code('DEADLINE_EXCEEDED')));
    for (const member of world.members) member.state = 'up';
    assert.equal((await within(reads.get('a', { serializable: true })))?.string(), 'new');
    const stop = new AbortController();
    const reason = new Error('enough');
    for (const other of others) other.state = 'down';
    const aborted = reads.get('a', { serializable: true, signal: stop.signal, timeoutMs: 60_000 });
    world.timeline.after(500, () => stop.abort(reason));
    await within(assert.rejects(aborted, (error) => error === reason));
  });

  test('take what there is when history went back', async () => {
    const { client, reads, within, world } = scene();
    await using _ = world;
    const { revision } = await within(client.kv.put('a', 'old'));
    for (let at = 0; at < 5; at++) await within(client.kv.put('a', 'new'));
    assert.equal((await within(reads.get('a', { serializable: true })))?.string(), 'new');
    world.server.restart({ revision });
    assert.equal((await within(reads.get('a', { serializable: true })))?.string(), 'old');
  });

  test('show on a real cluster’s followers what was written a moment ago', async (t) => {
    await using etcd = await startEtcd({ members: 3 });
    await using client = new Client({ endpoints: etcd.endpoints });
    const reads = client.orderedReads();
    let behind = 0;
    for (let at = 0; at < 60; at++) {
      await client.kv.put('a', String(at));
      for (const endpoint of etcd.endpoints) {
        const plain = client.kv.get('a', { endpoint, serializable: true });
        const ordered = await reads.get('a', { endpoint, serializable: true });
        assert.equal(ordered?.string(), String(at));
        if ((await plain)?.string() !== String(at)) behind += 1;
      }
    }
    t.diagnostic(`${behind} of 180 reads without order were behind`);
    // One of them is stopped, and another answers.
    const frozen = etcd.members[0];
    assert.ok(frozen);
    await frozen.pause();
    t.after(() => frozen.resume());
    assert.equal((await reads.get('a', { serializable: true }))?.string(), '59');
    await frozen.resume();
  });
});
