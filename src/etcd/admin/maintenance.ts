import type { AlarmType, StatusResponse } from '../../proto/messages.gen.js';
import { services } from '../../proto/services.js';
import { checkChoice, checkInt64 } from '../../util/validate.js';
import type { CallOptions, MemberCallOptions } from '../transport/call.js';
import type { Connection } from '../transport/connection.js';
import type { Endpoint } from '../transport/endpoint.js';
import { timeLeft } from '../transport/time-left.js';
import { checkText, checkUint64, limitsOf, memberLimitsOf } from './admin-options.js';
import { type KnownFault, knownFaultsOf } from './known-faults.js';
import { downloadSnapshot } from './snapshot.js';
import { inJson } from '../../util/shown.js';

export type { MemberCallOptions } from '../transport/call.js';
export type { FaultyMember, KnownFault, KnownFaultId } from './known-faults.js';

/** How one member is doing. */
export interface MemberStatus {
  /** The member that answered. */
  readonly memberId: bigint;
  readonly version: string;
  /** Bytes allocated by the store, and those of them in use. */
  readonly dbSize: bigint;
  readonly dbSizeInUse: bigint;
  /** The leader's member id; 0n when there is none. */
  readonly leader: bigint;
  readonly raftIndex: bigint;
  readonly raftTerm: bigint;
  readonly raftAppliedIndex: bigint;
  readonly isLearner: boolean;
  readonly errors: readonly string[];
  readonly revision: bigint;
  /** The version of the form that the store is in, such as `3.6.0`; undefined before etcd 3.6. */
  readonly storageVersion: string | undefined;
  /** Bytes that the store may come to have; undefined before etcd 3.6. */
  readonly dbSizeQuota: bigint | undefined;
  /** Whether the cluster is being downgraded, and to which version; undefined before etcd 3.6. */
  readonly downgradeInfo: { readonly enabled: boolean; readonly targetVersion: string } | undefined;
}

/** A hash of a member's keys. */
export interface KvHash {
  readonly hash: number;
  /** The revision before which history was compacted when it was made; hashes of members compare only if it is the same. */
  readonly compactRevision: bigint;
  /** The member's revision when it answered. */
  readonly revision: bigint;
  /** The revision up to which it goes; undefined before etcd 3.6. */
  readonly hashRevision: bigint | undefined;
}

/** An alarm raised by a member. */
export interface Alarm {
  readonly memberId: bigint;
  readonly alarm: AlarmType;
}

const ALARMS: readonly AlarmType[] = ['NONE', 'NOSPACE', 'CORRUPT'];
const DOWNGRADES = { cancel: 'CANCEL', enable: 'ENABLE', validate: 'VALIDATE' } as const;

/** etcd's calls for operators. */
export class Maintenance {
  readonly #connection: Connection;
  #version: Promise<string> | undefined;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  /** How a member is doing. */
  async status(options: MemberCallOptions = {}): Promise<MemberStatus> {
    const reply = await this.#status(memberLimitsOf(options, 'status', this.#connection));
    return inJson({
      dbSize: reply.dbSize,
      dbSizeInUse: reply.dbSizeInUse,
      dbSizeQuota: reply.dbSizeQuota === 0n ? undefined : reply.dbSizeQuota,
      downgradeInfo: reply.downgradeInfo ?? undefined,
      errors: reply.errors,
      isLearner: reply.isLearner,
      leader: reply.leader,
      memberId: reply.header?.memberId ?? 0n,
      raftAppliedIndex: reply.raftAppliedIndex,
      raftIndex: reply.raftIndex,
      raftTerm: reply.raftTerm,
      revision: reply.header?.revision ?? 0n,
      storageVersion: reply.storageVersion === '' ? undefined : reply.storageVersion,
      version: reply.version,
    });
  }

