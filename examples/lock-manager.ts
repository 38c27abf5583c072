// The browser's Web Locks, across machines.
import { Client, LockManager, Session } from 'conclave';
import { EmbeddedServer } from 'conclave/embedded';

const given = process.env['CONCLAVE_ENDPOINTS']?.split(',');
const server = given === undefined ? await EmbeddedServer.start() : undefined;
const client = new Client({ endpoints: given ?? [server?.endpoint ?? ''] });

const session = await Session.open(client, { label: 'example', ttlSeconds: 5 });
const locks = new LockManager(session, { prefix: 'example/locks' });

const total = await locks.request('report', { mode: 'shared' }, async (lock) => {
  const { held } = await locks.query();
  console.log(`${lock.name} is held ${held[0]?.mode} by ${held[0]?.label}`);
  const other = await locks.request('report', { ifAvailable: true }, (exclusive) => exclusive);
  console.log(`an exclusive lock is ${other === null ? 'not available' : 'available'}`);
  return 42;
});
console.log(`the report says ${total}`);
await session.close();
await client.close();
await server?.close();
