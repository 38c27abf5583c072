// A line beside a queue of the same name: what the queue keeps is neither read nor taken for somebody in line.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { test } from 'node:test';

import { Client, Election, JobQueue, MultiMutex, Mutex, RWLock, Semaphore, Session } from 'conclave';
import { onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';

const JOBS = 40;
const BYTES = 50_000;

/** A way to the server that counts what the server says. */
async function counted(endpoint: string) {
  const { hostname, port } = new URL(endpoint);
  const sockets = new Set<net.Socket>();
  let bytes = 0;
  const relay = net.createServer((near) => {
    const far = net.connect(Number(port), hostname);
    for (const socket of [near, far]) sockets.add(socket.on('error', () => undefined));
    far.on('data', (chunk) => (bytes += chunk.length));
    near.pipe(far).pipe(near);
  });
  relay.listen(0, '127.0.0.1');
  await once(relay, 'listening');
  const address = relay.address() as net.AddressInfo;
  return {
    endpoint: `http://127.0.0.1:${String(address.port)}`,
    get bytes() {
      return bytes;
    },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      relay.close();
      await once(relay, 'close');
    },
  };
}

onEachBackend('a line beside a queue of the same name', (backend) => {
  test('is read, waited for and left without reading the queue', async () => {
    await using way = await counted(backend.endpoints[0] ?? '');
    const client = backend.client();
    await using near = new Client({ endpoints: way.endpoint });
    await using holding = await Session.open(client);
    await using waiting = await Session.open(near);
    await using queue = new JobQueue<string>(holding, 'x/mails');
    const jobs = await queue.pushMany(Array.from({ length: JOBS }, () => ({ data: 'x'.repeat(BYTES) })));

    const before = way.bytes;
    const mutex = await new Mutex(holding, 'x/mails').lock();
    const next = new Mutex(waiting, 'x/mails').lock();
    await until(async () => (await new Mutex(waiting, 'x/mails').inspect()).waiters.length === 1);
    assert.equal(await new Mutex(waiting, 'x/mails').tryLock(), undefined);
    await mutex.unlock();
    await (await next).unlock();
    await (await new RWLock(waiting, 'x/mails').writeLock()).unlock();
    await (await new Semaphore(waiting, 'x/mails', { limit: 2 }).acquire()).release();
    const several = new MultiMutex(waiting, ['x/mails', 'x/other']);
    await (await several.tryLock())?.unlock();
    assert.deepEqual((await several.inspect()).get('x/mails')?.holders, []);
    const election = new Election(waiting, 'x/mails');
    const leadership = await election.campaign('me');
    assert.equal((await election.leader())?.string(), 'me');
    await leadership.resign();
    assert.ok(way.bytes - before < BYTES, 'not one job was read');

    assert.equal((await queue.counts()).waiting, JOBS);
    assert.equal(jobs.length, JOBS);
    await client.kv.delete({ prefix: 'x/' });
  });
});
