/** Conclave: distributed coordination on etcd v3. The one door of the library. */
export { ConclaveError, type EtcdDetail, hasCode } from './errors/conclave-error.js';
export type { ErrorCode, EtcdCode, LocalCode, StatusName } from './errors/codes.js';
export { type Clock, systemClock, type Timer } from './util/clock.js';
export type { WaitOptions } from './util/abort.js';
export type { Bytes } from './util/bytes.js';

export { Client } from './etcd/client.js';
export type { ClientOptions } from './etcd/client-options.js';
export type { Cache } from './etcd/cache/cache.js';
export type {
  CacheConsistency,
  CacheList,
  CacheListOptions,
  CacheOptions,
  CacheReadOptions,
} from './etcd/cache/cache-options.js';
export type { CacheChange, ChangesOptions } from './etcd/cache/cache-changes.js';
export type { Mirror } from './etcd/mirror/mirror.js';
export type {
  MirrorDestination,
  MirrorDifference,
  MirrorOptions,
  MirrorProgress,
  MirrorReport,
  MirrorRunOptions,
  MirrorVerifyOptions,
} from './etcd/mirror/mirror-options.js';
export type { OrderedReads } from './etcd/ordering/ordered-reads.js';
export type { TlsOptions } from './etcd/transport/tls.js';
export type { AuthOptions } from './etcd/transport/token.js';
export type { CallOptions } from './etcd/transport/call.js';
export { compare, type Compare, type CompareSign } from './etcd/kv/compare.js';
export {
  type Answers,
  type DeleteOptions,
  op,
  type Op,
  type OutcomeOf,
  type PutOptions,
  type RangeOptions,
  type TxnResultOf,
  type TxnSpec,
} from './etcd/kv/op.js';
export type { KeyRange } from './etcd/kv/key-range.js';
export { KeyValue } from './etcd/kv/key-value.js';
export type { Batching, Kv, ScanOptions, TxnCallOptions } from './etcd/kv/kv.js';
export type { Schema, SchemaIssue, SchemaResult } from './etcd/kv/standard-schema.js';
export type {
  DeleteAnswer,
  DeleteResult,
  GetAnswer,
  OpResult,
  PutAnswer,
  PutResult,
  RangeResult,
  TxnAnswer,
  TxnOutcome,
  TxnResult,
} from './etcd/kv/kv-results.js';
export type { Lease, LeaseLife, LeaseTerm } from './etcd/lease/lease.js';
export type { WatchBatch, Watcher, WatchOptions } from './etcd/watch/watch.js';
export type { WatchEvent } from './etcd/watch/watch-event.js';
export type { Cluster, Member } from './etcd/admin/cluster.js';
export type { Access, Auth, Permission } from './etcd/admin/auth.js';
export type {
  Alarm,
  FaultyMember,
  KnownFault,
  KnownFaultId,
  KvHash,
  Maintenance,
  MemberCallOptions,
  MemberStatus,
} from './etcd/admin/maintenance.js';

export {
  type CloseOptions,
  Conclave,
  connect,
  type ConnectOptions,
  type Health,
} from './connect/conclave.js';
export type { AnySession, Sessions } from './session/sessions.js';
export { Session, type SessionOptions, type SessionState } from './session/session.js';
export { LeasedKey, type LeasedKeyOptions, type LeasedKeyState } from './leased/leased-key.js';
export { Leasing, type LeasingOptions } from './leasing/leasing.js';
export type { Hold } from './ticket/hold.js';
export type { OwnerInfo } from './ticket/owner.js';
export { type Lock, Mutex } from './mutex/mutex.js';
export { type MultiLock, MultiMutex } from './mutex/multi-mutex.js';
export { RWLock } from './mutex/rw-lock.js';
export {
  type AcquireOptions,
  type Permit,
  type PermitEntry,
  Semaphore,
  type SemaphoreOptions,
  type SemaphoreReport,
} from './mutex/semaphore.js';
export {
  LockManager,
  type LockCallback,
  type LockInfo,
  type LockManagerOptions,
  type LockManagerSnapshot,
  type LockRequestOptions,
  type WebLock,
  type WebLockMode,
} from './mutex/lock-manager.js';
export type { LockEntry } from './mutex/rw-inspect.js';
export type { LockMode } from './mutex/tag.js';
export type { LineEntry, LineReport } from './ticket/inspect.js';
export type { ReadLock, WriteLock } from './mutex/rw-holds.js';
export { type Candidate, Election } from './election/election.js';
export type { Leadership } from './election/leadership.js';
export type { LeaderInfo } from './election/observe.js';
export { Barrier, type BarrierHoldOptions, type BarrierState } from './barrier/barrier.js';
export type { BarrierHold } from './barrier/barrier-hold.js';
export { DoubleBarrier, type DoubleBarrierOptions } from './barrier/double-barrier.js';
export { Latch, type LatchOptions } from './barrier/latch.js';
export { stm, type StmOptions, type StmResult } from './stm/stm.js';
export type { Isolation, StmTransaction } from './stm/types.js';
export { JobQueue } from './queue/job-queue.js';
export type { Job } from './queue/consume/job.js';
export type { JobHandler, JobWorker, ProcessOptions } from './queue/consume/worker.js';
export type { FailureOptions } from './queue/consume/outcome.js';
export type { JobState } from './queue/store/keys.js';
export type { DeadOptions, JobInfo, QueueCounts } from './queue/inspect/listing.js';
export type { PushItem, PushOptions, QueueOptions } from './queue/produce/options.js';
export type { PushResult } from './queue/produce/producer.js';
export type { JobError } from './queue/store/record.js';
