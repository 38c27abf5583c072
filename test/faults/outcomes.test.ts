// What is said of a write that etcd itself refuses in one way or another: never that it failed, when it is there.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { describe, test } from 'node:test';

import { Client, compare, hasCode, op } from 'conclave';
import { startEtcd } from 'conclave/testing';
import { provesNothingWritten } from '#conclave/errors/fates.js';
import { onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';
import { RPC, Scene, timed } from './scene.js';

onEachBackend('a guarded write whose lease is gone when it is sent again', (backend) => {
  for (const beside of ['another key', 'nothing', 'a deletion', 'a key of another lease'] as const) {
    test(`that writes ${beside} beside the key of its lease`, async (t) => {
      const scene = new Scene(t, backend);
      const proxy = await scene.proxy();
      const client = scene.client(proxy, { timeoutMs: 20_000 });
      const { id } = await scene.direct.lease.grant(60);
      const { id: other } = await scene.direct.lease.grant(60);
      const besides = {
        'a deletion': [op.delete('there')],
        'a key of another lease': [op.put('beside', 'x', { leaseId: other })],
        'another key': [op.put('beside', 'x')],
        nothing: [],
      };
      await client.kv.put('there', 'x');
      proxy.swallowNextReply({ method: RPC.txn });
      const spec = {
        if: [compare.missing('bound')],
        then: [op.put('bound', 'x', { leaseId: id }), ...besides[beside]],
      };
      const called = timed(client.kv.txn(spec, { idempotent: true }));
      using again = proxy.onCall(RPC.txn, 'holdRequest');
      await again.hit();
      await scene.direct.lease.revoke(id);
      again.release();
      const { error } = await called;
      if (beside === 'nothing') {
        assert.ok(hasCode(error, 'LEASE_NOT_FOUND') && provesNothingWritten(error), String(error));
        assert.equal(await scene.direct.kv.get('bound'), undefined);
      } else {
        assert.ok(hasCode(error, 'UNKNOWN_OUTCOME') && !provesNothingWritten(error), String(error));
        assert.ok(hasCode(error.cause, 'LEASE_NOT_FOUND'));
        assert.equal(error.key, 'bound');
      }
      await scene.direct.lease.revoke(other);
      await scene.direct.kv.delete('beside');
      await scene.direct.kv.delete('there');
    });
  }
});

test('a put that etcd has no space for is not said to have failed when it is there', async () => {
  await using etcd = await startEtcd({ args: ['--quota-backend-bytes=16777216'] });
  await using client = new Client({ batch: 'none', endpoints: etcd.endpoints, timeoutMs: 30_000 });
  const value = 'v'.repeat(300_000);
  const puts = await Promise.allSettled(
    Array.from({ length: 200 }, (_, at) => client.kv.put(`full/${at}`, value)),
  );
  // etcd counts what it has committed, a little later. Once the alarm is raised it applies nothing; the answer is the same.
  const last = await until(async () => (await timed(client.kv.put('full/more', value))).error, {
    timeoutMs: 30_000,
  });
  assert.ok(hasCode(last, 'UNKNOWN_OUTCOME') && hasCode(last.cause, 'NO_SPACE'), String(last));
  const { kvs } = await client.kv.range({ prefix: 'full/' }, { keysOnly: true });
  const there = new Set(kvs.map((kv) => kv.key));
  for (const [at, put] of puts.entries()) {
    const { reason } = put as { readonly reason?: unknown };
    if (reason === undefined) assert.ok(there.has(`full/${at}`));
    else assert.ok(!provesNothingWritten(reason) && hasCode(reason, 'UNKNOWN_OUTCOME'), `full/${at}`);
  }
});

describe('a member that never answers', () => {
  test('is not said to have been sent what is asked of it alone', async () => {
    const sockets = new Set<Socket>();
    const silent = createServer((socket) => sockets.add(socket.on('error', () => undefined)));
    silent.listen(0, '127.0.0.1');
    await once(silent, 'listening');
    const endpoint = `http://127.0.0.1:${(silent.address() as AddressInfo).port}`;
    try {
      await using client = new Client({ endpoints: endpoint });
      const { error } = await timed(client.maintenance.defragment({ endpoint, timeoutMs: 200 }));
      assert.ok(hasCode(error, 'UNAVAILABLE'), String(error));
      assert.ok(provesNothingWritten(error));
    } finally {
      for (const socket of sockets) socket.destroy();
      silent.close();
      await once(silent, 'close');
    }
  });
});

test('what only maintains a member renews a token that a restart has made void', async () => {
  const auth = { password: 'secret', username: 'root' };
  await using etcd = await startEtcd({ auth: { rootPassword: auth.password } });
  for (const call of ['hashKv', 'defragment'] as const) {
    await using client = new Client({ auth, endpoints: etcd.endpoints, timeoutMs: 20_000 });
    await client.maintenance[call]();
    await etcd.members[0]?.restart();
    await client.maintenance[call]();
  }
});
