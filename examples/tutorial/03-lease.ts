// Leases: a key that is bound to one goes when nobody keeps the lease alive. (TUTORIAL_TTL: its seconds.)
import { Client, ConclaveError } from 'conclave';
import { etcdEndpoints } from './etcd.js';

const client = new Client({ endpoints: await etcdEndpoints() });
const key = 'tutorial/lease/worker';

const lease = await client.lease.grant(Number(process.env['TUTORIAL_TTL'] ?? 10));
console.log(`granted for ${lease.ttlSeconds} s`);
await client.kv.put(key, 'alive', { leaseId: lease.id });
const life = await client.lease.timeToLive(lease.id, { keys: true });
console.log(`${life.ttlSeconds} of ${life.grantedTtlSeconds} s are left, for ${life.keys.join(' ')}`);
console.log(`it is in the list of leases: ${(await client.lease.list()).includes(lease.id)}`);

await client.lease.keepAliveOnce(lease.id);
console.log('kept alive once');
// "For ever": a renewal after each third of its time, for as long as somebody is in this loop.
let renewals = 0;
for await (const renewed of client.lease.keepAlive(lease.id)) {
  console.log(`kept alive: ${renewed.ttlSeconds} s again`);
  if (++renewals === 3) break;
}

// Nobody keeps it alive any more.
const since = performance.now();
for await (const { events } of client.watch(key)) {
  if (events.some(({ type }) => type === 'delete')) break;
}
const seconds = (performance.now() - since) / 1000;
console.log(`the key has expired, about ${Math.round(seconds)} s later`);
const gone = await client.lease.timeToLive(lease.id);
console.log(`time to live of a lease that is gone: ${gone.ttlSeconds}`);
try {
  await client.kv.put(key, 'late', { leaseId: lease.id });
} catch (error) {
  if (error instanceof ConclaveError) console.log(`a put under it: ${error.code}`);
}

const other = await client.lease.grant(60);
await client.kv.put(key, 'for a minute', { leaseId: other.id });
await client.lease.revoke(other.id);
console.log(`revoked: the key is ${(await client.kv.get(key)) === undefined ? 'gone at once' : 'there'}`);
await client.close();
