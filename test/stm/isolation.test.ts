// stm's levels, at random: transactions that read at the same time (keys, keys that are absent, ranges) while others write,
// judged by the history of the keys. `CONCLAVE_SEED` repeats the choices.
import assert from 'node:assert/strict';
import { it } from 'node:test';

import { Client, hasCode, type Isolation, type KeyValue, op, stm, type StmTransaction } from 'conclave';
import { checkIsolation, FaultProxy, type KeyChange, type KeySeen, type Observed } from 'conclave/testing';

import { makeLate } from '../model/late-line.js';
import { newRandom, type Random } from '../model/random.js';
import { onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';

const PREFIX = 'iso/';
const KEYS = ['a', 'b', 'c/1', 'c/2', 'c/3', 'd/1', 'd/2'].map((name) => PREFIX + name);
const RANGES = ['c/', 'd/', ''].map((name) => PREFIX + name);
const CLIENTS = 3;
const TASKS = 3;
const TURNS = 12;

const LEVELS: Readonly<Record<Isolation, Observed['level']>> = {
  readCommitted: 'committed',
  repeatableReads: 'repeatable',
  serializable: 'snapshot',
  serializableSnapshot: 'snapshot',
};
const ISOLATIONS = Object.keys(LEVELS) as Isolation[];

/** What one attempt saw and was to write. */
interface Seen {
  readonly gets: KeySeen[];
  readonly ranges: { readonly start: string; readonly end: string; readonly found: KeySeen[] }[];
  readonly writes: { readonly key: string; readonly value: string | undefined }[];
}

function sighting(key: string, kv: KeyValue | undefined): KeySeen {
  return { key, modRevision: kv?.modRevision ?? 0n };
}

/** One task: a transaction after the other, each attempt of which is observed. */
class Task {
  readonly observed: Observed[] = [];
  readonly #client: Client;
  readonly #name: string;
  readonly #random: Random;
  #values = 0;

  constructor(client: Client, name: string, random: Random) {
    this.#client = client;
    this.#name = name;
    this.#random = random;
  }

  async turn(): Promise<void> {
    const isolation = this.#random.pick(ISOLATIONS);
    const attempts: Seen[] = [];
    const prefetch = this.#random.chance(0.2) ? [this.#random.pick(KEYS)] : [];
    const outcome = await stm(
      this.#client,
      async (tx) => {
        const seen: Seen = { gets: [], ranges: [], writes: [] };
        attempts.push(seen);
        await this.#attempt(tx, seen);
      },
      { isolation, maxAttempts: 10, prefetch },
    ).then(
      ({ revision }): Observed['outcome'] => ({ is: 'committed', revision }),
      (error: unknown): Observed['outcome'] => {
        if (hasCode(error, 'CONFLICT')) return { is: 'void' };
        if (hasCode(error, 'UNKNOWN_OUTCOME')) return { is: 'unknown' };
        throw error;
      },
    );
    for (const [at, seen] of attempts.entries()) {
      const name = `${this.#name}, ${isolation}, attempt ${this.observed.length}`;
      const last = at === attempts.length - 1;
      this.observed.push({
        ...seen,
        level: LEVELS[isolation],
        name,
        outcome: last ? outcome : { is: 'void' },
      });
    }
  }

  /** Reads, several things at the same time, once or twice; then writes. */
  async #attempt(tx: StmTransaction, seen: Seen): Promise<void> {
    const random = this.#random;
    for (let stage = 0; stage < 1 + random.int(2); stage++) {
      const reads = Array.from({ length: 1 + random.int(4) }, () => this.#read(tx, seen));
      await Promise.all(reads);
    }
    const writes = random.chance(0.3) ? 0 : 1 + random.int(3);
    const keys = new Set(Array.from({ length: writes }, () => random.pick(KEYS)));
    for (const key of keys) {
      const value = random.chance(0.35) ? undefined : `${this.#name}-${this.#values++}`;
      if (value === undefined) tx.delete(key);
      else tx.put(key, value);
      seen.writes.push({ key, value });
    }
  }

  async #read(tx: StmTransaction, seen: Seen): Promise<void> {
    const random = this.#random;
    const key = random.pick(KEYS);
    switch (random.pick(['get', 'many', 'rev', 'range'] as const)) {
      case 'get':
        seen.gets.push(sighting(key, await tx.get(key)));
        return;
      case 'many': {
        const keys = [key, random.pick(KEYS)];
        const found = await tx.get(keys);
        seen.gets.push(...keys.map((each, at) => sighting(each, found[at])));
        return;
      }
      case 'rev':
        seen.gets.push({ key, modRevision: await tx.rev(key) });
        return;
      case 'range': {
        const start = random.pick(RANGES);
        const found = await tx.range({ prefix: start });
        const end = `${start.slice(0, -1)}0`; // '0' is the character after '/'.
        seen.ranges.push({ end, found: found.map((kv) => sighting(kv.key, kv)), start });
      }
    }
  }
}

