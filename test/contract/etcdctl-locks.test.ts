import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { it } from 'node:test';

import { MultiMutex, RWLock } from 'conclave';

import { onEachBackend } from '../support/backends.js';
import { settlesSoon, type World, worldsOf } from '../support/world.js';

onEachBackend('locks and etcdctl lock', (backend) => {
  const newWorld = worldsOf(backend, 'ctl');

  /** `etcdctl lock`: resolves with its key once it has the lock; SIGTERM ends it and gives the lock back. */
  function etcdctl(name: string): { readonly locked: Promise<string>; end(): Promise<void> } {
    const child: ChildProcess = spawn('etcdctl', ['--endpoints', backend.endpoints.join(','), 'lock', name], {
      env: { ...process.env, ETCDCTL_API: '3' },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const { stdout } = child;
    assert.ok(stdout);
    const exit = once(child, 'exit');
    return {
      async end() {
        child.kill('SIGTERM');
        await exit;
      },
      locked: once(stdout, 'data').then(([text]) => String(text).trim()),
    };
  }

  async function follow(world: World, name: string, take: () => Promise<() => Promise<void>>): Promise<void> {
    const first = await take();
    const ctl = etcdctl(name);
    try {
      await world.untilKeys((await world.keys()) + 1);
      assert.equal(await settlesSoon(ctl.locked), false);
      await first();
      assert.match(await ctl.locked, new RegExp(`^${name}/`));
      const asking = take();
      assert.equal(await settlesSoon(asking), false);
      await ctl.end();
      await (
        await asking
      )();
      await world.untilKeys(0);
    } finally {
      await ctl.end();
      // etcdctl gives its lock back, and leaves its lease to run out.
      for (const id of await world.client.lease.list())
        if (id !== world.session(0).leaseId) await world.client.lease.revoke(id);
    }
  }

  it('a multi-mutex and etcdctl lock exclude each other', async () => {
    await using world = await newWorld(1);
    const names = [`${world.name}/a`, `${world.name}/b`];
    const multi = new MultiMutex(world.session(0), names);
    await follow(world, names[1] ?? '', async () => {
      const lock = await multi.lock();
      return () => lock.unlock();
    });
  });

  it('a read lock and etcdctl lock exclude each other', async () => {
    await using world = await newWorld(1);
    const rw = new RWLock(world.session(0), world.name);
    await follow(world, world.name, async () => {
      const lock = await rw.readLock();
      return () => lock.unlock();
    });
  });
});
