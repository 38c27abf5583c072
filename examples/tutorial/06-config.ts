// Configuration that is reloaded while a program runs: read it once, then follow it from that revision.
import { Client } from 'conclave';
import { etcdEndpoints } from './etcd.js';

const client = new Client({ endpoints: await etcdEndpoints() });
const prefix = 'tutorial/config/';
await client.kv.put(`${prefix}level`, 'info');
await client.kv.put(`${prefix}workers`, '4');

const config = new Map<string, string>();
const { kvs, revision } = await client.kv.range({ prefix });
for (const kv of kvs) config.set(kv.key.slice(prefix.length), kv.string());
console.log('at first:', Object.fromEntries(config));

// Somebody changes it, perhaps with etcdctl; here, one change after each reload.
const edits = [
  () => client.kv.put(`${prefix}level`, 'debug'),
  () => client.kv.put(`${prefix}level`, 'warn'),
  () => client.kv.delete(`${prefix}workers`),
];
await edits.shift()?.();

// `relist`: if this program was away for so long that history is gone, a snapshot of all comes instead.
const changes = client.watch({ prefix }, { onCompacted: 'relist', startRevision: revision + 1n });
for await (const { events, snapshot } of changes) {
  if (snapshot !== undefined) config.clear();
  for (const kv of snapshot ?? []) config.set(kv.key.slice(prefix.length), kv.string());
  for (const { kv, type } of events) {
    const name = kv.key.slice(prefix.length);
    if (type === 'put') config.set(name, kv.string());
    else config.delete(name);
  }
  console.log('reloaded:', Object.fromEntries(config));
  const edit = edits.shift();
  if (edit === undefined) break;
  await edit();
}
await client.kv.delete({ prefix });
await client.close();
