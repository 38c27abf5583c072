// `conclave/testing`: what Conclave's own tests use, and yours may.
export { makeCertificates } from './certificates.js';
export type { CertificateOptions, IssueOptions, TestCertificates, TlsMaterial } from './certificates.js';
export { startEtcd } from './etcd-cluster.js';
export type { EtcdCluster, StartEtcdOptions } from './etcd-cluster.js';
export type { EtcdMember, RestartOptions } from './etcd-member.js';
export { FaultProxy } from './fault-proxy.js';
export type { Connections, Direction, FaultProxyOptions } from './fault-proxy.js';
export type { CallAction, CallFault, CallFaultOptions, CallLoss } from './call-faults.js';
export type { FactOptions } from './facts.js';
export type { LateCopies, LateCopyOptions, LateKind } from './late-copies.js';
export type { Target } from './grpc-relay.js';
export { ManualClock } from './manual-clock.js';
export type { ManualClockOptions } from './manual-clock.js';
export { checkIsolation } from './isolation.js';
export type { KeyChange, KeySeen, Observed, RangeSeen } from './isolation.js';
export * from './checkers/index.js';
export { World } from './sim/world.js';
export type { ClockFault, SimProcess } from './sim/sim-process.js';
