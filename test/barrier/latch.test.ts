// Latch: counts down exactly once per call and opens at zero; on both backends.
import assert from 'node:assert/strict';
import { it } from 'node:test';

import { hasCode, Latch, Session } from 'conclave';

import { onEachBackend } from '../support/backends.js';

const coded = (code: string) => (error: unknown) => hasCode(error) && error.code === code;

onEachBackend('Latch', (backend) => {
  it('opens for all who wait, and for those who come later, once it is counted down', async () => {
    const latch = new Latch(backend.client(), 'opens', { count: 3 });
    const waits = [1, 2].map(async () => new Latch(backend.client(), 'opens', { count: 3 }).wait());
    await latch.countDown();
    assert.equal(await latch.count(), 2);
    await assert.rejects(latch.wait({ timeoutMs: 20 }), coded('TIMEOUT'));
    await latch.countDown(2);
    await Promise.all(waits);
    await latch.wait();
    assert.equal(await latch.count(), 0);
    assert.equal(await latch.delete(), true);
    assert.equal(await latch.delete(), false);
  });

  it('counts every one of many calls at once, and stays at zero beyond', async () => {
    const latches = [1, 2, 3, 4].map(() => new Latch(backend.client(), 'many', { count: 200 }));
    const waiting = latches.map(async (latch) => latch.wait());
    await Promise.all(latches.flatMap((latch) => Array.from({ length: 49 }, async () => latch.countDown())));
    const [latch] = latches as [Latch, ...Latch[]];
    assert.equal(await latch.count(), 4);
    await Promise.all([1, 2, 3, 4].map(async () => latch.countDown()));
    await Promise.all(waiting);
    const client = backend.client();
    const keys = async (): Promise<bigint> => (await client.kv.range({ prefix: 'many/' })).count;
    const before = await keys();
    for (let extra = 0; extra < 20; extra++) await latch.countDown();
    assert.equal(await keys(), before, 'counting an open latch writes nothing');
    assert.equal(await latch.count(), 0);
    await latch.delete();
    assert.equal(await keys(), 0n);
  });

  it('writes nothing once it is open, however it was counted down', async () => {
    const client = backend.client();
    for (const [counts, atMost] of [
      [[8], 3],
      [[20], 3],
      [[1, 3, 1, 2, 1], 7],
      [[7, 1], 4],
    ] as const) {
      const latch = new Latch(client, 'weighty', { count: 8 });
      for (const n of counts) {
        assert.ok((await latch.count()) > 0);
        await latch.countDown(n);
      }
      assert.equal(await latch.count(), 0);
      const read = () => client.kv.range({ prefix: 'weighty/' });
      const { kvs } = await read();
      assert.equal(kvs.length, atMost);
      for (let extra = 1; extra <= 20; extra++) await latch.countDown(extra);
      assert.deepEqual((await read()).kvs, kvs);
      await latch.delete();
    }
  });

  it('refuses a user that gives another count', async () => {
    const latch = new Latch(backend.client(), 'agreed', { count: 2 });
    await latch.countDown();
    const other = new Latch(backend.client(), 'agreed', { count: 3 });
    await assert.rejects(other.countDown(), coded('MISMATCH'));
    await assert.rejects(other.wait(), coded('MISMATCH'));
    await assert.rejects(other.count(), coded('MISMATCH'));
    assert.equal(await latch.count(), 1);
    await latch.delete();
  });

  it('tells waiters and counters that it was deleted, and never counts on a newer latch of the name', async () => {
    const latch = new Latch(backend.client(), 'deleted', { count: 2 });
    const waiter = new Latch(backend.client(), 'deleted', { count: 2 });
    assert.equal(await latch.count(), 2);
    const waiting = waiter.wait();
    const broken = assert.rejects(waiting, coded('BROKEN'));
    await waiter.countDown();
    await latch.delete();
    await broken;
    await assert.rejects(latch.countDown(), coded('BROKEN'));
    const next = new Latch(backend.client(), 'deleted', { count: 2 });
    assert.equal(await next.count(), 2);
    await assert.rejects(waiter.countDown(), coded('BROKEN'));
    assert.equal(await latch.delete(), false, 'an old object does not delete a newer latch');
    assert.equal(await next.count(), 2);
    await next.delete();
  });

  it('outlives the session that counted', async () => {
    const session = await Session.open(backend.client(), { ttlSeconds: 5 });
    await new Latch(session, 'durable', { count: 2 }).countDown();
    await session.close();
    await assert.rejects(new Latch(session, 'durable', { count: 2 }).countDown(), coded('CLOSED'));
    const latch = new Latch(backend.client(), 'durable', { count: 2 });
    assert.equal(await latch.count(), 1);
    await latch.delete();
  });

  it('refuses bad counts before any request', async () => {
    const client = backend.client();
    for (const count of [0, -1, 1.5, NaN, Infinity]) {
      assert.throws(() => new Latch(client, 'bad', { count }), RangeError);
      await assert.rejects(new Latch(client, 'bad', { count: 1 }).countDown(count), RangeError);
    }
    assert.throws(() => new Latch(client, 'bad', { count: '3' as unknown as number }), TypeError);
    assert.throws(() => new Latch(client, '', { count: 1 }), TypeError);
    assert.equal((await client.kv.range({ prefix: 'bad/' })).count, 0n);
  });
});
