import { services } from '../proto/services.js';
import { type Headers, RAFT_TERM } from './rpc/headers.js';
import { etcdError, notImplemented } from './rpc/rpc-error.js';
import type { Rpcs } from './rpc/rpc-server.js';
import { storeHash } from './store/store-hash.js';
import type { Store } from './store/store.js';

/** The etcd this server behaves like; and that it is none, so that nobody takes it to have the faults of that release. */
const VERSION = '3.5.23+conclave';

/** What etcd says by default. Nobody listens there: a cluster of one has no peers. */
const PEER_URL = 'http://localhost:2380';

/** The one member there is. */
export interface MemberInfo {
  readonly name: string;
  readonly endpoint: string;
}

/** The state of the server. */
export function addMaintenanceService(rpcs: Rpcs, store: Store, headers: Headers): void {
  const { Maintenance } = services;
  rpcs.unary(Maintenance.Status, () => {
    const bytes = BigInt(store.bytes);
    return {
      header: headers.at(),
      version: VERSION,
      dbSize: bytes,
      dbSizeInUse: bytes,
      leader: headers.memberId,
      raftTerm: RAFT_TERM,
      raftIndex: store.revision,
      raftAppliedIndex: store.revision,
    };
  });
  rpcs.unary(Maintenance.Alarm, ({ action }) => {
    if (action === 'ACTIVATE') throw notImplemented('raising an alarm');
    return { header: headers.at(), alarms: [] };
  });
  rpcs.unary(Maintenance.Defragment, () => ({}));
  rpcs.unary(Maintenance.Hash, () => ({ header: headers.at(), hash: storeHash(store, store.revision) }));
  rpcs.unary(Maintenance.HashKV, ({ revision }) => {
    const compacted = store.compactedRevision;
    if (revision > 0n && revision <= compacted) throw etcdError('COMPACTED');
    if (revision > store.revision) throw etcdError('FUTURE_REVISION');
    const hashRevision = revision === 0n ? store.revision : revision;
    return {
      header: headers.at(),
      hash: storeHash(store, hashRevision),
      compactRevision: compacted,
      hashRevision,
    };
  });
  rpcs.unary(Maintenance.MoveLeader, ({ targetID }) => {
    if (targetID !== headers.memberId) throw etcdError('BAD_LEADER_TRANSFEREE');
    return { header: headers.at() };
  });
}

/** A cluster of one. */
export function addClusterService(rpcs: Rpcs, member: MemberInfo, headers: Headers): void {
  const { Cluster } = services;
  rpcs.unary(Cluster.MemberList, () => ({
    header: headers.ofCluster(),
    members: [
      { ID: headers.memberId, name: member.name, peerURLs: [PEER_URL], clientURLs: [member.endpoint] },
    ],
  }));
  rpcs.unary(Cluster.MemberAdd, () => {
    throw notImplemented('a second member');
  });
  rpcs.unary(Cluster.MemberRemove, ({ ID }) => {
    throw ID === headers.memberId
      ? notImplemented('removing the only member')
      : etcdError('MEMBER_NOT_FOUND');
  });
  rpcs.unary(Cluster.MemberUpdate, ({ ID }) => {
    throw ID === headers.memberId ? notImplemented('changing a member') : etcdError('MEMBER_NOT_FOUND');
  });
  rpcs.unary(Cluster.MemberPromote, ({ ID }) => {
    throw etcdError(ID === headers.memberId ? 'MEMBER_NOT_LEARNER' : 'MEMBER_NOT_FOUND');
  });
}

/** No users, no roles: authentication is off and stays off. */
export function addAuthService(rpcs: Rpcs, headers: Headers): void {
  const { Auth } = services;
  rpcs.unary(Auth.AuthStatus, () => ({ header: headers.at(), enabled: false, authRevision: 1n }));
  rpcs.unary(Auth.AuthDisable, () => ({ header: headers.at() }));
  rpcs.unary(Auth.Authenticate, () => {
    throw etcdError('AUTH_NOT_ENABLED');
  });
}
