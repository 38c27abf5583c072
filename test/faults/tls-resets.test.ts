// Connections of TLS that are reset while something is being written: Node does not notice some of them by itself.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Client, op } from 'conclave';
import { FaultProxy, startEtcd } from 'conclave/testing';

import { further, load } from '../support/load.js';

/** About one in thirty is not noticed, without help: for 8 s. */
const CUTS = 60;
/** Longer than any wait between two tries, and than a busy machine takes. */
const LONGEST_MS = 4000;

test('resets under load are noticed: no call waits for gRPC’s pings', async (t) => {
  const etcd = await startEtcd({ clientCertAuth: true, tls: true });
  t.after(() => etcd.close());
  await using proxy = await FaultProxy.start(etcd.endpoint);
  await using client = new Client({ endpoints: proxy.endpoint, timeoutMs: 20_000, tls: etcd.tls });
  let longestMs = 0;
  const calls = load(async (name) => {
    const startedAt = performance.now();
    await client.kv.txn({ then: [op.get(name)] });
    longestMs = Math.max(longestMs, performance.now() - startedAt);
  });
  for (let cuts = 0; cuts < CUTS; cuts++) {
    await further(calls);
    proxy.cut();
  }
  await calls.stop();
  assert.ok(longestMs < LONGEST_MS, `${longestMs} ms`);
});
