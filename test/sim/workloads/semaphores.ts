/** Permits, of which some take one and some two. */
import { Semaphore } from 'conclave';

import { holdFor } from '../attempt.js';
import type { Workload } from '../workload.js';

const NAME = 's/a';
const LIMIT = 3;

export const semaphores: Workload = {
  name: 'semaphores',
  stays: /^w\/s\//,
  lingers: /\.~limit$/,
  begin: (stage) => {
    // Nobody resizes it: the limit is what all say.
    stage.note({ atMs: 0, is: 'limit', limit: LIMIT, name: NAME, process: 'etcd', revision: 0n });
  },
  join: (seat) => {
    const { random, session } = seat;
    const semaphore = new Semaphore(session, NAME, { limit: LIMIT });
    return {
      step: () => {
        const weight = 1 + random.below(2);
        const isTry = random.chance(0.2);
        const take = isTry
          ? () => semaphore.tryAcquire({ weight })
          : () => semaphore.acquire({ ...seat.patience(), weight });
        return holdFor(seat, { names: [NAME], take, traits: { weight } });
      },
      finish: async () => (await semaphore.acquire({ weight: LIMIT })).release(),
    };
  },
};
