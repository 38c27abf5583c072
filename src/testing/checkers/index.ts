// What `conclave/testing` has of this folder.
export type {
  CallOutcome,
  FaultRecord,
  HistoryRecord,
  HoldRecord,
  Moment,
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
