// What `conclave/testing` has of this folder.
export type {
  CallOutcome,
  HistoryRecord,
  Moment,
  RecordOf,
  RegisterOperation,
  RegisterRecord,
  Violation,
} from './history.js';
export { checkLinearizability } from './linearizability.js';
export type { LinearizabilityOptions } from './linearizability.js';
