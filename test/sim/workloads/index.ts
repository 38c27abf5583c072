import type { Workload } from '../workload.js';
import { elections } from './elections.js';
import { jobs } from './jobs.js';
import { locks } from './locks.js';
import { readWrite } from './read-write.js';
import { registers } from './registers.js';
import { semaphores } from './semaphores.js';

/** All that a run may be made of. */
export const WORKLOADS: readonly Workload[] = [elections, jobs, locks, readWrite, registers, semaphores];
