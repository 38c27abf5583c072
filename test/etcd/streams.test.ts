// What a stream leaves behind in a client that lives for long.
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { queryObjects } from 'node:v8';
import { ClientDuplexStreamImpl, ClientReadableStreamImpl } from '@grpc/grpc-js/build/src/call.js';
import { type Client } from 'conclave';
import { FaultProxy } from 'conclave/testing';
import { onEachBackend } from '../support/backends.js';
import { Scene } from '../faults/scene.js';

const MANY = 200;
/** Streams that may be there for other reasons: those that are under way, and what an iterator has not let go of. */
const FEW = 20;

/** How many streams the client's process holds in memory, after a collection. */
function held(): number {
  return [ClientDuplexStreamImpl, ClientReadableStreamImpl].reduce(
    (sum, kind) => sum + queryObjects(kind, { format: 'count' }),
    0,
  );
}

onEachBackend('a client that lives for long', (backend) => {
  const ways: Readonly<Record<string, (client: Client) => Promise<unknown>>> = {
    'a keepalive each': async (client) => {
      const { id } = await client.lease.grant(60);
      for (let at = 0; at < MANY; at++) await client.lease.keepAliveOnce(id);
      await client.lease.revoke(id);
    },
    'a watch each': async (client) => {
      for (let at = 0; at < MANY; at++) {
        const watch = client.watch('streams');
        await watch.created;
        watch.close();
      }
    },
  };
  for (const [name, use] of Object.entries(ways)) {
    it(`keeps none of the streams that it has ended (${name})`, async () => {
      await using client = backend.client();
      await use(client);
      const before = held();
      await use(client);
      assert.ok(held() - before < FEW, `${held() - before} of ${MANY} streams are still in memory`);
    });
  }

  it('keeps none of the streams that broke', async (t) => {
    const scene = new Scene(t, { endpoints: backend.endpoints });
    await using proxy = await FaultProxy.start(backend.endpoints[0] ?? '');
    const client = scene.client(proxy);
    const watch = client.watch('streams');
    await watch.created;
    const breakOne = async (value: string): Promise<void> => {
      proxy.cut();
      await scene.direct.kv.put('streams', value);
      const { value: batch } = await watch.next();
      assert.equal(batch?.events.at(-1)?.kv.string(), value);
    };
    await breakOne('first');
    const before = held();
    for (let at = 0; at < 40; at++) await breakOne(String(at));
    assert.ok(held() - before < FEW, `${held() - before} of 40 streams are still in memory`);
    watch.close();
    await scene.direct.kv.delete('streams');
  });
});
