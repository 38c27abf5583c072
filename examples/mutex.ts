// Two workers add to one total, one at a time; each write commits only while its lock is held.
import { Client, Mutex, op, Session } from 'conclave';
import { EmbeddedServer } from 'conclave/embedded';

const given = process.env['CONCLAVE_ENDPOINTS']?.split(',');
const server = given === undefined ? await EmbeddedServer.start() : undefined;
const client = new Client({ endpoints: given ?? [server?.endpoint ?? ''] });

async function worker(name: string): Promise<void> {
  await using session = await Session.open(client, { label: name, ttlSeconds: 5 });
  const mutex = new Mutex(session, 'example/total');
  for (let round = 0; round < 2; round++) {
    await mutex.run(async (lock) => {
      const before = await client.kv.get('example/sum');
      const sum = Number(before?.string() ?? 0) + 10;
      await lock.txn({ then: [op.put('example/sum', String(sum))] });
      console.log(`${name} added 10`);
    });
  }
}

await Promise.all(['ann', 'bob'].map(worker));
console.log(`the sum is ${(await client.kv.get('example/sum'))?.string()}`);
await client.kv.delete('example/sum');
await client.close();
await server?.close();
