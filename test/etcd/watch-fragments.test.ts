import assert from 'node:assert/strict';
import { it } from 'node:test';
import { type Client, op, type WatchBatch } from 'conclave';
import { onEachBackend } from '../support/backends.js';

const KEYS = 100;
/** Two revisions of it fit a response, two revisions with what was there before do not. */
const VALUE = 'v'.repeat(12_000);

/** Writes all keys in one transaction; resolves with its revision. */
async function writeAll(client: Client): Promise<bigint> {
  const steps = Array.from({ length: KEYS }, (_, at) => op.put(`big/${at}`, VALUE));
  return (await client.kv.txn({ then: steps })).revision;
}

async function firstBatch(client: Client, startRevision: bigint, fragments: boolean): Promise<WatchBatch> {
  for await (const batch of client.watch({ prefix: 'big/' }, { fragments, prevKv: true, startRevision }))
    return batch;
  throw new Error('the watch ended');
}

onEachBackend('a revision larger than a message', (backend) => {
  for (const fragments of [false, true]) {
    it(`comes as one batch, ${fragments ? 'cut by the server' : 'in one message'}`, async () => {
      await using client = backend.client();
      await writeAll(client);
      const revision = await writeAll(client);
      const batch = await firstBatch(client, revision, fragments);
      assert.equal(batch.events.length, KEYS);
      assert.ok(batch.events.every((event) => event.prevKv?.value.length === VALUE.length));
      assert.equal(batch.nextRevision, revision + 1n);
      await client.kv.delete({ prefix: 'big/' });
    });
  }
});
