/** Permits, of which some take one and some two, and a limit that is changed and forgotten. */
import { Semaphore } from 'conclave';

import type { KeyVersion } from '#conclave/embedded/store/key-history.js';
import { Asked } from '../asked.js';
import { holdFor } from '../attempt.js';
import type { Stage } from '../stage.js';
import { known, type Seat, type Workload } from '../workload.js';

const NAME = 's/a';
const LIMIT = 3;
const CHANGED = 'a limit that was changed is another one';
const KEY = `${NAME}.~limit`;

/** What the key says: the limit, and what it was before somebody changed it. */
function limitOf({ value }: KeyVersion): { readonly limit: number; readonly declared?: number } {
  return JSON.parse(value.toString()) as { limit: number };
}

export function semaphores(): Workload {
  const asked = new Asked();

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
      if (wasChanged && next?.limit !== last?.limit) asked.done(stage, CHANGED, revision);
      last = next;
    });
  };

  /** What is not known to be done may be done at any later time. */
  const change = async (seat: Seat): Promise<void> => {
    const { random, session, stage } = seat;
    const semaphore = new Semaphore(session, NAME, { limit: LIMIT });
    stage.operations += 1;
    const limits = seat.patience();
    const calls = [() => semaphore.resize(2 + random.below(4), limits)];
    // What is agreed next is no business of a deletion that comes twice.
    if (random.chance(0.6)) calls.unshift(() => semaphore.delete(limits).then(() => undefined));
    for (const call of calls) {
      const ends = asked.begins(CHANGED);
      await call().then(ends, known);
    }
  };

  return {
    begin,
    join: (seat) => {
      const { random, session } = seat;
      const semaphore = new Semaphore(session, NAME, { limit: LIMIT });
      return {
        step: () => {
          if (random.chance(0.2)) return change(seat);
          const weight = 1 + random.below(2);
          const take = random.chance(0.2)
            ? () => semaphore.tryAcquire({ weight })
            : () => semaphore.acquire({ ...seat.endurance(), weight });
          return holdFor(seat, { names: [NAME], take, traits: { weight } });
        },
        finish: async () => {
          asked.begins(CHANGED);
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
