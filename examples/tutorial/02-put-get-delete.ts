// Keys and values: written, read one by one and by range, in pages, and deleted.
import { Client } from 'conclave';
import { etcdEndpoints } from './etcd.js';

const client = new Client({ endpoints: await etcdEndpoints() });
const { kv } = client;
const all = { prefix: 'tutorial/fruit/' };

await kv.put('tutorial/fruit/apple', 'red');
const put = await kv.put('tutorial/fruit/apple', 'green', { prevKv: true });
console.log(`put: before it was ${put.previous?.string()}`);

const apple = await kv.get('tutorial/fruit/apple');
console.log(`get: ${apple?.string()}, written ${apple?.version} times`);
console.log(`get of what is not there: ${(await kv.get('tutorial/fruit/stone'))?.string()}`);

for (const [name, color] of [
  ['banana', 'yellow'],
  ['cherry', 'red'],
  ['date', 'brown'],
])
  await kv.put(`tutorial/fruit/${name}`, color ?? '');
const names = (kvs: readonly { readonly key: string }[]): string =>
  kvs.map(({ key }) => key.slice('tutorial/fruit/'.length)).join(' ');

console.log(`prefix: ${names((await kv.range(all)).kvs)}`);
console.log(
  `from cherry on: ${names((await kv.range({ start: 'tutorial/fruit/cherry', end: 'tutorial/fruit0' })).kvs)}`,
);
// { from } has no end: it reads on through all keys of the store, so give it a limit.
const { kvs: next } = await kv.range({ from: 'tutorial/fruit/b' }, { limit: 1 });
console.log(`the first key from "b" on: ${names(next)}`);
const latest = await kv.range(all, { limit: 2, sort: { by: 'create', order: 'desc' } });
console.log(`the 2 that were made last: ${names(latest.kvs)}; of ${latest.count}, more: ${latest.more}`);
console.log(`how many: ${(await kv.range(all, { countOnly: true })).count}`);

// Pages by hand: all at the first page's revision, so that nobody's writes come between.
let start = 'tutorial/fruit/';
let revision: bigint | undefined;
for (let page = 1; ; page++) {
  const answer = await kv.range({ start, end: 'tutorial/fruit0' }, { limit: 3, revision });
  console.log(`page ${page}: ${names(answer.kvs)}`);
  const last = answer.kvs.at(-1);
  if (!answer.more || last === undefined) break;
  revision = answer.revision;
  start = `${last.key}\0`; // the very next key
}
// The same, done by the client.
const scanned = [];
for await (const each of kv.scan(all, { pageSize: 3 })) scanned.push(each);
console.log(`scan: ${names(scanned)}`);

const one = await kv.delete('tutorial/fruit/apple', { prevKv: true });
console.log(`deleted ${one.deleted}: ${names(one.previous)}`);
console.log(`deleted the rest: ${(await kv.delete(all)).deleted}`);
await client.close();
