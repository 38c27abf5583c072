// The roles of docs/production.md are enough: every primitive works for a user who has them, and looking needs no more than said.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { it } from 'node:test';
import { fileURLToPath } from 'node:url';

import { Client, type Conclave, connect, Election, hasCode, LockManager, Mutex, op, stm } from 'conclave';
import { startEtcd } from 'conclave/testing';

const page = fileURLToPath(new URL('../../../docs/production.md', import.meta.url));
const root = { password: 'secret', username: 'root' };
const ours = (username: string) => ({ password: 'pass', username });

/** Does what the page's lines for etcdctl do, with users for the roles to be granted to. */
async function follow(client: Client, text: string): Promise<string[]> {
  const users = new Set<string>();
  for (const [, what = '', rest = ''] of text.matchAll(/^etcdctl ((?:role|user) \S+) (.*)$/gm)) {
    const [first = '', second = '', third, fourth] = rest.split(' ');
    if (what === 'role add') await client.auth.roleAdd(first);
    else if (what === 'role grant-permission') {
      assert.ok((second === 'read' || second === 'readwrite') && third && fourth, rest);
      const range = third === '--prefix=true' ? { prefix: fourth } : { end: fourth, start: third };
      await client.auth.roleGrantPermission(first, second, range);
    } else {
      assert.equal(what, 'user grant-role');
      users.add(first);
      await client.auth.userAdd(first, 'pass');
      await client.auth.userGrantRole(first, second);
    }
  }
  return [...users];
}

/** All of them once, below `shop/`. */
async function useAll(endpoint: string): Promise<void> {
  await using conclave = await connect({ auth: ours('worker'), endpoints: [endpoint], ttlSeconds: 5 });
  await conclave.mutex('shop/mutex').run(async (lock) => {
    await lock.txn({ then: [op.put('shop/state', 'x')] });
  });
  await conclave.multiMutex(['shop/a', 'shop/b']).run(() => undefined);
  await conclave.rwLock('shop/rw').write(() => undefined);
  const reading = await conclave.rwLock('shop/rw').readLock();
  await (await reading.upgrade()).unlock();
  await conclave.semaphore('shop/semaphore', { limit: 2 }).run(() => undefined);
  await new LockManager(conclave, { prefix: 'shop/locks/' }).request('x', () => undefined);
  const leadership = await conclave.election('shop/election').campaign('worker');
  await leadership.proclaim('worker, still');
  await leadership.resign();
  await conclave.barrier('shop/barrier').hold();
  await conclave.barrier('shop/barrier').reset();
  const double = conclave.doubleBarrier('shop/double', { count: 1 });
  await double.enter();
  await double.leave();
  const latch = conclave.latch('shop/latch', { count: 1 });
  await latch.countDown();
  await latch.wait();
  await stm(conclave.client, async (tx) => {
    tx.put('shop/count', String(Number((await tx.get('shop/count'))?.string() ?? 0) + 1));
  });
  const queue = conclave.queue<string>('shop/queue');
  await queue.push('now');
  await queue.push('later', { delayMs: 50 });
  const done = new Set<string>();
  const worker = queue.process(({ data }) => void done.add(data));
  await queue.idle();
  await worker.stop();
  await queue.close();
  assert.deepEqual([...done].sort(), ['later', 'now']);
}

it('production.md: its roles are enough for every primitive, and for who only looks', async () => {
  await using etcd = await startEtcd();
  await using client = new Client({ auth: root, endpoints: etcd.endpoints });
  const users = await follow(client, await readFile(page, 'utf8'));
  assert.deepEqual(users, ['worker', 'watcher']);
  await client.auth.userAdd('root', root.password);
  await client.auth.userGrantRole('root', 'root');
  await client.auth.enable();
  await useAll(etcd.endpoint);

  await using looking = await connect({ auth: ours('watcher'), endpoints: etcd.endpoints });
  await using working = await connect({ auth: ours('worker'), endpoints: etcd.endpoints });
  const lock = await working.mutex('shop/mutex').lock();
  const leadership = await working.election('shop/election').campaign('worker');
  assert.equal((await new Mutex(looking, 'shop/mutex').inspect()).holders.length, 1);
  for await (const leader of new Election(looking, 'shop/election').observe()) {
    assert.equal(leader?.string(), 'worker');
    break;
  }
  await assert.rejects(looking.mutex('shop/other').lock(), (error) => hasCode(error, 'PERMISSION_DENIED'));
  await assert.rejects(working.mutex('other').lock(), (error) => hasCode(error, 'PERMISSION_DENIED'));
  await lock.unlock();
  await leadership.resign();
});

