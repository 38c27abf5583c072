// Clients of several members are spread over them, and again when one was away.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Client } from 'conclave';
import { FaultProxy } from 'conclave/testing';

import { onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';

const GET = '/etcdserverpb.KV/Range';
/** That none of so many is at home with one of three members does not happen in 100,000 runs. */
const CLIENTS = 30;

onEachBackend('clients of three members', (backend) => {
  test('go back to one that was away, and no call fails', async () => {
    const target = backend.endpoints[0] ?? '';
    const members = await Promise.all([0, 1, 2].map(() => FaultProxy.start(target, { grpc: true })));
    const endpoints = members.map(({ endpoint }) => endpoint);
    const clients = Array.from({ length: CLIENTS }, () => new Client({ batch: 'none', endpoints }));
    try {
      /** Whom the clients ask, one call each. */
      const asked = async (): Promise<number[]> => {
        const before = members.map((member) => member.requests(GET));
        await Promise.all(clients.map((client) => client.kv.get('spread')));
        return members.map((member, at) => member.requests(GET) - (before[at] ?? 0));
      };
      const isSpread = async (): Promise<boolean> => (await asked()).every((count) => count > 0);
      await until(isSpread, { timeoutMs: 20_000 });
      const [away] = members;
      await away?.refuse();
      away?.cut();
      await until(async () => (await asked())[0] === 0);
      for (const { endpoint } of clients)
        assert.ok(endpoints.includes(endpoint) && endpoint !== away?.endpoint);
      await away?.accept();
      await until(isSpread, { timeoutMs: 20_000 });
      assert.equal((await asked()).reduce((sum, count) => sum + count, 0) >= CLIENTS, true);
    } finally {
      await Promise.all(clients.map((client) => client.close()));
      await Promise.all(members.map((member) => member.close()));
    }
  });
});
