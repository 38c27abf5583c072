// A report is written once all imports are done.
import { Client, Latch } from 'conclave';
import { EmbeddedServer } from 'conclave/embedded';

const given = process.env['CONCLAVE_ENDPOINTS']?.split(',');
const server = given === undefined ? await EmbeddedServer.start() : undefined;
const client = new Client({ endpoints: given ?? [server?.endpoint ?? ''] });

const files = ['north.csv', 'south.csv', 'west.csv'];
const latch = new Latch(client, 'example/imports', { count: files.length });
const report = latch.wait({ timeoutMs: 10_000 });
await Promise.all(
  files.map(async (file) => {
    console.log(`imported ${file}`);
    await new Latch(client, 'example/imports', { count: files.length }).countDown();
  }),
);
await report;
console.log(`all imports are done, ${await latch.count()} remain`);
await latch.delete();
await client.close();
await server?.close();
