/** Locks of one name, and of several at once. */
import { MultiMutex, Mutex } from 'conclave';

import { holdFor } from '../attempt.js';
import type { Workload } from '../workload.js';

const NAMES = ['m/a', 'm/b'];

export const locks: Workload = {
  name: 'locks',
  removable: /^m\//,
  stays: /^w\/m\//,
  join: (seat) => {
    const { random, session } = seat;
    const one = async (): Promise<void> => {
      const name = random.pick(NAMES);
      const mutex = new Mutex(session, name);
      const take = random.chance(0.2) ? () => mutex.tryLock() : () => mutex.lock(seat.endurance());
      await holdFor(seat, { names: [name], take });
    };
    const all = async (): Promise<void> => {
      const mutex = new MultiMutex(session, NAMES);
      await holdFor(seat, { names: NAMES, take: () => mutex.lock(seat.endurance()) });
    };
    return {
      step: () => (random.chance(0.2) ? all() : one()),
      finish: async () => {
        for (const name of NAMES) await (await new Mutex(session, name).lock()).unlock();
        await (await new MultiMutex(session, NAMES).lock()).unlock();
      },
    };
  },
};
