// What `conclave/testing` has of this folder.
export type {
  CallOutcome,
  FaultRecord,
  HistoryRecord,
  HoldRecord,
  JobRecord,
  Moment,
  ObserverRecord,
  RecordOf,
  RegisterOperation,
  RegisterRecord,
  Violation,
} from './history.js';
export { checkLinearizability } from './linearizability.js';
export type { LinearizabilityOptions } from './linearizability.js';
export { checkMutualExclusion, smallestLossMargin } from './mutual-exclusion.js';
export type { LossMargin } from './mutual-exclusion.js';
export { checkQueueing } from './queueing.js';
export type { QueueingOptions } from './queueing.js';
export { checkJobs } from './jobs.js';
export type { JobsOptions } from './jobs.js';
export { checkObservers } from './observers.js';
