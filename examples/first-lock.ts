import { Client, Mutex, op, Session } from 'conclave';

const client = new Client({ endpoints: ['http://127.0.0.1:2379'] });
const session = await Session.open(client, { ttlSeconds: 10 }); // a lease, kept alive

const mutex = new Mutex(session, 'orders/42');
const lock = await mutex.lock({ timeoutMs: 5000 });
try {
  // Commits only while this very hold lasts, even if this process was frozen in between.
  await lock.txn({ then: [op.put('orders/42/state', `done, token ${lock.fencingToken}`)] });
} finally {
  await lock.unlock();
}
await session.close();
await client.close();
