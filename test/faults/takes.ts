import {
  Election,
  type Hold,
  MultiMutex,
  Mutex,
  RWLock,
  Semaphore,
  type Session,
  type WaitOptions,
} from 'conclave';

/** What was taken: the hold, and how to give it back. */
export interface Taken {
  readonly hold: Hold;
  readonly giveBack: () => Promise<void>;
}

/** One of everything that can be held, by its name in a sentence, with its keys below `x/`. Nobody shares any of them. */
export const TAKES: Readonly<Record<string, (session: Session, options?: WaitOptions) => Promise<Taken>>> = {
  'a leadership': async (session, options) => {
    const hold = await new Election(session, 'x/election').campaign('me', options);
    return { giveBack: () => hold.resign(), hold };
  },
  'a mutex': async (session, options) => {
    const hold = await new Mutex(session, 'x/mutex').lock(options);
    return { giveBack: () => hold.unlock(), hold };
  },
  'a permit': async (session, options) => {
    const hold = await new Semaphore(session, 'x/sem', { limit: 2 }).acquire({ ...options, weight: 2 });
    return { giveBack: () => hold.release(), hold };
  },
  'a read lock': async (session, options) => {
    const hold = await new RWLock(session, 'x/rw').readLock(options);
    return { giveBack: () => hold.unlock(), hold };
  },
  'a write lock': async (session, options) => {
    const hold = await new RWLock(session, 'x/rw').writeLock(options);
    return { giveBack: () => hold.unlock(), hold };
  },
  'several locks': async (session, options) => {
    const hold = await new MultiMutex(session, ['x/a', 'x/b', 'x/c']).lock(options);
    return { giveBack: () => hold.unlock(), hold };
  },
};
