import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MultiMutex, RWLock, Semaphore, type Session } from 'conclave';
import { fate } from '../faults/scene.js';
import { onStage } from './scene.js';

/** What can be had below a name, in a way that excludes all others, and how to give it back. */
type Take = (session: Session, name: string) => Promise<{ token: bigint; giveBack: () => Promise<void> }>;

const TAKES: Readonly<Record<string, Take>> = {
  'a read lock': async (session, name) => {
    const lock = await new RWLock(session, name).readLock();
    return { giveBack: () => lock.unlock(), token: lock.fencingToken };
  },
  'a write lock': async (session, name) => {
    const lock = await new RWLock(session, name).writeLock();
    return { giveBack: () => lock.unlock(), token: lock.fencingToken };
  },
  'a permit': async (session, name) => {
    const permit = await new Semaphore(session, name, { limit: 3 }).acquire();
    return { giveBack: () => permit.release(), token: permit.fencingToken };
  },
  'several locks': async (session, name) => {
    const lock = await new MultiMutex(session, [`${name}-other`, name]).lock();
    return { giveBack: () => lock.unlock(), token: lock.fencingToken };
  },
};

for (const [what, take] of Object.entries(TAKES)) {
  test(`${what} and Go's mutex of the same name exclude each other, in the order in which they were asked for`, () =>
    onStage(async ({ go, inLine, ours }) => {
      const session = await ours();
      const first = await take(session, 'm');
      const peer = await go();
      const going = peer.do('lock', 'm');
      const gone = fate(going);
      await inLine('m', 2);
      const asked = take(session, 'm');
      const second = fate(asked);
      await inLine('m', 3);
      assert.equal(gone.state, 'pending');
      await first.giveBack();
      const { revision } = await going;
      assert.equal(second.state, 'pending', 'Go holds');
      assert.ok(BigInt(revision ?? 0) > first.token);
      await peer.do('unlock', 'm');
      const { giveBack, token } = await asked;
      assert.ok(token > BigInt(revision ?? 0));
      await giveBack();
    }));
}
