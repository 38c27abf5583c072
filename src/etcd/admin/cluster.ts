import type { Member as WireMember } from '../../proto/messages.gen.js';
import { services } from '../../proto/services.js';
import { checkBoolean, shown } from '../../util/validate.js';
import type { CallOptions, MemberCallOptions } from '../transport/call.js';
import type { Connection } from '../transport/connection.js';
import { checkText, checkUint64, limitsOf, memberLimitsOf } from './admin-options.js';
import { inJson } from '../../util/shown.js';

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
  return inJson({
    clientUrls: wire.clientURLs,
    id: wire.ID,
    isLearner: wire.isLearner,
    name: wire.name,
    peerUrls: wire.peerURLs,
  });
}

/** The URLs of a member: a list, even of one. */
function checkUrls(urls: unknown): readonly string[] {
  if (!Array.isArray(urls)) throw new TypeError(`peerUrls must be an array of URLs, not ${shown(urls)}`);
  return urls.map((url) => checkText(url, 'a peer URL'));
}

/** etcd's calls about the members of the cluster. Changes reject with `UNKNOWN_OUTCOME` when their answer is lost. */
export class Cluster {
  readonly #connection: Connection;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  /** The members. With `serializable`, as the member that answers knows them, quorum or not. */
  async memberList(
    options: MemberCallOptions & { readonly serializable?: boolean } = {},
  ): Promise<readonly Member[]> {
    const { serializable = false, ...limits } = options;
    checkBoolean(serializable, 'serializable');
    const reply = await this.#connection.unary({
      ...memberLimitsOf(limits, 'memberList', this.#connection, ['serializable']),
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
    const { learner = false } = options;
    const peerURLs = checkUrls(peerUrls);
    const reply = await this.#connection.unary({
      ...limitsOf(options, 'memberAdd', ['learner']),
      kind: 'write',
      request: { isLearner: checkBoolean(learner, 'learner'), peerURLs },
      rpc: services.Cluster.MemberAdd,
      what: `add member ${peerURLs.join(', ')}`,
    });
    if (reply.member === null) throw new TypeError('etcd answered without the member it added');
    return readMember(reply.member);
  }

  /** Removes a member. Rejects with `MEMBER_NOT_FOUND`. Returns those that are left. */
  async memberRemove(id: bigint, options: CallOptions = {}): Promise<readonly Member[]> {
    const reply = await this.#connection.unary({
      ...limitsOf(options, 'memberRemove'),
      kind: 'write',
      request: { ID: checkUint64(id, 'id') },
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
      ...limitsOf(options, 'memberUpdate'),
      kind: 'write',
      request: { ID: checkUint64(id, 'id'), peerURLs: checkUrls(peerUrls) },
      rpc: services.Cluster.MemberUpdate,
      what: `update member ${id.toString(16)}`,
    });
    return reply.members.map(readMember);
  }

  /** Makes a learner a voting member. Rejects with `LEARNER_NOT_READY` until it has caught up. */
  async memberPromote(id: bigint, options: CallOptions = {}): Promise<readonly Member[]> {
    const reply = await this.#connection.unary({
      ...limitsOf(options, 'memberPromote'),
      kind: 'write',
      request: { ID: checkUint64(id, 'id') },
      rpc: services.Cluster.MemberPromote,
      what: `promote member ${id.toString(16)}`,
    });
    return reply.members.map(readMember);
  }
}