  /** The version of the first member asked, for instance `3.5.23`. Asked once in a client's life. */
  serverVersion(): Promise<string> {
    this.#version ??= this.status().then(
      (status) => status.version,
      (error: unknown) => {
        this.#version = undefined;
        throw error;
      },
    );
    return this.#version;
  }

  /**
   * What is known to be wrong in the versions of the client's members, or of the one named: asks each for its `status`, at
   * the same time, and rejects as that does when one does not answer. Empty if nothing is known. Nothing is printed.
   */
  async knownFaults(options: MemberCallOptions = {}): Promise<readonly KnownFault[]> {
    const { endpoint, ...limits } = memberLimitsOf(options, 'knownFaults', this.#connection);
    const asked = endpoint === undefined ? this.#connection.endpoints : [endpoint];
    const members = asked.map(async (each) => {
      const { version } = await this.#status({ ...limits, endpoint: each });
      return { endpoint: each.url, version };
    });
    return knownFaultsOf(await Promise.all(members));
  }

  /** The alarms raised. */
  async alarmList(options: CallOptions = {}): Promise<readonly Alarm[]> {
    const reply = await this.#connection.unary({
      ...limitsOf(options, 'alarmList'),
      kind: 'read',
      request: { action: 'GET' },
      rpc: services.Maintenance.Alarm,
      what: 'list alarms',
    });
    return reply.alarms.map(({ memberID, alarm }) => ({ alarm, memberId: memberID }));
  }

  /** Clears an alarm, or all of them when none is given, within one time limit. Returns those cleared. */
  async alarmDisarm(alarm?: Alarm, options: CallOptions = {}): Promise<readonly Alarm[]> {
    if (alarm !== undefined) {
      checkChoice(alarm.alarm, ALARMS, 'alarm.alarm');
      checkUint64(alarm.memberId, 'alarm.memberId');
    }
    const left = timeLeft(this.#connection, limitsOf(options, 'alarmDisarm'));
    const wanted = alarm === undefined ? await this.alarmList(left()) : [alarm];
    const cleared: Alarm[] = [];
    for (const each of wanted) {
      const reply = await this.#connection.unary({
        ...left(),
        kind: 'guarded',
        request: { action: 'DEACTIVATE', alarm: each.alarm, memberID: each.memberId },
        rpc: services.Maintenance.Alarm,
        what: `disarm ${each.alarm}`,
      });
      cleared.push(...reply.alarms.map((row) => ({ alarm: row.alarm, memberId: row.memberID })));
    }
    return cleared;
  }

  /**
   * Gives one member's unused space back: the one named, or any. Blocks that member meanwhile: give it time with `timeoutMs`.
   * Never sent twice: rejects with `UNKNOWN_OUTCOME` when the answer is lost, or does not come in time; it goes on then.
   */
  async defragment(options: MemberCallOptions = {}): Promise<void> {
    await this.#connection.unary({
      ...memberLimitsOf(options, 'defragment', this.#connection),
      kind: 'write',
      request: {},
      rpc: services.Maintenance.Defragment,
      what: 'defragment',
    });
  }

  /** A hash of the member's keys up to `revision` (0n: all), for comparing members. Left with its member while that is alive. */
  async hashKv(revision = 0n, options: MemberCallOptions = {}): Promise<KvHash> {
    const reply = await this.#connection.unary({
      ...memberLimitsOf(options, 'hashKv', this.#connection),
      heavy: true,
      kind: 'read',
      request: { revision: checkInt64(revision, 'revision', 0n) },
      rpc: services.Maintenance.HashKV,
      what: 'hash',
    });
    return inJson({
      compactRevision: reply.compactRevision,
      hash: reply.hash,
      hashRevision: reply.hashRevision === 0n ? undefined : reply.hashRevision,
      revision: reply.header?.revision ?? 0n,
    });
  }

  /**
   * A hash of all that one member's database has, its own bookkeeping included; to compare what members hold, use `hashKv`.
   * Left with its member while that is alive.
   */
  async hash(options: MemberCallOptions = {}): Promise<{ readonly hash: number; readonly revision: bigint }> {
    const reply = await this.#connection.unary({
      ...memberLimitsOf(options, 'hash', this.#connection),
      heavy: true,
      kind: 'read',
      request: {},
      rpc: services.Maintenance.Hash,
      what: 'hash the database',
    });
    return inJson({ hash: reply.hash, revision: reply.header?.revision ?? 0n });
  }

  /** Hands raft leadership to `targetId`. Only the leader takes this call (`NOT_LEADER` otherwise): name its `endpoint`. */
  async moveLeader(targetId: bigint, options: MemberCallOptions = {}): Promise<void> {
    await this.#connection.unary({
      ...memberLimitsOf(options, 'moveLeader', this.#connection),
      kind: 'write',
      request: { targetID: checkUint64(targetId, 'targetId') },
      rpc: services.Maintenance.MoveLeader,
      what: `move leader to ${targetId.toString(16)}`,
    });
  }

  /** Asks whether the cluster can be downgraded to `version`, begins doing so, or calls it off. etcd 3.5 and later. */
  async downgrade(
    action: 'validate' | 'enable' | 'cancel',
    version = '',
    options: CallOptions = {},
  ): Promise<{ readonly version: string }> {
    checkChoice(action, Object.keys(DOWNGRADES), 'action');
    const reply = await this.#connection.unary({
      ...limitsOf(options, 'downgrade'),
      kind: action === 'validate' ? 'read' : 'write',
      request: { action: DOWNGRADES[action], version: checkText(version, 'version') },
      rpc: services.Maintenance.Downgrade,
      what: `downgrade ${action}`,
    });
    return { version: reply.version };
  }

  /**
   * The member's database, piece by piece, with its sha256 as the last 32 bytes, which is checked: a loop that ends has
   * seen all of it. The first piece must come within `timeoutMs`, by default the client's; one that is given limits the
   * whole download. Throws the signal's reason, `CLOSED`, `DEADLINE_EXCEEDED`, and `UNAVAILABLE` when it breaks off.
   */
  snapshot(options: MemberCallOptions = {}): AsyncGenerator<Buffer, void, undefined> {
    return downloadSnapshot(this.#connection, memberLimitsOf(options, 'snapshot', this.#connection));
  }

  #status(limits: CallOptions & { readonly endpoint: Endpoint | undefined }): Promise<StatusResponse> {
    const rpc = services.Maintenance.Status;
    return this.#connection.unary({ ...limits, kind: 'read', request: {}, rpc, what: 'status' });
  }
}
