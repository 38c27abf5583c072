import { chance } from '../../util/chance.js';

/** The raft term of a member that has won its one and only election. */
export const RAFT_TERM = 2n;

/** What a header tells of the store. */
export interface Revisioned {
  readonly revision: bigint;
}

/** Who answers, and at which revision. */
export interface Header {
  readonly clusterId: bigint;
  readonly memberId: bigint;
  readonly revision: bigint;
  readonly raftTerm: bigint;
}

/** Makes response headers: who answers, and at which revision. */
export class Headers {
  readonly clusterId: bigint;
  readonly memberId = randomId();
  readonly #store: Revisioned;

  constructor(store: Revisioned, clusterId = randomId()) {
    this.clusterId = clusterId;
    this.#store = store;
  }

  /** A header with this revision. @default the store's current one */
  at(revision: bigint = this.#store.revision): Header {
    return { clusterId: this.clusterId, memberId: this.memberId, revision, raftTerm: RAFT_TERM };
  }

  /** As the services of the cluster answer: who, and no revision. */
  ofCluster(): Header {
    return this.at(0n);
  }

  /** `response` with its header filled in around the revision it already has. */
  fill<T extends { header?: { revision?: bigint | undefined } | null | undefined }>(response: T): T {
    response.header = this.at(response.header?.revision ?? this.#store.revision);
    return response;
  }
}

function randomId(): bigint {
  return chance.int63();
}
