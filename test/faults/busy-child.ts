// A process with all kinds of work under way on two endpoints, which closes its client when told so, and must then end.
import { once } from 'node:events';

import { Client, Election, Mutex, Session } from 'conclave';

const client = new Client({ endpoints: process.argv.slice(2) });
const ignore = (): undefined => undefined;

const session = await Session.open(client, { ttlSeconds: 2 });
const other = await Session.open(client, { ttlSeconds: 2 });
await new Mutex(session, 'busy-lock').lock();
void new Mutex(other, 'busy-lock').lock().catch(ignore);
void new Mutex(other, 'busy-lock').lock({ timeoutMs: 60_000 }).catch(ignore);
await new Election(session, 'busy-election').campaign('x');
void new Election(other, 'busy-election').campaign('y').catch(ignore);
const observed = new Election(session, 'busy-election').observe();
await observed.next();
void observed.next().catch(ignore);
const watch = client.watch({ prefix: 'busy/' });
await watch.created;
void watch.next().catch(ignore);
const terms = client.lease.keepAlive(session.leaseId);
await terms.next();
void terms.next().catch(ignore);
console.log('busy');

await once(process.stdin, 'data');
process.stdin.destroy();
void client.kv.get('busy/a').catch(ignore);
void client.kv.put('busy/a', 'x').catch(ignore);
void session.close().catch(ignore);
await client.close();
console.log('closed');
