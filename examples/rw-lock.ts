// Readers share the price list; a writer changes it alone, and reads on without letting another writer in between.
import { Client, op, RWLock, Session } from 'conclave';
import { EmbeddedServer } from 'conclave/embedded';

const given = process.env['CONCLAVE_ENDPOINTS']?.split(',');
const server = given === undefined ? await EmbeddedServer.start() : undefined;
const client = new Client({ endpoints: given ?? [server?.endpoint ?? ''] });

const session = await Session.open(client, { ttlSeconds: 5 });
const lock = new RWLock(session, 'example/prices');

const write = await lock.writeLock();
await write.txn({ then: [op.put('example/price', '10')] });
const read = await write.downgrade(); // no gap: nobody else has written since
await Promise.all(
  ['ann', 'bob'].map((name) =>
    lock.read(async () => {
      console.log(`${name} reads ${(await client.kv.get('example/price'))?.string()}`);
    }),
  ),
);

const upgraded = await read.upgrade({ timeoutMs: 5000 }); // waits until it is the only reader
await upgraded.txn({ then: [op.put('example/price', '12')] });
await upgraded.unlock();
console.log(`the price is ${(await client.kv.get('example/price'))?.string()}`);
await client.kv.delete('example/price');
await session.close();
await client.close();
await server?.close();
