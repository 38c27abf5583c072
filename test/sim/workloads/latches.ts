/** Latches, one after the other: each is counted down, and a new one is made when it is open. */
import { ConclaveError, Latch } from 'conclave';

import type { Stage } from '../stage.js';
import { known, type Seat, type Workload } from '../workload.js';

const COUNT = 4;
/** Whose key tells what: which latch, and what of it. */
const KEY = /^(l\/\d+)\/\.latch\/(by\/.+|open)$/;

/** Which latch is counted down now. */
const current = new WeakMap<Stage, number>();

function isOpen(seat: Seat, name: string): void {
  const at = Number(name.slice(2));
  current.set(seat.stage, Math.max(current.get(seat.stage) ?? 0, at + 1));
}

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

async function look(seat: Seat, latch: Latch): Promise<void> {
  const { name } = latch;
  const about = { call: seat.stage.next('latch call'), name };
  seat.note({ ...about, count: COUNT, is: 'latchReads' });
  const read = seat.random.chance(0.5) ? latch.count() : latch.wait(seat.patience()).then(() => 0);
  const remaining = await read.catch(known);
  if (remaining === undefined) return;
  seat.note({ ...about, is: 'latchRead', remaining });
  if (remaining === 0) isOpen(seat, name);
}

export const latches: Workload = {
  begin: (stage) => {
    stage.world.server.onCommit((revision, changes) => {
      for (const { deleted, text: key, value } of changes) {
        const [, name, what] = KEY.exec(key) ?? [];
        if (name === undefined || deleted) continue;
        const about = { atMs: stage.world.nowMs, name, process: 'etcd', revision };
        if (what === 'open') stage.note({ ...about, is: 'latchOpen' });
        else stage.note({ ...about, is: 'tally', key, n: Number(value.toString()) });
      }
    });
  },
  join: (seat) => {
    const now = (): Latch => new Latch(seat.session, `l/${current.get(seat.stage) ?? 0}`, { count: COUNT });
    return {
      finish: async () => {
        const latch = now();
        for (let at = 0; at < COUNT; at++) await countDown(seat, latch);
        await latch.wait();
        isOpen(seat, latch.name);
        for (let at = 0; at <= (current.get(seat.stage) ?? 0); at++)
          await new Latch(seat.session, `l/${at}`, { count: COUNT }).delete();
      },
      step: async () => {
        seat.stage.operations += 1;
        await (seat.random.chance(0.6) ? countDown(seat, now()) : look(seat, now()));
      },
    };
  },
  name: 'latches',
};
