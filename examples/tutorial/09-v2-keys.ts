// The operations of etcd v2, for those who know them, on etcd v3: directories, TTL, compare, in-order keys, watchers.
import { Client } from 'conclave';
import { KeysAPI, KeysError } from 'conclave/keys';
import { etcdEndpoints } from './etcd.js';

const client = new Client({ endpoints: await etcdEndpoints() });
const keys = new KeysAPI(client, { prefix: 'tutorial/v2' });

const set = await keys.set('/config/color', 'blue');
console.log(`${set.action} ${set.node.key} = ${set.node.value}`);
const again = await keys.set('/config/color', 'green', { prevValue: 'blue' });
console.log(`${again.action}: ${again.prevNode?.value} became ${again.node.value}`);
for (const attempt of [
  () => keys.set('/config/color', 'red', { prevValue: 'blue' }),
  () => keys.create('/config/color', 'red'),
  () => keys.get('/nothing'),
  () => keys.delete('/config', { dir: true }),
]) {
  try {
    await attempt();
  } catch (error) {
    if (error instanceof KeysError) console.log(`error ${error.message}`);
  }
}

await keys.set('/config/session', 'x', { ttl: 60 });
const listed = await keys.get('/config', { recursive: true, sorted: true });
for (const node of listed.node.nodes ?? [])
  console.log(`in ${listed.node.key}: ${node.key}${node.ttl === undefined ? '' : `, for ${node.ttl} s`}`);

for (const work of ['one', 'two']) await keys.createInOrder('/queue', work);
const queue = await keys.get('/queue', { sorted: true });
console.log(`in order: ${(queue.node.nodes ?? []).map(({ value }) => value).join(' ')}`);

await using watcher = keys.watcher('/config', { afterIndex: listed.index, recursive: true });
await keys.delete('/config', { recursive: true });
const seen = await watcher.next();
console.log(`the watcher saw: ${seen.value?.action} ${seen.value?.node.key}`);
await keys.delete('/queue', { recursive: true });
await client.close();
