// A test runner's fake timers, switched on after the package was loaded: what is connected lives on, what cannot connect says why.
import assert from 'node:assert/strict';
import { after, before, mock, test } from 'node:test';

import { Client, Mutex, Session } from 'conclave';
import { type EtcdCluster, startEtcd } from 'conclave/testing';

let etcd: EtcdCluster;
before(async () => {
  etcd = await startEtcd();
});
after(() => etcd.close());

test('with fake timers sessions are kept alive and calls answered; a new connection fails in time, and says why', async () => {
  await using client = new Client({ endpoints: [etcd.endpoint] });
  await using session = await Session.open(client, { ttlSeconds: 2 });
  await client.kv.put('fake/a', '1');
  const from = performance.now();
  mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'setImmediate'] });
  try {
    assert.equal((await client.kv.get('fake/a'))?.string(), '1');
    await new Mutex(session, 'fake/m').run(async () => {
      // Longer than the session's TTL.
      while (performance.now() - from < 3000) await client.kv.get('fake/a');
    });
    assert.equal(session.state, 'active');
    await using other = new Client({ endpoints: [etcd.endpoint], timeoutMs: 300 });
    await assert.rejects(other.kv.get('fake/a'), /fake timers are in place of the real ones/);
  } finally {
    mock.timers.reset();
  }
  await client.kv.delete('fake/a');
});