/** What a user with one role alone can do with the primitives of the name `orders`. */
const ALONE: Readonly<Record<string, Readonly<Record<string, (conclave: Conclave) => Promise<unknown>>>>> = {
  'conclave-lock': {
    async mutex(conclave) {
      await conclave.mutex('orders').run((lock) => lock.txn({ then: [op.get('orders/x')] }));
      await conclave.mutex('orders').inspect();
    },
    multiMutex: (conclave) => conclave.multiMutex(['orders']).run(() => undefined),
    async barrier(conclave) {
      await conclave.barrier('orders').hold();
      await conclave.barrier('orders').reset();
      await conclave.barrier('orders').wait();
    },
    async doubleBarrier(conclave) {
      const barrier = conclave.doubleBarrier('orders', { count: 1 });
      await barrier.enter();
      await barrier.leave();
    },
    async latch(conclave) {
      const latch = conclave.latch('orders', { count: 1 });
      await latch.countDown();
      await latch.wait();
    },
    async queue(conclave) {
      await using queue = conclave.queue('orders');
      await queue.push('now');
      await queue.push('later', { delayMs: 50 });
      const worker = queue.process(() => undefined);
      await queue.idle();
      await worker.stop();
      await queue.counts();
    },
    async lockManager(conclave) {
      await conclave.locks('orders/').request('x', () => undefined);
      await conclave.locks('orders/').query();
    },
  },
  'conclave-shared': {
    async rwLock(conclave) {
      const lock = conclave.rwLock('orders');
      await lock.write(() => undefined);
      await (await (await lock.readLock()).upgrade()).unlock();
      await lock.inspect();
    },
    async semaphore(conclave) {
      const semaphore = conclave.semaphore('orders', { limit: 2 });
      await semaphore.run(() => undefined);
      await semaphore.inspect();
    },
    async election(conclave) {
      const election = conclave.election('orders');
      const leadership = await election.campaign('worker');
      await leadership.proclaim('worker, still');
      await election.inspect();
      await leadership.resign();
    },
  },
  'conclave-stm': {
    stm: (conclave) =>
      stm(conclave.client, async (tx) => {
        tx.put('orders/count', String(Number((await tx.get('orders/count'))?.string() ?? 0) + 1));
      }),
  },
};

it('production.md: the role of one primitive is enough for it, and ends at its name', async () => {
  await using etcd = await startEtcd();
  await using client = new Client({ auth: root, endpoints: etcd.endpoints });
  await follow(client, await readFile(page, 'utf8'));
  for (const role of Object.keys(ALONE)) {
    await client.auth.userAdd(role, 'pass');
    await client.auth.userGrantRole(role, role);
  }
  await client.auth.userAdd('root', root.password);
  await client.auth.userGrantRole('root', 'root');
  await client.auth.enable();
  for (const [role, uses] of Object.entries(ALONE)) {
    await using conclave = await connect({ auth: ours(role), endpoints: etcd.endpoints, ttlSeconds: 5 });
    for (const [what, use] of Object.entries(uses))
      await use(conclave).catch((error: unknown) => assert.fail(`${what}: ${String(error)}`));
    for (const other of ['orders2', 'order'])
      await assert.rejects(conclave.mutex(other).lock(), (error) => hasCode(error, 'PERMISSION_DENIED'));
  }
});
