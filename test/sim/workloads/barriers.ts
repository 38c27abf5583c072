/** A barrier that is held by one at a time while others wait for it. */
import { Barrier, type BarrierHold, ConclaveError } from 'conclave';
import type { HistoryRecord } from 'conclave/testing';

import { Asked } from '../asked.js';
import { known, type Seat, type Workload } from '../workload.js';

const NAME = 'b/a';
const CLOSED = 'the barrier is closed';
const HELD = `${NAME}/.barrier/held`;
const HOLDER = `${NAME}/.barrier/holder`;

async function hold(seat: Seat, asked: Asked): Promise<void> {
  // A party of its own, since an object is held once.
  const barrier = new Barrier(seat.session, NAME);
  const { random } = seat;
  const ifHolderDies = random.pick(['break', 'open'] as const);
  const ends = asked.begins(CLOSED);
  const held: BarrierHold | undefined = await barrier.hold({ ...seat.patience(), ifHolderDies }).catch(known);
  if (held === undefined) return;
  ends();
  await seat.sleep(random.between(0, 600));
  seat.stage.operations += 1;
  await held.release().catch(known);
}

async function wait(seat: Seat, barrier: Barrier): Promise<void> {
  const about = { name: NAME, wait: seat.stage.next('barrier wait') };
  seat.note({ ...about, is: 'waits' });
  let outcome = 'passed';
  try {
    await barrier.wait(seat.patience());
  } catch (error) {
    known(error);
    outcome = error instanceof ConclaveError && error.code === 'BROKEN' ? 'broken' : 'gaveUp';
  }
  seat.note({ ...about, is: 'waited', outcome });
}

export function barriers(): Workload {
  const asked = new Asked();
  return {
    /** Writes down when it is closed, opened and broken, as etcd has it. */
    begin: (stage) => {
      let last = 0;
      stage.world.server.onCommit((revision, changes) => {
        const note = (record: Record<string, unknown>): void =>
          stage.note({
            atMs: stage.world.nowMs,
            name: NAME,
            process: 'etcd',
            ...record,
          } as unknown as HistoryRecord);
        const held = changes.find(({ text }) => text === HELD);
        const holder = changes.find(({ text }) => text === HOLDER);
        if (held?.deleted === true) note({ hold: last, is: 'mayOpen' });
        else if (held !== undefined) {
          last = stage.next('barrier hold');
          note({ hold: last, is: 'closed', revision });
          asked.done(stage, CLOSED, revision);
        } else if (holder?.deleted === true) note({ hold: last, is: 'mayBreak' });
      });
    },
    join: (seat) => {
      const barrier = new Barrier(seat.session, NAME);
      return {
        finish: async () => {
          asked.begins(CLOSED);
          await barrier.reset();
          await (await barrier.hold()).release();
          await barrier.wait();
        },
        step: async () => {
          seat.stage.operations += 1;
          if (seat.random.chance(0.4)) await hold(seat, asked);
          else await wait(seat, barrier);
        },
      };
    },
    name: 'barriers',
  };
}
