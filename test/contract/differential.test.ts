/**
 * The embedded server against a real etcd: random sequences of operations, valid and not, get the same answers, word for
 * word. Both begin at the same revision and do the same, so revisions are compared as they are.
 *
 * CONCLAVE_SEED repeats a run, CONCLAVE_RUNS sets how many sequences are tried.
 */
import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import { EmbeddedServer } from 'conclave/embedded';
import { type EtcdCluster, startEtcd } from 'conclave/testing';
import { until } from '../support/until.js';
import { type Later, type Now, operation, type Operation } from './differential/operations.js';
import { ServerSide } from './differential/server-side.js';

const { CONCLAVE_SEED, CONCLAVE_RUNS } = process.env;
const seed = Number(CONCLAVE_SEED ?? randomInt(2 ** 31));
const DEFAULT_RUNS = 10_000;
const DEFAULT_BUDGET_MS = 20_000;

describe('the embedded server and etcd', () => {
  let embedded: EmbeddedServer;
  let etcd: EtcdCluster;
  let sides: readonly [ServerSide, ServerSide];

  before(async () => {
    [embedded, etcd] = await Promise.all([EmbeddedServer.start(), startEtcd()]);
    sides = [new ServerSide(embedded.endpoint, 'embedded'), new ServerSide(etcd.endpoint, 'etcd')];
  });
  after(async () => {
    await Promise.all(sides.map((side) => side.close()));
    await Promise.all([embedded.close(), etcd.close()]);
  });

  test('give the same answers to random sequences', async (t) => {
    t.diagnostic(`seed ${seed}: CONCLAVE_SEED=${seed}`);
    let tried = 0;
    let asked = 0;
    let running = Promise.resolve();
    const sameAnswers = fc.asyncProperty(
      fc.array(operation, { maxLength: 40, minLength: 1, size: 'max' }),
      async (sequence) => {
        tried += 1;
        asked += sequence.length;
        running = prepare(sides).then(() => compareAnswers(sides, sequence));
        await running;
      },
    );
    const limits =
      CONCLAVE_RUNS === undefined
        ? { interruptAfterTimeLimit: DEFAULT_BUDGET_MS, numRuns: DEFAULT_RUNS }
        : { numRuns: Number(CONCLAVE_RUNS) };
    await fc.assert(sameAnswers, { ...limits, includeErrorInReport: true, seed });
    await running; // What the time limit has cut short still has to end.
    t.diagnostic(`${tried} sequences, ${asked} operations`);
    assert.ok(asked > 0);
    await prepare(sides);
  });
});

type Sides = readonly [ServerSide, ServerSide];

/** Empties both and brings them to one revision; after a difference they may be at two. */
async function prepare(sides: Sides): Promise<void> {
  await Promise.all(
    sides.map(async (side) => {
      side.unwatchAll();
      await side.client.kv.delete({ prefix: '' });
      for (const id of await side.client.lease.list()) await side.client.lease.revoke(id);
    }),
  );
  const revisions = await Promise.all(sides.map((side) => side.revision()));
  const [first = 0n, second = 0n] = revisions;
  const target = (first > second ? first : second) + 1n;
  await Promise.all(
    sides.map(async (side, at) => {
      for (let revision = revisions[at] ?? 0n; revision < target - 1n; revision++)
        await side.client.kv.put('level', '');
      const deleted = await side.client.kv.txn({
        then: [{ wire: { requestPut: { key: Buffer.from('level') } } }],
      });
      assert.equal(deleted.revision, target);
      await side.client.kv.delete('level');
      await side.client.kv.compact(target);
    }),
  );
}

async function compareAnswers(sides: Sides, sequence: readonly Operation[]): Promise<void> {
  const [embedded, etcd] = sides;
  const done: string[] = [];
  let compacted = (await embedded.revision()) - 1n;
  try {
    for (const operation of sequence) {
      // What a watch is still to bring depends on how far compaction has come by then.
      if (operation.is === 'compact') await sameEvents(sides);
      const now = { compacted, revision: await embedded.revision() };
      done.push(`${now.revision}: ${shown(operation, now)}`);
      const [ours, theirs] = await Promise.all([embedded.run(operation, now), etcd.run(operation, now)]);
      assert.deepEqual(ours, theirs);
      if (operation.is === 'watch') await sameEvents(sides);
      if (operation.is === 'compact' && ours === undefined) compacted = operation.revision(now);
    }
    await sameEvents(sides);
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    throw new Error(`after\n${done.join('\n')}\nactual: embedded, expected: etcd\n${text}`, { cause: error });
  }
}

/** The operation as it went out. */
function shown(operation: Operation, now: Now): string {
  const readable = (part: unknown): unknown => {
    if (typeof part === 'function') return readable((part as Later<unknown>)(now));
    if (typeof part === 'bigint') return `${part}n`;
    if (part instanceof Uint8Array) return Buffer.from(part).toString('latin1');
    if (Array.isArray(part)) return part.map(readable);
    if (typeof part !== 'object' || part === null) return part;
    return Object.fromEntries(Object.entries(part).map(([name, each]) => [name, readable(each)]));
  };
  return JSON.stringify(readable(operation));
}

/** Waits until every watch has brought as much on etcd as on the embedded server, and compares. */
async function sameEvents([embedded, etcd]: Sides): Promise<void> {
  if (embedded.seen.size === 0 && etcd.seen.size === 0) return;
  // Events come before the answer to a later read on the embedded server, but not on the same stream: let them in.
  await new Promise((resolve) => setImmediate(resolve));
  await until(() => size(etcd.seen) >= size(embedded.seen), {
    timeoutMs: 3000,
    what: 'etcd brings as many events',
  }).catch(() => undefined);
  assert.deepEqual(Object.fromEntries(embedded.seen), Object.fromEntries(etcd.seen));
}

function size(seen: ReadonlyMap<string, readonly unknown[]>): number {
  let total = 0;
  for (const list of seen.values()) total += list.length;
  return total;
}
