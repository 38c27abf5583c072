// At most 3 units of work at a time in the whole fleet; the heavy job takes two.
import { Client, Semaphore, Session } from 'conclave';
import { EmbeddedServer } from 'conclave/embedded';

const given = process.env['CONCLAVE_ENDPOINTS']?.split(',');
const server = given === undefined ? await EmbeddedServer.start() : undefined;
const client = new Client({ endpoints: given ?? [server?.endpoint ?? ''] });

const session = await Session.open(client, { ttlSeconds: 5 });
const semaphore = new Semaphore(session, 'example/gpus', { limit: 3 });
let busy = 0;
let most = 0;

async function job(name: string, weight: number): Promise<void> {
  await semaphore.run(
    async () => {
      most = Math.max(most, (busy += weight));
      await client.kv.get('example/anything');
      busy -= weight;
      console.log(`${name} is done`);
    },
    { weight },
  );
}

await Promise.all([job('light 1', 1), job('heavy', 2), job('light 2', 1), job('light 3', 1)]);
console.log(`never more than 3 at a time: ${most <= 3}`);

await semaphore.resize(8); // for everybody, at once
const { limit } = await semaphore.inspect();
console.log(`now there are ${limit}`);
await semaphore.delete();
await session.close();
await client.close();
await server?.close();
