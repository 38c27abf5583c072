import type { Member as WireMember } from '../proto/messages.gen.js';
import { services } from '../proto/services.js';
import type { CallOptions } from './call.js';
import type { Connection } from './connection.js';

/** A member of the cluster. */
export interface Member {
  readonly id: bigint;
  /** Empty until the member has started. */
  readonly name: string;
  readonly peerUrls: readonly string[];
  readonly clientUrls: readonly string[];
  readonly isLearner: boolean;
}

function readMember(wire: WireMember): Member {
  return {
    clientUrls: wire.clientURLs,
    id: wire.ID,
    isLearner: wire.isLearner,
    name: wire.name,
    peerUrls: wire.peerURLs,
  };
}

/** etcd's calls about the members of the cluster. Changes reject with `UNKNOWN_OUTCOME` when their answer is lost. */
export class Cluster {
  readonly #connection: Connection;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  /** The members. With `serializable`, as the member that answers knows them, quorum or not. */
  async memberList(
    options: CallOptions & { readonly serializable?: boolean } = {},
  ): Promise<readonly Member[]> {
    const { serializable = false, ...limits } = options;
    const reply = await this.#connection.unary({
      ...limits,
      kind: 'read',
      request: { linearizable: !serializable },
      rpc: services.Cluster.MemberList,
      what: 'list members',
    });
    return reply.members.map(readMember);
  }

  /** Adds a member that will be reached by its peers at `peerUrls`; as a learner it does not vote. */
  async memberAdd(
    peerUrls: readonly string[],
    options: CallOptions & { readonly learner?: boolean } = {},
  ): Promise<Member> {
    const { learner = false, ...limits } = options;
    const reply = await this.#connection.unary({
      ...limits,
      kind: 'write',
      request: { isLearner: learner, peerURLs: peerUrls },
      rpc: services.Cluster.MemberAdd,
      what: `add member ${peerUrls.join(', ')}`,
    });
    if (reply.member === null) throw new TypeError('etcd answered without the member it added');
    return readMember(reply.member);
  }

  /** Removes a member. Rejects with `MEMBER_NOT_FOUND`. Returns those that are left. */
  async memberRemove(id: bigint, options: CallOptions = {}): Promise<readonly Member[]> {
    const reply = await this.#connection.unary({
      ...options,
      kind: 'write',
      request: { ID: id },
      rpc: services.Cluster.MemberRemove,
      what: `remove member ${id.toString(16)}`,
    });
    return reply.members.map(readMember);
  }

  /** Changes the peer URLs of a member. */
  async memberUpdate(
    id: bigint,
    peerUrls: readonly string[],
    options: CallOptions = {},
  ): Promise<readonly Member[]> {
    const reply = await this.#connection.unary({
      ...options,
      kind: 'write',
      request: { ID: id, peerURLs: peerUrls },
      rpc: services.Cluster.MemberUpdate,
      what: `update member ${id.toString(16)}`,
    });
    return reply.members.map(readMember);
  }

  /** Makes a learner a voting member. Rejects with `LEARNER_NOT_READY` until it has caught up. */
  async memberPromote(id: bigint, options: CallOptions = {}): Promise<readonly Member[]> {
    const reply = await this.#connection.unary({
      ...options,
      kind: 'write',
      request: { ID: id },
      rpc: services.Cluster.MemberPromote,
      what: `promote member ${id.toString(16)}`,
    });
    return reply.members.map(readMember);
  }
}
