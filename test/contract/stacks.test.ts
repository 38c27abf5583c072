// The stack of an error names who awaited the call: without that, nobody finds it in a large program.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Client, hasCode, op } from 'conclave';

import { onEachBackend } from '../support/backends.js';

onEachBackend('the stack of an error', (backend) => {
  test('names the function that awaited the call, alone or among others', async () => {
    const client = backend.client({ batch: 'reads' });
    await using nowhere = new Client({ endpoints: ['http://127.0.0.1:1'], timeoutMs: 200 });
    const calls = {
      askCompact: async () => {
        await client.kv.compact(1_000_000n);
      },
      askDelete: async () => {
        await nowhere.kv.delete('stacks/x');
      },
      askGet: async () => {
        await client.kv.get('stacks/x', { revision: 1_000_000n });
      },
      askGrant: async () => {
        await nowhere.lease.grant(5);
      },
      askKeepAlive: async () => {
        await client.lease.keepAliveOnce(99n);
      },
      askNowhere: async () => {
        await nowhere.kv.put('stacks/x', '');
      },
      askPut: async () => {
        await client.kv.put('stacks/x', '', { leaseId: 99n });
      },
      askRange: async () => {
        await client.kv.range({ prefix: 'stacks/' }, { revision: 1_000_000n });
      },
      askScan: async () => {
        for await (const kv of client.kv.scan({ prefix: 'stacks/' }, { revision: 1_000_000n })) assert.ok(kv);
      },
      askTxn: async () => {
        await client.kv.txn({ then: [op.put('stacks/x', '', { leaseId: 99n })] });
      },
      askWatch: async () => {
        for await (const batch of client.watch('stacks/x', { startRevision: 1n })) assert.ok(batch);
      },
    };
    await client.kv.put('stacks/x', '');
    const { revision } = await client.kv.put('stacks/x', '');
    await client.kv.compact(revision);
    await Promise.all(
      Object.entries(calls).map(async ([name, call]) => {
        await assert.rejects(call(), (error) => {
          assert.ok(hasCode(error), String(error));
          assert.match(error.stack ?? '', new RegExp(`at async (Object\\.)?${name} `), error.stack);
          return true;
        });
      }),
    );
    await client.kv.delete('stacks/x');
  });
});
