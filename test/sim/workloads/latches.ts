/** Latches, one after the other: each is counted down, and a new one is made when it is open. */
import { ConclaveError, Latch } from 'conclave';

import type { Stage } from '../stage.js';
import { known, type Part, type Seat, type Workload } from '../workload.js';

const COUNT = 4;
/** Whose key tells what: which latch, and what of it. */
const KEY = /^(l\/\d+)\/\.latch\/(by\/.+|open)$/;

async function countDown(seat: Seat, latch: Latch): Promise<void> {
  const { name } = latch;
  const n = 1 + seat.random.below(2);
  const about = { call: seat.stage.next('latch call'), name };
  seat.note({ ...about, count: COUNT, is: 'counting', n });
  let outcome = 'ok';
  try {
    await latch.countDown(n, seat.patience());
  } catch (error) {
    known(error);
    outcome = error instanceof ConclaveError && error.code === 'UNAVAILABLE' ? 'void' : 'unknown';
  }
  seat.note({ ...about, is: 'counted', outcome });
}

/** Whether it was seen to be open. */
async function look(seat: Seat, latch: Latch): Promise<boolean> {
  const { name } = latch;
  const about = { call: seat.stage.next('latch call'), name };
  seat.note({ ...about, count: COUNT, is: 'latchReads' });
  const read = seat.random.chance(0.5) ? latch.count() : latch.wait(seat.patience()).then(() => 0);
  const remaining = await read.catch(known);
  if (remaining === undefined) return false;
  seat.note({ ...about, is: 'latchRead', remaining });
  return remaining === 0;
}

/** Writes down what etcd has of them. */
function begin(stage: Stage): void {
  stage.world.server.onCommit((revision, changes) => {
    for (const { deleted, text: key, value } of changes) {
      const [, name, what] = KEY.exec(key) ?? [];
      if (name === undefined || deleted) continue;
      const about = { atMs: stage.world.nowMs, name, process: 'etcd', revision };
      if (what === 'open') stage.note({ ...about, is: 'latchOpen' });
      else stage.note({ ...about, is: 'tally', key, n: Number(value.toString()) });
    }
  });
}

export function latches(): Workload {
  /** Which one is counted down now. */
  let current = 0;
  const join = (seat: Seat): Part => {
    const latchAt = (at: number): Latch => new Latch(seat.session, `l/${at}`, { count: COUNT });
    return {
      finish: async () => {
        const latch = latchAt(current);
        for (let at = 0; at < COUNT; at++) await countDown(seat, latch);
        await latch.wait();
        current += 1;
        for (let at = 0; at <= current; at++) await latchAt(at).delete();
      },
      step: async () => {
        seat.stage.operations += 1;
        const at = current;
        if (seat.random.chance(0.6)) await countDown(seat, latchAt(at));
        else if (await look(seat, latchAt(at))) current = Math.max(current, at + 1);
      },
    };
  };
  return { begin, join, name: 'latches' };
}
