import { after, before, type TestContext } from 'node:test';

import {
  Client,
  type ClientOptions,
  Session,
  type SessionOptions,
  type WatchBatch,
  type Watcher,
} from 'conclave';
import { type EtcdCluster, type StartEtcdOptions, FaultProxy, startEtcd } from 'conclave/testing';
import { services } from '#conclave/proto/services.js';
import { until } from '../support/until.js';

/** The rpcs that faults are set on. */
export const RPC = {
  delete: '/etcdserverpb.KV/DeleteRange',
  grant: '/etcdserverpb.Lease/LeaseGrant',
  keepAlive: '/etcdserverpb.Lease/LeaseKeepAlive',
  put: '/etcdserverpb.KV/Put',
  range: '/etcdserverpb.KV/Range',
  revoke: '/etcdserverpb.Lease/LeaseRevoke',
  timeToLive: '/etcdserverpb.Lease/LeaseTimeToLive',
  txn: '/etcdserverpb.KV/Txn',
  watch: '/etcdserverpb.Watch/Watch',
} as const;

/** How a call can be lost; each of them in turn. */
export const LOSSES = ['cut', 'reset', 'silence'] as const;

/** What a suite has of its etcd. */
export type SuiteEtcd = Pick<EtcdCluster, 'endpoint' | 'endpoints' | 'leader' | 'members' | 'version'>;

type Place = FaultProxy | string;

/** What a scene is played on: an etcd, or a backend of a suite. */
export type Stage = Pick<EtcdCluster, 'endpoints'>;

/** Whether a transaction compares nothing and does nothing but read, as a line is read. */
export function onlyReads(message: Buffer): boolean {
  const { compare, success } = services.KV.Txn.requestDeserialize(message);
  return compare.length === 0 && success.every(({ requestRange }) => requestRange !== undefined);
}

/** Whether a transaction, as sent, deletes something. */
export function deletes(message: Buffer): boolean {
  const { success } = services.KV.Txn.requestDeserialize(message);
  return success.some((op) => op.requestDeleteRange != null);
}

/** What one test of faults is played with. All that it makes is closed when the test ends, last made first. */
export class Scene {
  /** A client that no fault strikes. */
  readonly direct: Client;
  readonly #stage: Stage;
  readonly #endings: (() => Promise<unknown>)[] = [];

  constructor(t: TestContext, stage: Stage, options: Omit<ClientOptions, 'endpoints'> = {}) {
    this.#stage = stage;
    this.direct = new Client({ ...options, endpoints: stage.endpoints });
    this.atEnd(() => this.direct.close());
    t.after(async () => {
      for (const end of this.#endings.reverse()) await end();
    });
  }

  /** Does something when the test ends, before what was made earlier is closed. */
  atEnd(end: () => Promise<unknown>): void {
    this.#endings.push(end);
  }

  /** A proxy that sees calls, in front of a member. */
  async proxy(member = 0): Promise<FaultProxy> {
    const target = this.#stage.endpoints[member];
    if (target === undefined) throw new RangeError(`there is no member ${member}`);
    const proxy = await FaultProxy.start(target, { grpc: true });
    this.atEnd(() => proxy.close());
    return proxy;
  }

  /** A client that reaches etcd through `places`. */
  client(places: Place | readonly Place[], options: Omit<ClientOptions, 'endpoints'> = {}): Client {
    const endpoints = [places].flat().map((place) => (typeof place === 'string' ? place : place.endpoint));
    const client = new Client({ ...options, endpoints });
    this.atEnd(() => client.close());
    return client;
  }

  /** A session; its lease is gone when the test ends, whatever became of it. */
  async session(client: Client, options: SessionOptions = {}): Promise<Session> {
    const session = await Session.open(client, { timeoutMs: 10_000, ttlSeconds: 5, ...options });
    this.atEnd(async () => {
      session.orphan();
      await this.direct.lease.revoke(session.leaseId);
    });
    return session;
  }

  /** The keys below `prefix`, in the order of their creation, as etcd has them. */
  async keys(prefix: string): Promise<string[]> {
    const { kvs } = await this.direct.kv.range({ prefix }, { keysOnly: true, sort: { by: 'create' } });
    return kvs.map((kv) => kv.key);
  }

  /** Resolves once there are `count` keys below `prefix`. */
  async untilKeys(prefix: string, count: number, timeoutMs = 10_000): Promise<void> {
    const what = `${count} keys below ${prefix}`;
    await until(async () => (await this.keys(prefix)).length === count, { timeoutMs, what });
  }
}

/** A real etcd for a suite: there while its tests run, which must leave nothing in it. */
export function etcdOfSuite(options: StartEtcdOptions = {}): SuiteEtcd {
  let running: EtcdCluster | undefined;
  const etcd = (): EtcdCluster => {
    if (running === undefined) throw new Error('etcd runs only while the tests do');
    return running;
  };
  before(async () => {
    running = await startEtcd(options);
  });
  after(async () => {
    await assertNothingLeft(etcd());
    await etcd().close();
  });
  return {
    get endpoint() {
      return etcd().endpoint;
    },
    get endpoints() {
      return etcd().endpoints;
    },
    leader: () => etcd().leader(),
    get members() {
      return etcd().members;
    },
    get version() {
      return etcd().version;
    },
  };
}

/** Fails when a key or a lease is left. Waits for the leases of processes that were killed to run out. */
export async function assertNothingLeft(etcd: Stage): Promise<void> {
  const client = new Client({ endpoints: etcd.endpoints });
  try {
    await until(async () => (await client.lease.list()).length === 0, { what: 'no lease is left' });
    const { kvs } = await client.kv.range({ prefix: '' }, { keysOnly: true });
    if (kvs.length > 0) throw new Error(`left behind: ${kvs.map((kv) => kv.key).join(', ')}`);
  } finally {
    await client.close();
  }
}

/** How a promise is settled, without waiting for it to be; `pending` for as long as it is not. */
export function fate<T>(promise: Promise<T>): { readonly state: 'pending' | 'resolved' | 'rejected' } {
  const fate: { state: 'pending' | 'resolved' | 'rejected' } = { state: 'pending' };
  promise.then(
    () => (fate.state = 'resolved'),
    () => (fate.state = 'rejected'),
  );
  return fate;
}

/** Milliseconds that `work` takes until it is settled, and how. */
export async function timed<T>(
  work: Promise<T>,
): Promise<{ readonly ms: number; readonly value?: T; readonly error?: unknown }> {
  const startedAt = performance.now();
  try {
    const value = await work;
    return { ms: performance.now() - startedAt, value };
  } catch (error) {
    return { error, ms: performance.now() - startedAt };
  }
}

/** The next batch of a watch, which must not be over. */
export async function nextOf(watch: Watcher): Promise<WatchBatch> {
  const batch = await watch.next();
  if (batch.done === true) throw new Error('the watch is over');
  return batch.value;
}

/** Fails unless the events seen are those expected, each once and in order; says in short what is wrong. */
export function assertSame(seen: readonly bigint[], expected: readonly bigint[]): void {
  const known = new Set(seen);
  const missing = expected.filter((each) => !known.has(each));
  const counts = `${seen.length} seen (${known.size} different) of ${expected.length}, ${missing.length} missing`;
  const at = seen.findIndex((each, index) => each !== expected[index]);
  if (at >= 0 || missing.length > 0) throw new Error(`${counts}; the first difference is at ${at}`);
}
