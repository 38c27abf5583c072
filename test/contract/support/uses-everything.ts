// Run by client.test.ts: uses all that a client offers, closes it, and must then end by itself.
import assert from 'node:assert/strict';
import { Client, Election, Mutex, Session } from 'conclave';

const client = new Client({ endpoints: process.argv[2] ?? '' });
const session = await Session.open(client, { ttlSeconds: 60 });
const lock = await new Mutex(session, 'child').lock();
const waiting = new Mutex(session, 'child').lock().catch((error: unknown) => error);
const election = new Election(session, 'child-election');
await election.campaign('child');
const leaders = election.observe();
await leaders.next();
const watch = client.watch({ prefix: '' });
await watch.created;
const renewals = client.lease.keepAlive(session.leaseId);
await renewals.next();
const pending = [leaders.next(), watch.next(), renewals.next()].map((each) =>
  each.catch((error: unknown) => error),
);
assert.ok(lock.held);
if (process.argv[3] === 'session') await session.close();
await client.close();
await Promise.all([...pending, waiting]);
process.stdout.write('closed\n');
