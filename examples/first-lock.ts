import { connect, op } from 'conclave';

const conclave = await connect({ endpoints: ['http://127.0.0.1:2379'], ttlSeconds: 10 });

const lock = await conclave.mutex('orders/42').lock({ timeoutMs: 5000 });
try {
  // Commits only while this very hold lasts, even if this process was frozen in between.
  await lock.txn({ then: [op.put('orders/42/state', `done, token ${lock.fencingToken}`)] });
} finally {
  await lock.unlock();
}
await conclave.close();
