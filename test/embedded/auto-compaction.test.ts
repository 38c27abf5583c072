// The embedded server's history does not grow for ever.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { compactByItself, DEFAULT_RETENTION } from '#conclave/embedded/store/auto-compaction.js';
import { Store } from '#conclave/embedded/store/store.js';
import { LeaseTable } from '#conclave/embedded/lease/lease-table.js';

import { Client, hasCode } from 'conclave';
import { EmbeddedServer, type EmbeddedServerOptions } from 'conclave/embedded';
import { ManualClock } from 'conclave/testing';

/** Writes `count` times, and resolves with the last revision. */
async function write(client: Client, count: number): Promise<bigint> {
  let revision = 0n;
  for (let at = 0; at < count; at++) ({ revision } = await client.kv.put('a', String(at)));
  return revision;
}

async function isThere(client: Client, revision: bigint): Promise<boolean> {
  try {
    await client.kv.get('a', { revision });
    return true;
  } catch (error) {
    assert.ok(hasCode(error, 'COMPACTED'), String(error));
    return false;
  }
}

async function world(options: EmbeddedServerOptions) {
  const clock = new ManualClock();
  const server = await EmbeddedServer.start({ ...options, clock });
  const client = new Client({ endpoints: [server.endpoint] });
  const end = async (): Promise<void> => {
    await client.close();
    await server.close();
  };
  return { client, clock, end };
}

test('so many revisions are kept, and a tenth more at most', async () => {
  const { client, clock, end } = await world({ autoCompaction: { retentionRevisions: 100 } });
  const isKept = (revisions: bigint[]): Promise<boolean[]> =>
    Promise.all(revisions.map((revision) => isThere(client, revision)));
  const first = await write(client, 100);
  assert.ok(await isThere(client, 2n));
  const last = await write(client, 50);
  assert.deepEqual(await isKept([last - 111n, last - 100n]), [false, true]);
  await clock.advance(3_600_000);
  assert.deepEqual(await isKept([last - 100n]), [true], 'nothing was written since');
  await client.kv.compact(last - 5n);
  const later = await write(client, 300);
  assert.deepEqual(await isKept([first, later - 111n, later - 100n]), [false, false, true]);
  await end();
});

test('what is younger than so long is kept, and what is older by a tenth is not', async () => {
  const { client, clock, end } = await world({ autoCompaction: { retentionMs: 60_000 } });
  const old = await write(client, 5);
  await clock.advance(6000);
  const young = await write(client, 5);
  for (let tenths = 0; tenths < 9; tenths++) await clock.advance(6000);
  assert.ok(await isThere(client, old - 1n), 'it is a minute old at most');
  await clock.advance(6000);
  assert.deepEqual(
    [await isThere(client, old - 1n), await isThere(client, old), await isThere(client, young - 1n)],
    [false, true, true],
  );
  await end();
});

test('by default 100,000 revisions are kept, and all with false', async () => {
  const clock = new ManualClock();
  const store = new Store(new LeaseTable());
  const stop = compactByItself(store, clock, DEFAULT_RETENTION);
  const put = (): void =>
    store.write((batch) => {
      batch.put(Buffer.from('a'), Buffer.from('x'), 0n);
    });
  for (let at = 0; at < 100_500; at++) put();
  assert.equal(store.compactedRevision, -1n);
  for (let at = 0; at < 9600; at++) put();
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(store.compactedRevision, store.revision - 100_000n);
  stop();
  const { client, clock: other, end } = await world({ autoCompaction: false });
  await write(client, 5);
  await other.advance(3_600_000);
  assert.ok(await isThere(client, 2n));
  await end();
});

test('what is neither is refused', async () => {
  for (const autoCompaction of [
    {},
    { retentionMs: 1000, retentionRevisions: 5 },
    { retentionMs: 0 },
    { retentionRevisions: 0.5 },
    { retention: 5 },
  ])
    await assert.rejects(EmbeddedServer.start({ autoCompaction: autoCompaction as never }));
});
