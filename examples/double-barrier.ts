// Three parties compute step by step; none begins a step before all have ended the one before.
import { Client, DoubleBarrier, Session } from 'conclave';
import { EmbeddedServer } from 'conclave/embedded';

const given = process.env['CONCLAVE_ENDPOINTS']?.split(',');
const server = given === undefined ? await EmbeddedServer.start() : undefined;
const client = new Client({ endpoints: given ?? [server?.endpoint ?? ''] });

async function party(name: string): Promise<void> {
  await using session = await Session.open(client, { ttlSeconds: 5, label: name });
  const barrier = new DoubleBarrier(session, 'example/simulation', { count: 3 });
  for (const step of [1, 2]) {
    await barrier.enter({ timeoutMs: 10_000 });
    console.log(`step ${step}: ${name}`);
    await barrier.leave({ timeoutMs: 10_000 });
  }
}

await Promise.all(['ann', 'bob', 'cyd'].map(party));
await client.close();
await server?.close();
