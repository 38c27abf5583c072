// One process migrates while all others wait; if it dies half-way, they are told.
import { Barrier, Client, hasCode, Session } from 'conclave';
import { EmbeddedServer } from 'conclave/embedded';

const given = process.env['CONCLAVE_ENDPOINTS']?.split(',');
const server = given === undefined ? await EmbeddedServer.start() : undefined;
const client = new Client({ endpoints: given ?? [server?.endpoint ?? ''] });

const migrator = await Session.open(client, { ttlSeconds: 5 });
const barrier = new Barrier(migrator, 'example/migration');
await barrier.hold();
const workers = ['ann', 'bob'].map(async (name) => {
  await new Barrier(client, 'example/migration').wait({ timeoutMs: 10_000 });
  console.log(`${name} works on the new tables`);
});
console.log('migrating');
await barrier.release();
await Promise.all(workers);

// The next migration goes wrong: its process dies, which ends its session.
await barrier.hold();
await migrator.close();
await new Barrier(client, 'example/migration').wait().catch((error: unknown) => {
  console.log(hasCode(error, 'BROKEN') ? 'the migration died half-way: nobody goes on' : error);
});
await new Barrier(client, 'example/migration').reset();
await client.close();
await server?.close();
