// The name of an endpoint that gets another address: a pod that was rescheduled.
import assert from 'node:assert/strict';
import dns from 'node:dns';
import { mock, test } from 'node:test';

import { Client } from 'conclave';
import { EmbeddedServer } from 'conclave/embedded';

test('a name that leads to another address is looked up anew when the connection fails', async (t) => {
  const host = { address: '127.0.0.1', looks: 0 };
  const looked = (): number => host.looks;
  const { lookup } = dns.promises;
  const lookUp = (name: string, options: dns.LookupAllOptions): Promise<dns.LookupAddress[]> => {
    if (name !== 'etcd-0.example') return lookup(name, options);
    host.looks += 1;
    return Promise.resolve([{ address: host.address, family: 4 }]);
  };
  mock.method(dns.promises, 'lookup', lookUp);
  t.after(() => mock.restoreAll());
  await using first = await EmbeddedServer.start();
  const { port } = new URL(first.endpoint);
  await using client = new Client({ endpoints: [`http://etcd-0.example:${port}`] });
  await client.kv.put('k', 'here');
  assert.equal(looked(), 1);
  await first.close();
  await using second = await EmbeddedServer.start({ host: '127.0.0.2', port: Number(port) });
  assert.ok(second.endpoint.includes(port));
  host.address = '127.0.0.2';
  // gRPC asks again no sooner than after 30 s, if it is not told otherwise.
  assert.equal(await client.kv.get('k', { timeoutMs: 15_000 }), undefined);
  assert.ok(looked() > 1);
});
