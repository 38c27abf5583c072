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
  Leftover,
  ListedKey,
  Moment,
  ObserverRecord,
  OperationRecord,
  OwnerRecord,
  RecordOf,
  RegisterOperation,
  RegisterRecord,
  RemainsRecord,
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
export { checkOwners } from './owners.js';
export { checkProgress } from './progress.js';
export type { ProgressOptions } from './progress.js';
export { checkNothingLeft } from './nothing-left.js';
export type { NothingLeftOptions } from './nothing-left.js';
