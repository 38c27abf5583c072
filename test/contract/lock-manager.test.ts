import assert from 'node:assert/strict';
import { it } from 'node:test';

import { Election, LockManager, op, type LockRequestOptions, type ReadLock, RWLock } from 'conclave';

import { onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';
import { code, type World, worldsOf } from '../support/world.js';

onEachBackend('LockManager', (backend) => {
  const newWorld = worldsOf(backend, 'web');

  async function managers(count: number): Promise<World & { readonly locks: LockManager[] }> {
    const world = await newWorld(count);
    const locks = world.sessions.map((session) => new LockManager(session, { prefix: world.name }));
    return { ...world, locks };
  }

  /** Holds a lock until told to let go. */
  function hold(
    manager: LockManager,
    name: string,
    options: LockRequestOptions = {},
  ): { readonly granted: Promise<void>; readonly done: Promise<string>; letGo(): void } {
    let letGo = (): void => undefined;
    let granted = (): void => undefined;
    const isGranted = new Promise<void>((resolve) => (granted = resolve));
    const released = new Promise<void>((resolve) => (letGo = resolve));
    const done = manager.request(name, options, async () => {
      granted();
      await released;
      return `${name} done`;
    });
    return { done, granted: isGranted, letGo: () => letGo() };
  }

  it('holds the lock while the callback runs, passes on what it returns, and releases when it throws', async () => {
    await using world = await managers(2);
    const [a, b] = world.locks as [LockManager, LockManager];
    const result = await a.request('res', async (lock) => {
      assert.equal(lock.name, 'res');
      assert.equal(lock.mode, 'exclusive');
      assert.ok(lock.held && !lock.signal.aborted);
      assert.equal(await b.request('res', { ifAvailable: true }, (other) => other), null);
      assert.equal((await lock.txn({ then: [op.get('x')] })).succeeded, true);
      return 42;
    });
    assert.equal(result, 42);
    await assert.rejects(
      a.request('res', () => Promise.reject(new Error('work failed'))),
      /work failed/,
    );
    assert.equal(await b.request('res', { ifAvailable: true }, (lock) => lock?.mode), 'exclusive');
    assert.equal(await world.keys(), 0);
  });

  it('shares a shared lock, and grants in the order of arrival', async () => {
    await using world = await managers(2);
    const [a, b] = world.locks as [LockManager, LockManager];
    const first = hold(a, 'res', { mode: 'shared' });
    const second = hold(b, 'res', { mode: 'shared' });
    await Promise.all([first.granted, second.granted]);
    const exclusive = hold(a, 'res');
    await world.untilKeys(3);
    assert.equal(await b.request('res', { ifAvailable: true, mode: 'shared' }, (lock) => lock), null);
    first.letGo();
    second.letGo();
    await exclusive.granted;
    exclusive.letGo();
    assert.equal(await exclusive.done, 'res done');
    await Promise.all([first.done, second.done]);
  });

  it('aborts a pending request with the reason of the signal, and never a granted one', async () => {
    await using world = await managers(2);
    const [a, b] = world.locks as [LockManager, LockManager];
    const first = hold(a, 'res');
    await first.granted;
    const stop = new AbortController();
    const pending = hold(b, 'res', { signal: stop.signal });
    await world.untilKeys(2);
    stop.abort(new Error('enough'));
    await assert.rejects(pending.done, /enough/);
    await assert.rejects(
      b.request('res', { timeoutMs: 20 }, () => 1),
      code('TIMEOUT'),
    );
    const late = new AbortController();
    const other = hold(b, 'other', { signal: late.signal });
    await other.granted;
    late.abort(new Error('too late'));
    other.letGo();
    assert.equal(await other.done, 'other done');
    first.letGo();
    await first.done;
    assert.equal(await world.keys(), 0);
  });

  it('tells all held and pending locks of its prefix, by name, mode and owner, and none of another prefix', async () => {
    await using world = await managers(2);
    const [a, b] = world.locks as [LockManager, LockManager];
    const elsewhere = new LockManager(world.session(0), { prefix: `${world.name}-not` });
    const locks = [hold(a, 'x', { mode: 'shared' }), hold(a, 'with/slashes/in it'), hold(elsewhere, 'x')];
    await Promise.all(locks.map((lock) => lock.granted));
    const pending = [hold(b, 'x'), hold(b, 'with/slashes/in it', { mode: 'shared' })];
    await world.untilKeys(4);
    const { held, pending: asked } = await b.query();
    assert.deepEqual(held.map(({ name, mode, clientId, pid }) => [name, mode, clientId, pid]).sort(), [
      ['with/slashes/in it', 'exclusive', world.session(0).leaseId.toString(16), process.pid],
      ['x', 'shared', world.session(0).leaseId.toString(16), process.pid],
    ]);
    assert.deepEqual(asked.map(({ name, mode }) => [name, mode]).sort(), [
      ['with/slashes/in it', 'shared'],
      ['x', 'exclusive'],
    ]);
    for (const lock of [...locks, ...pending]) lock.letGo();
    await Promise.all([...locks, ...pending].map((lock) => lock.done));
    assert.deepEqual((await a.query()).held, []);
  });

  it('tells that a reader waits behind a request to upgrade, and takes what a candidate says of itself for no lock', async () => {
    await using world = await managers(3);
    const [a, b] = world.locks as [LockManager, LockManager];
    const readers = [0, 1].map((at) => new RWLock(world.session(at), `${world.name}/x`).readLock());
    const [first, second] = (await Promise.all(readers)) as [ReadLock, ReadLock];
    const upgrading = first.upgrade();
    await until(async () => (await world.client.kv.get(`${world.name}/x.~upgrade`)) !== undefined);
    const late = hold(b, 'x', { mode: 'shared' });
    await using leadership = await new Election(world.session(2), `${world.name}/y`).campaign('me');
    // The three readers, the request, the candidate and what it says of itself.
    await world.untilKeys(6);
    const { held, pending } = await a.query();
    assert.deepEqual(held.map(({ key }) => key).sort(), [first.key, second.key, leadership.key].sort());
    assert.deepEqual(
      pending.map(({ name, mode }) => [name, mode]),
      [['x', 'shared']],
    );
    await second.unlock();
    await (await upgrading).unlock();
    late.letGo();
    await late.done;
  });

  it('rejects with the loss when the session ends under the callback', async () => {
    await using world = await managers(1);
    const [a] = world.locks as [LockManager];
    await assert.rejects(
      a.request('res', async (lock) => {
        await world.session(0).close();
        assert.ok(lock.signal.aborted && !lock.held);
      }),
      code('CLOSED'),
    );
  });

  it('refuses bad input, and steal by name, before any request', async () => {
    await using world = await managers(1);
    const [a] = world.locks as [LockManager];
    const { revision } = await world.client.kv.range('x');
    await assert.rejects(
      a.request('', () => 1),
      TypeError,
    );
    await assert.rejects(
      a.request('x', { steal: true } as LockRequestOptions, () => 1),
      /steal is not offered/,
    );
    await assert.rejects(
      a.request('x', { mode: 'weird' } as unknown as LockRequestOptions, () => 1),
      TypeError,
    );
    await assert.rejects(
      a.request('x', {} as LockRequestOptions, undefined as unknown as () => 1),
      TypeError,
    );
    assert.throws(() => new LockManager(world.session(0), { prefix: '' }), TypeError);
    assert.equal((await world.client.kv.range('x')).revision, revision);
  });
});
