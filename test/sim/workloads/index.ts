import type { Workload } from '../workload.js';
import { accounts } from './accounts.js';
import { barriers } from './barriers.js';
import { doubleBarriers } from './double-barriers.js';
import { elections } from './elections.js';
import { jobs } from './jobs.js';
import { latches } from './latches.js';
import { locks } from './locks.js';
import { programs } from './programs.js';
import { readWrite } from './read-write.js';
import { registers } from './registers.js';
import { semaphores } from './semaphores.js';
import { watches } from './watches.js';

/** All that a run may be made of. */
export const workloads = (): readonly Workload[] => [
  accounts,
  barriers(),
  doubleBarriers(),
  elections(),
  jobs(),
  latches(),
  locks,
  programs,
  readWrite,
  registers(),
  semaphores(),
  watches,
];
