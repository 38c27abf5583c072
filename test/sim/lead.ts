/** `Election.run`: each leadership of a run is an attempt of its own; one that was resigned is the last. */
import type { Election, Leadership } from 'conclave';

import { Taken } from './attempt.js';
import { known, type Seat } from './workload.js';

/** How a run goes. */
export interface Run {
  readonly value: string;
  readonly work: (taken: Taken<Leadership>) => Promise<void>;
}

/** Leads, again and again if it is lost, until it is done or has taken too long. */
export async function lead(seat: Seat, election: Election, { value, work }: Run): Promise<void> {
  const { process, random, stage } = seat;
  const { name } = election;
  stage.operations += 1;
  const begin = (): number => {
    const attempt = stage.next('attempt');
    seat.note({ attempt, is: 'acquire', name });
    return attempt;
  };
  let attempt = begin();
  let hasResigned = false;
  const stop = new AbortController();
  process.clock.setTimer(random.between(200, 4000), () => stop.abort(new Error('enough')));
  const run = async (leadership: Leadership): Promise<void> => {
    if (hasResigned)
      stage.violate('leads-again', `${process.name} has resigned from ${name}, and leads again`);
    const taken = new Taken(seat, leadership, [{ attempt, name }]);
    await work(taken);
    const resigns = random.chance(0.3) && leadership.held;
    taken.ends();
    if (resigns) hasResigned = (await leadership.resign().then(() => !leadership.wasLost, known)) ?? false;
    attempt = begin();
  };
  await election.run(value, run, { signal: stop.signal }).catch((error: unknown) => {
    if (error !== stop.signal.reason) known(error);
  });
  seat.note({ attempt, is: 'gaveUp', name });
}
