// All that a client does at once, while members fall silent, are restarted, or are replaced until none of the first is left.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import {
  type Cache,
  type Client,
  compare,
  hasCode,
  type Lock,
  Mutex,
  op,
  type Session,
  type Watcher,
} from 'conclave';
import { startEtcd } from 'conclave/testing';

import { further, load, type Load } from '../support/load.js';
import { joinMember, removeMember } from '../support/members.js';
import { until } from '../support/until.js';
import { assertSame, etcdOfSuite, nextOf, Scene, timed } from './scene.js';

const QUICK = { electionTimeoutMs: 500, heartbeatIntervalMs: 50, members: 3 } as const;

/** What a client does below a prefix of its own: reads, writes that see one another, a watch, a cache, a lock that is held. */
class Busy {
  readonly calls: Load;
  readonly #client: Client;
  readonly #prefix: string;
  readonly #session: Session;
  readonly #lock: Lock;
  readonly #cache: Cache;
  readonly #watch: Watcher;
  readonly #seen: bigint[] = [];
  readonly #watching: Promise<void>;
  readonly #written = new Map<string, number>();

  private constructor(client: Client, prefix: string, session: Session, lock: Lock) {
    this.#client = client;
    this.#prefix = prefix;
    this.#session = session;
    this.#lock = lock;
    this.#watch = client.watch({ prefix });
    this.#watching = this.#follow();
    this.#cache = client.cache({ prefix });
    this.calls = load((name) => this.#work(prefix + name));
  }

  static async start(scene: Scene, client: Client, name: string): Promise<Busy> {
    const session = await scene.session(client, { ttlSeconds: 5 });
    const lock = await new Mutex(session, `lock-of-${name}`).lock();
    const busy = new Busy(client, `${name}/`, session, lock);
    await busy.#watch.created;
    return busy;
  }

  /** Nothing was lost: no call, no event, not the lock. */
  async end(): Promise<void> {
    await this.calls.stop();
    const { kvs } = await this.#client.kv.range({ prefix: this.#prefix });
    const { kvs: cached } = await this.#cache.list();
    const told = (each: typeof cached): unknown => each.map((kv) => [kv.key, kv.string(), kv.modRevision]);
    assert.deepEqual(told(cached), told(kvs));
    const last = kvs.reduce((most, { modRevision }) => (modRevision > most ? modRevision : most), 0n);
    const written = await this.#history(last);
    await until(() => this.#seen.at(-1) === last, { timeoutMs: 15_000, what: 'the last event comes' });
    this.#watch.close();
    await this.#watching;
    assertSame(this.#seen, written);
    this.#cache.close();
    assert.ok(this.#lock.held && !this.#lock.signal.aborted);
    assert.equal(this.#session.state, 'active');
    const { succeeded } = await this.#lock.txn({ then: [op.delete({ prefix: this.#prefix })] });
    assert.ok(succeeded);
    await this.#lock.unlock();
  }

  /** Writes one number more, once, and sees it by a read and in the cache. */
  async #work(key: string): Promise<void> {
    const next = (this.#written.get(key) ?? 0) + 1;
    // As version counts what was written, a second copy of the request changes nothing.
    const isNext = compare.version(key, '=', BigInt(next - 1));
    await this.#client.kv.txn({ if: [isNext], then: [op.put(key, String(next))] }, { idempotent: true });
    this.#written.set(key, next);
    assert.equal((await this.#client.kv.get(key))?.string(), String(next));
    // Its watch leaves a silent member when a ping is not answered.
    assert.equal((await this.#cache.get(key, { timeoutMs: 15_000 }))?.string(), String(next));
  }

  async #follow(): Promise<void> {
    for await (const { events } of this.#watch) this.#seen.push(...events.map(({ kv }) => kv.modRevision));
  }

  /** The revisions at which something was written, the last of them `last`, as etcd tells them when all is calm. */
  async #history(last: bigint): Promise<bigint[]> {
    const past = this.#client.watch({ prefix: this.#prefix }, { startRevision: 1n });
    const all: bigint[] = [];
    while (all.at(-1) !== last) all.push(...(await nextOf(past)).events.map(({ kv }) => kv.modRevision));
    past.close();
    return all;
  }
}

/** Puts one key, time and again, until it is stopped, whatever becomes of it. */
class Writer {
  done = 0;
  longestMs = 0;
  readonly client: Client;
  readonly failures: unknown[] = [];
  readonly #ended: Promise<void>;
  #goesOn = true;

  constructor(client: Client, key: string, leaseId: bigint) {
    this.client = client;
    this.#ended = this.#write(key, leaseId);
  }

  async stop(): Promise<this> {
    this.#goesOn = false;
    await this.#ended;
    return this;
  }

  async #write(key: string, leaseId: bigint): Promise<void> {
    while (this.#goesOn) {
      const { error, ms } = await timed(this.client.kv.put(key, 'x', { leaseId }));
      if (error === undefined) this.done += 1;
      else this.failures.push(error);
      if (hasCode(error, 'CLOSED')) return;
      this.longestMs = Math.max(ms, this.longestMs);
    }
  }
}

describe('under load', () => {
  const etcd = etcdOfSuite(QUICK);

  test('all members are restarted, one after the other: no call fails, no event and no lock is lost', async (t) => {
    const scene = new Scene(t, etcd);
    const all = await Promise.all(
      ['a', 'b'].map((name) => Busy.start(scene, scene.client(etcd.endpoints), name)),
    );
    for (const member of etcd.members) {
      for (const { calls } of all) await further(calls);
      await member.restart();
    }
    for (const { calls } of all) await further(calls);
    for (const each of all) await each.end();
  });

  test('a member that falls silent for good fails the plain writes that it was asked, and nothing else', async (t) => {
    const scene = new Scene(t, etcd);
    const limitMs = 2500;
    const leader = await until(() => etcd.leader());
    const silent = etcd.members.find((member) => member !== leader);
    assert.ok(silent !== undefined);
    const clients: Client[] = [];
    const onIt = (): Client[] => clients.filter(({ endpoint }) => endpoint === silent.endpoint);
    while (clients.length < 3 || onIt().length < 2) {
      const client = scene.client(etcd.endpoints, { batch: 'none', timeoutMs: limitMs });
      await client.kv.get('silent');
      clients.push(client);
    }
    const other = scene.client(etcd.endpoints);
    const busy = await Busy.start(scene, other, 'silent');
    // With it goes what the silent member writes yet, when it is woken.
    const lease = await scene.direct.lease.grant(60);
    scene.atEnd(() => scene.direct.lease.revoke(lease.id));
    const writes = clients.flatMap((client, at) =>
      [0, 1].map((nth) => new Writer(client, `plain/${at}-${nth}`, lease.id)),
    );
    await until(() => writes.every(({ done }) => done > 5));
    const onItThen = new Set(onIt());
    await silent.pause();
    scene.atEnd(() => silent.resume());
    await until(() => onIt().length === 0, { what: 'it is left' });
    const after = writes.map(({ done }) => done);
    await until(() => writes.every(({ done }, at) => done > (after[at] ?? 0) + 5), { what: 'all go on' });
    await busy.end();
    for (const write of writes) {
      const { failures, longestMs } = await write.stop();
      assert.ok(longestMs < limitMs + 500, `${longestMs} ms`);
      assert.ok(failures.length <= (onItThen.has(write.client) ? 1 : 0), failures.map(String).join());
      assert.ok(
        failures.every((error) => hasCode(error, 'UNKNOWN_OUTCOME')),
        String(failures[0]),
      );
    }
  });
});

describe('endpoints that are replaced one by one', () => {
  test('until none of the first is left: no call fails, no event and no lock is lost', async (t) => {
    // Else etcd takes a member, and lets one go, only when all have known one another for 5 s.
    const etcd = await startEtcd({ ...QUICK, args: ['--strict-reconfig-check=false'] });
    t.after(() => etcd.close());
    const scene = new Scene(t, etcd);
    const client = scene.client(etcd.endpoints);
    const busy = await Busy.start(scene, client, 'replaced');
    for (const leaving of etcd.members) {
      await further(busy.calls);
      const joined = await joinMember(t, client);
      client.setEndpoints([...client.endpoints.filter((each) => each !== leaving.endpoint), joined.endpoint]);
      await further(busy.calls);
      const members = await client.cluster.memberList();
      const { id } = members.find(({ clientUrls }) => clientUrls.includes(leaving.endpoint)) ?? { id: 0n };
      await removeMember(client, id);
      await leaving.ended();
    }
    assert.ok(client.endpoints.every((endpoint) => !etcd.endpoints.includes(endpoint)));
    await further(busy.calls);
    await busy.end();
    scene.direct.setEndpoints(client.endpoints);
  });
});
