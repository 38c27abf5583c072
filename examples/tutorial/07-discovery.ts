// Services: each instance registers under a lease; who needs one reads the list and follows it.
import { Client, Session } from 'conclave';
import { etcdEndpoints } from './etcd.js';

const client = new Client({ endpoints: await etcdEndpoints() });
const prefix = 'tutorial/services/mail/';

/** A session keeps its lease alive for as long as this process lives. */
async function register(name: string, address: string): Promise<Session> {
  const session = await Session.open(client, { label: name, ttlSeconds: 2 });
  await client.kv.put(`${prefix}${name}`, address, { leaseId: session.leaseId });
  return session;
}

const first = await register('first', '10.0.0.1:25');
const { kvs, revision } = await client.kv.range({ prefix });
const instances = new Map(kvs.map((kv) => [kv.key, kv.string()]));
const stop = new AbortController();

async function discover(): Promise<void> {
  const show = (): void =>
    console.log(`mail is served at: ${[...instances.values()].join(' ') || 'nowhere'}`);
  show();
  const changes = client.watch({ prefix }, { signal: stop.signal, startRevision: revision + 1n });
  for await (const { events } of changes) {
    for (const { kv, type } of events) {
      if (type === 'put') instances.set(kv.key, kv.string());
      else instances.delete(kv.key);
      show();
    }
    if (instances.size === 0) return;
  }
}

const discovering = discover();
const second = await register('second', '10.0.0.2:25');
await first.close(); // it says goodbye: its lease is revoked, and its key gone at once
second.orphan(); // as if its process had died: nobody keeps the lease alive, and the key goes when it has run out
await discovering;
await client.close();
