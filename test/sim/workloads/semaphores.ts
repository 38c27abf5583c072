/** Permits, of which some take one and some two, and a limit that is changed and forgotten. */
import { Semaphore } from 'conclave';

import type { KeyVersion } from '#conclave/embedded/store/key-history.js';
import { holdFor } from '../attempt.js';
import type { Stage } from '../stage.js';
import { known, type Seat, type Workload } from '../workload.js';

const NAME = 's/a';
const LIMIT = 3;
const KEY = `${NAME}.~limit`;

/** What the key says: the limit, and what it was before somebody changed it. */
function limitOf({ value }: KeyVersion): { readonly limit: number; readonly declared?: number } {
  return JSON.parse(value.toString()) as { limit: number };
}

export function semaphores(): Workload {
  /** Calls of `resize` and `delete` that may still do something. */
  let open = 0;

  /** Writes down the limit, as etcd has it. A changed one lasts until somebody asks for another, or for none. */
  const begin = (stage: Stage): void => {
    let last: ReturnType<typeof limitOf> | undefined;
    stage.world.server.onCommit((revision, changes) => {
      const change = changes.find(({ text }) => text === KEY);
      if (change === undefined) return;
      const next = change.deleted ? undefined : limitOf(change);
      const about = { atMs: stage.world.nowMs, name: NAME, process: 'etcd', revision };
      stage.note({ ...about, is: 'limit', limit: next?.limit });
      const wasChanged = (last?.declared ?? last?.limit) !== last?.limit;
      if (wasChanged && open === 0 && next?.limit !== last?.limit && stage.eras.length === 1)
        stage.violate(
          'limit-kept',
          `the limit of ${String(last?.limit)} is gone at ${revision}, and nobody asked for it`,
        );
      last = next;
    });
  };

  /** What is not known to be done may be done at any later time. */
  const change = async (seat: Seat): Promise<void> => {
    const { random, session, stage } = seat;
    const semaphore = new Semaphore(session, NAME, { limit: LIMIT });
    stage.operations += 1;
    open += 1;
    const limits = seat.patience();
    const asked = random.chance(0.4)
      ? semaphore.delete(limits)
      : semaphore.resize(2 + random.below(4), limits);
    await asked.then(() => (open -= 1), known);
  };

  return {
    begin,
    join: (seat) => {
      const { random, session } = seat;
      const semaphore = new Semaphore(session, NAME, { limit: LIMIT });
      return {
        step: () => {
          if (random.chance(0.15)) return change(seat);
          const weight = 1 + random.below(2);
          const take = random.chance(0.2)
            ? () => semaphore.tryAcquire({ weight })
            : () => semaphore.acquire({ ...seat.endurance(), weight });
          return holdFor(seat, { names: [NAME], take, traits: { weight } });
        },
        finish: async () => {
          open += 1;
          await semaphore.resize(LIMIT);
          await (await semaphore.acquire({ weight: LIMIT })).release();
        },
      };
    },
    lingers: /\.~limit$/,
    name: 'semaphores',
    removable: /^s\/a\//,
    stays: /^w\/s\//,
  };
}
