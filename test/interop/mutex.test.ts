import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Mutex } from 'conclave';
import { onStage } from './scene.js';

/** Collects what happens, in order. */
function diary(): { readonly entries: string[]; readonly note: (entry: string) => <T>(value: T) => T } {
  const entries: string[] = [];
  return {
    entries,
    note: (entry) => (value) => {
      entries.push(entry);
      return value;
    },
  };
}

test("a waiter of Go's behind our lock gets it when we unlock, and not before", () =>
  onStage(async ({ go, inLine, ours }) => {
    const { entries, note } = diary();
    const lock = await new Mutex(await ours(), 'm').lock();
    const peer = await go();
    const locked = peer.do('lock', 'm').then(note('Go has it'));
    await inLine('m', 2);
    await assert.rejects((await go()).do('lock', 'm', { ms: 200 }), /deadline exceeded/);
    note('unlocking')(undefined);
    await lock.unlock();
    const { key, revision } = await locked;
    assert.deepEqual(entries, ['unlocking', 'Go has it']);
    assert.equal(key, `m/${peer.lease}`);
    assert.ok(BigInt(revision ?? 0) > lock.fencingToken);
    await peer.do('unlock', 'm');
  }));

test("ours behind Go's lock gets it when Go unlocks, and not before", () =>
  onStage(async ({ go, inLine, ours }) => {
    const { entries, note } = diary();
    const peer = await go();
    const { revision } = await peer.do('lock', 'm');
    const session = await ours();
    assert.equal(await new Mutex(session, 'm').tryLock(), undefined);
    await assert.rejects(new Mutex(session, 'm').lock({ timeoutMs: 200 }), { code: 'TIMEOUT' });
    const locked = new Mutex(session, 'm').lock().then(note('we have it'));
    await inLine('m', 2);
    note('unlocking')(undefined);
    await peer.do('unlock', 'm');
    const lock = await locked;
    assert.deepEqual(entries, ['unlocking', 'we have it']);
    assert.ok(lock.fencingToken > BigInt(revision ?? 0));
    await lock.unlock();
  }));

test('Go and we get the lock in the order in which we asked', () =>
  onStage(async ({ go, inLine, ours }) => {
    const { entries, note } = diary();
    const holder = await new Mutex(await ours(), 'm').lock();
    const turns: Promise<void>[] = [];
    for (let place = 1; place <= 6; place++) {
      if (place % 2 === 1) {
        const peer = await go();
        turns.push(
          peer
            .do('lock', 'm')
            .then(note(`Go ${place}`))
            .then(() => peer.do('unlock', 'm'))
            .then(() => undefined),
        );
      } else {
        const locked = new Mutex(await ours(), 'm').lock().then(note(`ours ${place}`));
        turns.push(locked.then((lock) => lock.unlock()));
      }
      await inLine('m', 1 + place);
    }
    await holder.unlock();
    await Promise.all(turns);
    assert.deepEqual(entries, ['Go 1', 'ours 2', 'Go 3', 'ours 4', 'Go 5', 'ours 6']);
  }));

test("our fencing tokens grow across Go's holds and our own", () =>
  onStage(async ({ go, inLine, ours }) => {
    const [one, other, peer] = [await ours(), await ours(), await go()];
    let last = 0n;
    for (let turn = 0; turn < 5; turn++) {
      const before = await new Mutex(one, 'm').lock();
      assert.ok(before.fencingToken > last);
      const theirs = peer.do('lock', 'm');
      await inLine('m', 2);
      const behind = new Mutex(other, 'm').lock();
      await inLine('m', 3);
      await before.unlock();
      const revision = BigInt((await theirs).revision ?? 0);
      assert.ok(revision > before.fencingToken);
      await peer.do('unlock', 'm');
      const after = await behind;
      assert.ok(after.fencingToken > revision);
      last = after.fencingToken;
      await after.unlock();
    }
  }));

test('tasks that hand the lock on among themselves let Go have its turn', () =>
  onStage(async ({ go, ours }) => {
    const [session, peer] = [await ours(), await go()];
    const mutex = new Mutex(session, 'm');
    let over = false;
    const tasks = [1, 2, 3].map(async () => {
      while (!over) await (await mutex.lock()).unlock();
    });
    for (let turn = 0; turn < 5; turn++) {
      await peer.do('lock', 'm');
      await peer.do('unlock', 'm');
    }
    over = true;
    await Promise.all(tasks);
  }));

test("a waiter of Go's gets the lock when our session ends without a word", () =>
  onStage(async ({ client, go, inLine, ours }) => {
    const session = await ours(2);
    const lock = await new Mutex(session, 'm').lock();
    const peer = await go();
    const locked = peer.do('lock', 'm');
    await inLine('m', 2);
    session.orphan();
    const { revision } = await locked;
    assert.ok(lock.signal.aborted);
    assert.ok(BigInt(revision ?? 0) > lock.fencingToken);
    assert.equal((await client.kv.range({ prefix: 'm/' })).count, 1n);
    await peer.do('unlock', 'm');
  }));

test("ours gets the lock when Go's process is killed, whether it held it or waited before us", () =>
  onStage(async ({ go, inLine, ours }) => {
    const [holder, waiter] = [await go(2), await go(2)];
    await holder.do('lock', 'm');
    void waiter.do('lock', 'm').catch(() => undefined);
    await inLine('m', 2);
    const locked = new Mutex(await ours(), 'm').lock();
    await inLine('m', 3);
    await waiter.crash();
    await inLine('m', 2);
    const { revision } = await holder.do('lock', 'm');
    await holder.crash();
    const lock = await locked;
    assert.ok(lock.fencingToken > BigInt(revision ?? 0));
    await lock.unlock();
  }));
