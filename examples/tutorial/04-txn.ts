// Transactions: if all of this holds, then do that, else do something else; all at one revision.
import { Client, compare, op } from 'conclave';
import { etcdEndpoints } from './etcd.js';

const client = new Client({ endpoints: await etcdEndpoints() });
const key = 'tutorial/txn/name';

for (const name of ['ann', 'bob']) {
  const answer = await client.kv.txn({
    if: [compare.version(key, '=', 0n)], // version 0: it was never written, or it was deleted
    then: [op.put(key, name), op.get(key)],
    else: [op.get(key)],
  });
  const read = answer.responses.find(({ type }) => type === 'get');
  const value = read?.type === 'get' ? read.kvs[0]?.string() : undefined;
  console.log(`${name}: ${answer.succeeded ? 'then' : 'else'}: the name is ${value}`);
}

// Change it only if nobody else did since we read it.
const seen = await client.kv.get(key);
for (const value of ['cyd', 'dan']) {
  const { succeeded } = await client.kv.txn({
    if: [compare.modRevision(key, '=', seen?.modRevision ?? 0n)],
    then: [op.put(key, value)],
  });
  console.log(`to ${value}, if it is as it was read: ${succeeded ? 'done' : 'refused'}`);
}
await client.kv.delete(key);
await client.close();
