// What `conclave/testing` has of this folder.
export type {
  BarrierRecord,
  CallOutcome,
  CommitRecord,
  DoubleBarrierRecord,
  FaultRecord,
  HistoryRecord,
  HoldRecord,
  JobRecord,
  ChangedKey,
  LatchRecord,
  ListedKey,
  Moment,
  ObserverRecord,
  RecordOf,
  RegisterOperation,
  RegisterRecord,
  Share,
  Violation,
  WatchedRange,
  WatchRecord,
} from './history.js';
export { checkLinearizability } from './linearizability.js';
export type { LinearizabilityOptions } from './linearizability.js';
export { checkMutualExclusion, smallestLossMargin } from './mutual-exclusion.js';
export type { LossMargin } from './mutual-exclusion.js';
export { checkSharedHolds } from './shared-holds.js';
export { checkQueueing } from './queueing.js';
export type { QueueingOptions } from './queueing.js';
export { checkJobs } from './jobs.js';
export type { JobsOptions } from './jobs.js';
export { checkObservers } from './observers.js';
export { checkBarriers } from './barriers.js';
export { checkWatches } from './watches.js';
