/** What a client writes after it has asked for a watch: the watch sees it, and the write waits for no more than that. */
import assert from 'node:assert/strict';
import { afterEach, before, type TestContext, test } from 'node:test';
import { type Client, type ClientOptions, Mutex, op } from 'conclave';
import { ManualClock } from 'conclave/testing';
import { services } from '#conclave/proto/services.js';
import { nextOf, RPC, Scene } from '../faults/scene.js';
import { onEachBackend } from '../support/backends.js';
import { withCode } from './support/rejections.js';

const creates =
  (key: string) =>
  (message: Buffer): boolean =>
    services.Watch.Watch.requestDeserialize(message).createRequest?.key.toString() === key;

onEachBackend('writes after watches', (backend) => {
  let direct: Client;
  before(() => {
    direct = backend.client();
  });
  afterEach(async () => {
    await direct.kv.delete({ prefix: '' });
  });

  async function stage(t: TestContext, options: Omit<ClientOptions, 'endpoints'> = {}) {
    const scene = new Scene(t, backend);
    const proxy = await scene.proxy();
    const clock = new ManualClock();
    return { client: scene.client(proxy, { clock, ...options }), clock, proxy, scene };
  }

  for (const hold of ['holdRequest', 'holdReply'] as const) {
    for (const batch of ['none', 'all'] as const) {
      const writes: Record<string, (client: Client, leaseId: bigint) => Promise<unknown>> = {
        delete: (client) => client.kv.delete('gate/leased'),
        put: (client) => client.kv.put('gate/x', ''),
        revoke: (client, leaseId) => client.lease.revoke(leaseId),
        txn: (client) => client.kv.txn({ then: [op.put('gate/x', '')] }),
      };
      for (const [kind, write] of Object.entries(writes)) {
        test(`a ${kind} is seen although the watch takes longer to create than it waits (${hold}, batch ${batch})`, async (t) => {
          const { client, clock, proxy } = await stage(t, { batch });
          const lease = await direct.lease.grant(60);
          t.after(() => direct.lease.revoke(lease.id));
          await direct.kv.put('gate/leased', '', { leaseId: lease.id });
          const fault = proxy.onCall(RPC.watch, hold);
          const watch = client.watch({ prefix: 'gate/' });
          const writing = write(client, lease.id);
          await fault.hit();
          await clock.advance(1000);
          await writing;
          await direct.kv.put('gate/later', '');
          fault.release();
          const created = await watch.created;
          await direct.kv.put('gate/last', '');
          const seen: string[] = [];
          const revisions: bigint[] = [];
          while (seen.at(-1) !== 'gate/last') {
            const { events } = await nextOf(watch);
            seen.push(...events.map(({ kv }) => kv.key));
            revisions.push(...events.map(({ kv }) => kv.modRevision));
          }
          const written = kind === 'put' || kind === 'txn' ? 'gate/x' : 'gate/leased';
          assert.deepEqual(seen, [written, 'gate/later', 'gate/last']);
          assert.equal(revisions[0], created + 1n);
        });
      }
    }
  }

  test('a watch that writes have overtaken holds up none of those that follow', async (t) => {
    const { client, clock, proxy } = await stage(t);
    const fault = proxy.onCall(RPC.watch, 'holdReply');
    const watch = client.watch('gate/x');
    const first = client.kv.put('gate/x', '1');
    await fault.hit();
    await clock.advance(1000);
    await first;
    // The clock stands still from here on.
    for (const value of ['2', '3', '4']) await client.kv.put('gate/x', value);
    assert.equal(proxy.requests(RPC.range), 1);
    fault.release();
    const seen: string[] = [];
    while (seen.length < 4) seen.push(...(await nextOf(watch)).events.map(({ kv }) => kv.string()));
    assert.deepEqual(seen, ['1', '2', '3', '4']);
  });

  test('a write waits for the watches asked for before it, and for none after', async (t) => {
    const { client, proxy } = await stage(t);
    const fault = proxy.onCall(RPC.watch, 'holdRequest', { where: creates('after') });
    const earlier = client.watch('before');
    const put = client.kv.put('before', 'x');
    const later = client.watch('after');
    // The clock stands still: only the creation of the first watch lets it go.
    await put;
    await fault.hit();
    assert.equal((await nextOf(earlier)).events[0]?.kv.string(), 'x');
    const behind = client.kv.put('after', 'y');
    const turn = new Promise((resolve) => setImmediate(() => resolve('waits')));
    assert.equal(await Promise.race([behind, turn]), 'waits');
    fault.release();
    await behind;
    assert.equal((await nextOf(later)).events[0]?.kv.string(), 'y');
  });

  test('a watch with a start of its own, and the line of a lock, hold up no write', async (t) => {
    const { client, proxy, scene } = await stage(t);
    const [one, two] = [await scene.session(client), await scene.session(client)];
    const held = await new Mutex(one, 'gate/lock').lock();
    const fault = proxy.onCall(RPC.watch, 'holdRequest');
    const waiting = new Mutex(two, 'gate/lock').lock();
    await fault.hit();
    const past = client.watch('gate/x', { startRevision: 1n });
    await client.kv.put('gate/x', '');
    past.close();
    fault.release();
    await held.unlock();
    await (await waiting).unlock();
  });

  test('the time a write waits for a watch is its own: it ends after timeoutMs, not half as late again', async (t) => {
    const { client, clock, proxy } = await stage(t);
    proxy.onCall(RPC.watch, 'holdRequest');
    for (const rpc of [RPC.put, RPC.revoke]) {
      const startedAt = clock.now();
      const fault = proxy.onCall(rpc, 'holdRequest');
      const watch = client.watch('gate/x');
      const limits = { timeoutMs: 400 };
      const write = rpc === RPC.put ? client.kv.put('gate/x', '', limits) : client.lease.revoke(1n, limits);
      const ended = assert.rejects(write, withCode('UNKNOWN_OUTCOME'));
      await clock.advance(200);
      await fault.hit();
      await clock.advance(200);
      await ended;
      assert.equal(clock.now() - startedAt, 400);
      watch.close();
    }
  });

  test('a write that never could be sent says so', async (t) => {
    const { client, clock, proxy } = await stage(t);
    proxy.onCall(RPC.watch, 'holdRequest');
    const fault = proxy.onCall(RPC.range, 'holdRequest');
    const watch = client.watch('gate/x');
    const write = assert.rejects(client.kv.put('gate/x', '', { timeoutMs: 400 }), withCode('UNAVAILABLE'));
    await clock.advance(200);
    await fault.hit();
    await clock.advance(200);
    await write;
    assert.equal(proxy.requests(RPC.put), 0);
    watch.close();
  });
});
