import type { AlarmType } from '../proto/messages.gen.js';
import { services } from '../proto/services.js';
import type { CallOptions } from './call.js';
import type { Connection } from './connection.js';
import type { Endpoint } from './endpoint.js';
import { readFailure } from './status.js';
import type { ServiceError } from '@grpc/grpc-js';

/** Asks one member, by its endpoint as the client was given it, instead of any. */
export interface MemberCallOptions extends CallOptions {
  readonly endpoint?: string | undefined;
}

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
}

/** An alarm raised by a member. */
export interface Alarm {
  readonly memberId: bigint;
  readonly alarm: AlarmType;
}

/** etcd's calls for operators. */
export class Maintenance {
  readonly #connection: Connection;
  #version: Promise<string> | undefined;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  /** How a member is doing. */
  async status(options: MemberCallOptions = {}): Promise<MemberStatus> {
    const reply = await this.#connection.unary({
      ...this.#limits(options),
      kind: 'read',
      request: {},
      rpc: services.Maintenance.Status,
      what: 'status',
    });
    return {
      dbSize: reply.dbSize,
      dbSizeInUse: reply.dbSizeInUse,
      errors: reply.errors,
      isLearner: reply.isLearner,
      leader: reply.leader,
      memberId: reply.header?.memberId ?? 0n,
      raftAppliedIndex: reply.raftAppliedIndex,
      raftIndex: reply.raftIndex,
      raftTerm: reply.raftTerm,
      revision: reply.header?.revision ?? 0n,
      version: reply.version,
    };
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

  /** The alarms raised. */
  async alarmList(options: CallOptions = {}): Promise<readonly Alarm[]> {
    const reply = await this.#connection.unary({
      ...options,
      kind: 'read',
      request: { action: 'GET' },
      rpc: services.Maintenance.Alarm,
      what: 'list alarms',
    });
    return reply.alarms.map(({ memberID, alarm }) => ({ alarm, memberId: memberID }));
  }

  /** Clears an alarm, or all of them when none is given. Returns those cleared. */
  async alarmDisarm(alarm?: Alarm, options: CallOptions = {}): Promise<readonly Alarm[]> {
    const wanted = alarm === undefined ? await this.alarmList(options) : [alarm];
    const cleared: Alarm[] = [];
    for (const each of wanted) {
      const reply = await this.#connection.unary({
        ...options,
        kind: 'guarded',
        request: { action: 'DEACTIVATE', alarm: each.alarm, memberID: each.memberId },
        rpc: services.Maintenance.Alarm,
        what: `disarm ${each.alarm}`,
      });
      cleared.push(...reply.alarms.map((row) => ({ alarm: row.alarm, memberId: row.memberID })));
    }
    return cleared;
  }

  /** Gives unused space back. Blocks the member meanwhile: give it time with `timeoutMs`. */
  async defragment(options: MemberCallOptions = {}): Promise<void> {
    await this.#connection.unary({
      ...this.#limits(options),
      kind: 'guarded',
      request: {},
      rpc: services.Maintenance.Defragment,
      what: 'defragment',
    });
  }

  /** A hash of the member's keys up to `revision` (0n: all), for comparing members. */
  async hashKv(
    revision = 0n,
    options: MemberCallOptions = {},
  ): Promise<{ readonly hash: number; readonly compactRevision: bigint; readonly revision: bigint }> {
    const reply = await this.#connection.unary({
      ...this.#limits(options),
      kind: 'read',
      request: { revision },
      rpc: services.Maintenance.HashKV,
      what: 'hash',
    });
    return {
      compactRevision: reply.compactRevision,
      hash: reply.hash,
      revision: reply.header?.revision ?? 0n,
    };
  }

  /** Hands raft leadership to `targetId`. Only the leader takes this call (`NOT_LEADER` otherwise): name its `endpoint`. */
  async moveLeader(targetId: bigint, options: MemberCallOptions = {}): Promise<void> {
    await this.#connection.unary({
      ...this.#limits(options),
      kind: 'write',
      request: { targetID: targetId },
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
    const actions = { cancel: 'CANCEL', enable: 'ENABLE', validate: 'VALIDATE' } as const;
    const reply = await this.#connection.unary({
      ...options,
      kind: action === 'validate' ? 'read' : 'write',
      request: { action: actions[action], version },
      rpc: services.Maintenance.Downgrade,
      what: `downgrade ${action}`,
    });
    return { version: reply.version };
  }

  /** The member's database, piece by piece, with its sha256 as the last 32 bytes. */
  async *snapshot(
    options: { readonly endpoint?: string | undefined; readonly signal?: AbortSignal | undefined } = {},
  ): AsyncGenerator<Buffer, void, undefined> {
    const endpoint = this.#endpoint(options.endpoint);
    const stream = await this.#connection.download(
      services.Maintenance.Snapshot,
      {},
      { endpoint, signal: options.signal },
    );
    try {
      for await (const part of stream as AsyncIterable<{ readonly blob: Buffer }>) yield part.blob;
    } catch (error) {
      throw readFailure(error as ServiceError, 'snapshot', { url: options.endpoint ?? 'a member' }).error;
    } finally {
      stream.cancel();
    }
  }

  #endpoint(url: string | undefined): Endpoint | undefined {
    return url === undefined ? undefined : this.#connection.endpoint(url);
  }

  #limits({
    endpoint,
    ...limits
  }: MemberCallOptions): CallOptions & { readonly endpoint: Endpoint | undefined } {
    return { ...limits, endpoint: this.#endpoint(endpoint) };
  }
}
