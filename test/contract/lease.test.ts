import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import type { Client } from 'conclave';
import { onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';
import { exactly, refusal, withCode } from './support/rejections.js';

onEachBackend('lease', (backend) => {
  let client: Client;
  before(() => {
    client = backend.client();
  });

  test('grant, list, time to live, and what revoking takes along', async () => {
    const lease = await client.lease.grant(100);
    assert.equal(lease.ttlSeconds, 100);
    assert.deepEqual(await client.lease.list(), [lease.id]);
    await client.kv.put('k/2', '', { leaseId: lease.id });
    await client.kv.put('k/1', '', { leaseId: lease.id });
    const life = await client.lease.timeToLive(lease.id, { keys: true });
    assert.equal(life.grantedTtlSeconds, 100);
    assert.ok(life.ttlSeconds > 90 && life.ttlSeconds <= 100);
    assert.deepEqual(life.keys.map(String).sort(), ['k/1', 'k/2']);
    assert.deepEqual((await client.lease.timeToLive(lease.id)).keys, []);
    const { revision } = await client.kv.range('k');
    await client.lease.revoke(lease.id);
    const after = await client.kv.range({ prefix: 'k/' });
    assert.deepEqual([after.count, after.revision], [0n, revision + 1n]);
    assert.deepEqual(await client.lease.list(), []);
  });

  test('an id of one’s own is kept, and refused when it exists', async () => {
    assert.equal((await client.lease.grant(100, { id: 4711n })).id, 4711n);
    await assert.rejects(client.lease.grant(100, { id: 4711n }), withCode('LEASE_EXISTS'));
    await client.lease.revoke(4711n);
    assert.equal((await client.lease.grant(100, { id: 4711n })).id, 4711n);
    await client.lease.revoke(4711n);
  });

  test('an unknown lease: revoked already, -1 seconds, and not to be kept alive', async () => {
    await client.lease.revoke(99n);
    const life = await client.lease.timeToLive(99n, { keys: true });
    assert.deepEqual([life.ttlSeconds, life.grantedTtlSeconds, life.keys.length], [-1, 0, 0]);
    await assert.rejects(client.lease.keepAliveOnce(99n), withCode('LEASE_NOT_FOUND'));
    await assert.rejects(client.lease.keepAlive(99n).next(), withCode('LEASE_NOT_FOUND'));
    await assert.rejects(client.kv.put('k', '', { leaseId: 99n }), withCode('LEASE_NOT_FOUND'));
  });

  test('a TTL below the least is raised, one above the most refused', async () => {
    const lease = await client.lease.grant(1);
    assert.equal(lease.ttlSeconds, 2);
    await client.lease.revoke(lease.id);
    await assert.rejects(client.lease.grant(9_000_000_001), refusal('9000000001'));
  });

  test('a lease that nobody keeps alive ends, and takes its keys along', async () => {
    const lease = await client.lease.grant(2);
    await client.kv.put('short', '', { leaseId: lease.id });
    const watch = client.watch('short');
    await watch.created;
    for await (const { events } of watch) {
      assert.deepEqual(
        events.map((event) => [event.type, event.kv.key]),
        [['delete', 'short']],
      );
      break;
    }
    assert.equal((await client.lease.timeToLive(lease.id)).ttlSeconds, -1);
  });

  test('keepAliveOnce gives it its full time again', async () => {
    const lease = await client.lease.grant(100);
    const renewed = await client.lease.keepAliveOnce(lease.id);
    assert.deepEqual([renewed.id, renewed.ttlSeconds], [lease.id, 100]);
    assert.ok(renewed.sentAt >= lease.sentAt);
    await assert.rejects(
      client.lease.keepAliveOnce(lease.id, { signal: AbortSignal.abort('no') }),
      exactly('no'),
    );
    await client.lease.revoke(lease.id);
  });

  test('keepAlive yields renewals until the loop is left', async () => {
    const lease = await client.lease.grant(2);
    const sent: number[] = [];
    for await (const term of client.lease.keepAlive(lease.id)) {
      assert.deepEqual([term.id, term.ttlSeconds], [lease.id, 2]);
      sent.push(term.sentAt);
      if (sent.length === 4) break;
    }
    assert.ok((sent[3] ?? 0) - (sent[0] ?? 0) > 1500, 'a third of the TTL between two');
    await client.lease.revoke(lease.id);
  });

  test('keepAlive ends when the lease is revoked, when its signal aborts, and serves two loops', async () => {
    const lease = await client.lease.grant(2);
    const abort = new AbortController();
    const one = client.lease.keepAlive(lease.id);
    const two = client.lease.keepAlive(lease.id, { signal: abort.signal });
    await Promise.all([one.next(), two.next()]);
    abort.abort('two is through');
    await assert.rejects(async () => {
      for (;;) await two.next();
    }, exactly('two is through'));
    assert.equal((await one.next()).done, false);
    await client.lease.revoke(lease.id);
    await assert.rejects(async () => {
      for (;;) if ((await one.next()).done === true) return;
    }, withCode('LEASE_NOT_FOUND'));
  });

  test('a put binds a key to its lease, another put moves or frees it', async () => {
    const [one, two] = [await client.lease.grant(100), await client.lease.grant(100)];
    const keys = async (id: bigint): Promise<string[]> =>
      (await client.lease.timeToLive(id, { keys: true })).keys.map(String);
    await client.kv.put('moves', '', { leaseId: one.id });
    await client.kv.put('moves', '', { leaseId: two.id });
    assert.deepEqual([await keys(one.id), await keys(two.id)], [[], ['moves']]);
    await client.lease.revoke(one.id);
    await client.kv.put('moves', '');
    await client.lease.revoke(two.id);
    assert.ok(await client.kv.get('moves'));
    await client.kv.delete('moves');
  });

  test('five hundred leases are kept alive on one stream', async () => {
    const leases = await Promise.all(Array.from({ length: 500 }, () => client.lease.grant(2)));
    const loops = leases.map(({ id }) => client.lease.keepAlive(id));
    const end = performance.now() + 2500;
    await until(() => performance.now() > end);
    assert.equal((await client.lease.list()).length, 500);
    for (const loop of loops) await loop.return?.();
    await Promise.all(leases.map(({ id }) => client.lease.revoke(id)));
  });
});
