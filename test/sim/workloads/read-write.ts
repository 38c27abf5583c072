/** Readers and writers, some of a LockManager; some readers become the writer, some writers become a reader. */
import { LockManager, type ReadLock, RWLock, type WriteLock } from 'conclave';

import { ask, holdFor, type Taken } from '../attempt.js';
import { request } from '../managed.js';
import { known, type Seat, type Workload } from '../workload.js';

/** What a manager calls `a`. */
const PREFIX = 'rw';
const NAME = `${PREFIX}/a`;

async function read(seat: Seat, lock: RWLock): Promise<void> {
  const { random } = seat;
  const take = random.chance(0.2) ? () => lock.tryReadLock() : () => lock.readLock(seat.endurance());
  const reading = await ask(seat, { names: [NAME], take, traits: { mode: 'read' } });
  await reading?.work();
  if (reading === undefined || !random.chance(0.3)) {
    await reading?.giveBack();
    return;
  }
  const upgrade = (): Promise<WriteLock> => reading.hold.upgrade(seat.endurance());
  const asked = ask(seat, {
    names: [NAME],
    take: upgrade,
    took: () => reading.ends(),
    traits: { from: reading.attempt, mode: 'write' },
  });
  // It reads on meanwhile.
  if (random.chance(0.5)) await reading.work();
  const writing = await asked;
  await writing?.work();
  await (writing ?? reading).giveBack();
}

async function write(seat: Seat, lock: RWLock): Promise<void> {
  const { random } = seat;
  const take = random.chance(0.2) ? () => lock.tryWriteLock() : () => lock.writeLock(seat.endurance());
  const writing = await ask(seat, { names: [NAME], take, traits: { mode: 'write' } });
  await writing?.work();
  if (writing === undefined || !random.chance(0.3)) await writing?.giveBack();
  else await downgrade(seat, writing);
}

async function manage(seat: Seat): Promise<void> {
  const { random, session } = seat;
  const manager = new LockManager(session, { prefix: PREFIX });
  const isShared = random.chance(0.6);
  const options = {
    ...seat.endurance(),
    ifAvailable: random.chance(0.2),
    mode: isShared ? 'shared' : 'exclusive',
  } as const;
  const take = (): ReturnType<typeof request> => request(manager, 'a', options);
  await holdFor(seat, { names: [NAME], take, traits: { mode: isShared ? 'read' : 'write' } });
}

/** The write hold ends with the call, whatever becomes of it. */
async function downgrade(seat: Seat, writing: Taken<WriteLock>): Promise<void> {
  const take = (): Promise<ReadLock> => {
    writing.ends();
    return writing.hold.downgrade();
  };
  const traits = { from: writing.attempt, mode: 'read' };
  const reading = await ask(seat, { names: [NAME], take, traits });
  await reading?.work();
  if (reading === undefined) await writing.hold.unlock().catch(known);
  else await reading.giveBack();
}

export const readWrite: Workload = {
  name: 'read-write',
  removable: /^rw\//,
  stays: /^w\/rw\//,
  join: (seat) => {
    const lock = new RWLock(seat.session, NAME);
    return {
      step: () => {
        if (seat.random.chance(0.2)) return manage(seat);
        return seat.random.chance(0.6) ? read(seat, lock) : write(seat, lock);
      },
      finish: async () => {
        await (await lock.writeLock()).unlock();
        await (await lock.readLock()).unlock();
      },
    };
  },
};
