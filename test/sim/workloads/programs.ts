/** Plain programs on `connect()`: what they hold and lead goes on through lost sessions, and they are closed in time. */
import type { Conclave, Leadership } from 'conclave';

import { holdFor, type Taken } from '../attempt.js';
import { lead } from '../lead.js';
import { known, type Part, type Seat, TTL_SECONDS, USUAL_MS, type Workload } from '../workload.js';

/** Those of other workloads, whom they meet there. */
const LOCK = 'm/a';
const ELECTION = 'e/a';
/** How much later `close` may be done: it takes some turns of the event loop, which may be busy for 40 ms before each. */
const LATE_MS = 1000;

function connect({ process, stage }: Seat): Promise<Conclave> {
  stage.operations += 1;
  const options = { auth: stage.auth, timeoutMs: USUAL_MS, ttlSeconds: TTL_SECONDS };
  return stage.world.connect(process, options);
}

/** Whatever happens, it is closed when its time is over. */
async function close({ process, stage }: Seat, conclave: Conclave, graceMs: number): Promise<void> {
  stage.operations += 1;
  const [at, from] = [stage.history.length, process.clock.now()];
  await conclave.close({ graceMs });
  const tookMs = process.clock.now() - from;
  if (tookMs > graceMs + LATE_MS && !stage.wasFrozen(process, at))
    stage.violate('closed-late', `${process.name} was closed after ${tookMs} ms, not ${graceMs}`);
}

async function use(seat: Seat, conclave: Conclave): Promise<void> {
  const { random, stage } = seat;
  if (random.chance(0.6)) {
    const take = () => conclave.mutex(LOCK).lock(seat.patience());
    await holdFor(seat, { names: [LOCK], take });
    return;
  }
  const work = (taken: Taken<Leadership>): Promise<void> => taken.work();
  await lead(seat, conclave.election(ELECTION), { value: `program ${stage.next('program')}`, work });
}

function join(seat: Seat): Part {
  let running: Promise<Conclave> | undefined;
  const stop = async (): Promise<void> => {
    const last = await running?.catch(known);
    running = undefined;
    if (last !== undefined) await close(seat, last, seat.random.pick([0, 500, 3000]));
  };
  return {
    close: stop,
    finish: async () => {
      const last = await connect(seat);
      await (await last.mutex(LOCK).lock()).unlock();
      // Long enough for its lease to be given back.
      await close(seat, last, 3000);
    },
    step: async () => {
      running ??= connect(seat);
      const conclave = await running.catch(known);
      if (conclave === undefined) running = undefined;
      // Whoever else uses it is told that it was closed.
      else if (seat.random.chance(0.2)) await stop();
      else await use(seat, conclave);
    },
  };
}

export const programs: Workload = {
  join,
  name: 'programs',
  removable: /^[me]\//,
  stays: /^w\/[me]\//,
};