/** Every change below the prefix since `startRevision`, up to the present. */
async function changesSince(client: Client, startRevision: bigint): Promise<KeyChange[]> {
  const { revision } = await client.kv.put(`${PREFIX}the end`, '');
  const changes: KeyChange[] = [];
  for await (const { events } of client.watch({ prefix: PREFIX }, { startRevision })) {
    for (const { type, kv } of events) {
      if (kv.modRevision === revision) return changes;
      changes.push({
        key: kv.key,
        revision: kv.modRevision,
        value: type === 'put' ? kv.string() : undefined,
      });
    }
  }
  return changes;
}

function through(proxy: FaultProxy): Client {
  return new Client({ endpoints: [proxy.endpoint] });
}

onEachBackend('isolation of stm', (backend) => {
  it('shows one state to reads that are made at the same time, whatever is written meanwhile', async () => {
    const direct = backend.client();
    await using proxy = await FaultProxy.start(backend.endpoints[0] ?? '', { grpc: true });
    await using client = through(proxy);
    await direct.kv.txn({ then: [op.put('one/a', '1'), op.put('one/b', '1')] });
    const reading = proxy.onCall('/etcdserverpb.KV/Txn', 'holdReply');
    const seeing = stm(client, (tx) =>
      Promise.all([tx.get('one/a'), tx.get('one/b'), tx.range({ prefix: 'one/' }), tx.get('one/c')]),
    );
    await reading.hit();
    await direct.kv.txn({ then: [op.put('one/a', '2'), op.put('one/b', '2'), op.put('one/c', '2')] });
    reading.release();
    const { result, attempts } = await seeing;
    const [a, b, all, c] = result;
    assert.deepEqual([a?.string(), b?.string(), c?.string()], ['1', '1', undefined]);
    assert.deepEqual(
      all.map((kv) => kv.string()),
      ['1', '1'],
    );
    assert.equal(attempts, 1);
    await direct.kv.delete({ prefix: 'one/' });
  });

  it('sets the revision with the next read when the first one fails', async () => {
    const direct = backend.client();
    await using proxy = await FaultProxy.start(backend.endpoints[0] ?? '', { grpc: true });
    await using client = through(proxy);
    await direct.kv.txn({ then: [op.put('one/a', '1'), op.put('one/b', '1')] });
    const status = { code: 3, message: 'etcdserver: duplicate key given in txn request' };
    const failing = proxy.onCall('/etcdserverpb.KV/Txn', 'fail', { status });
    const { result } = await stm(client, async (tx) => {
      const reads = [tx.get('one/a'), tx.get('one/b'), tx.range({ prefix: 'one/' })] as const;
      const [a, b, all] = await Promise.allSettled(reads);
      return [a.status, b.status, all.status];
    });
    assert.equal(failing.hits, 1);
    assert.deepEqual(result, ['rejected', 'fulfilled', 'fulfilled']);
    await direct.kv.delete({ prefix: 'one/' });
  });

  it('keeps what each level promises, at random', async () => {
    const random = newRandom(`isolation of stm (${backend.kind})`);
    await using proxy = await FaultProxy.start(backend.endpoints[0] ?? '', { grpc: true });
    const late = makeLate(proxy, () => random.int(2 ** 32));
    const direct = backend.client();
    const { revision: before } = await direct.kv.range(PREFIX, { countOnly: true });
    const clients = Array.from({ length: CLIENTS }, () => through(proxy));
    const tasks = clients.flatMap((client, at) =>
      Array.from({ length: TASKS }, (_, task) => new Task(client, `t${at}${task}`, random.fork())),
    );
    await Promise.all(
      tasks.map(async (task) => {
        for (let turn = 0; turn < TURNS; turn++) await task.turn();
      }),
    );
    await late?.settled();
    const history = await changesSince(direct, before + 1n);
    const observed = tasks.flatMap((task) => task.observed);
    const committed = observed.filter(({ outcome }) => outcome.is === 'committed').length;
    console.log(`# ${observed.length} attempts, ${committed} committed, ${history.length} changes`);
    const problems = checkIsolation(history, observed);
    assert.deepEqual(problems.slice(0, 10), []);
    assert.ok(committed > (CLIENTS * TASKS * TURNS) / 2);
    await direct.kv.delete({ prefix: PREFIX });
    await Promise.all(clients.map((client) => client.close()));
    // The records' leases end with the clients.
    await until(async () => (await direct.lease.list()).length === 0, { timeoutMs: 40_000 });
  });
});
