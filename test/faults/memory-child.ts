// Uses so many names of every kind once each, and prints what is left of the heap by them, one line of JSON for each kind, or
// one for all of them together: `node --expose-gc memory-child.js ENDPOINT COUNT each|together`. A quarter as many are used
// before it looks the first time: what the first uses load and compile is no growth (nor is what V8 compiles later, and keeps:
// `--no-opt --no-sparkplug`).
import { setTimeout as sleep } from 'node:timers/promises';

import {
  Barrier,
  Client,
  DoubleBarrier,
  Election,
  JobQueue,
  Latch,
  LockManager,
  MultiMutex,
  Mutex,
  RWLock,
  Semaphore,
  Session,
  stm,
} from 'conclave';

const [endpoint = '', countText = '', mode] = process.argv.slice(2);
const count = Number(countText);
const AT_ONCE = 200;
/** Longer than a line lingers that nobody uses. */
const SETTLE_MS = 4000;
const MOST_LOOKS = 20;
const SAME_BYTES = 16_384;

const client = new Client({ batch: 'all', endpoints: [endpoint] });
const session = await Session.open(client, { ttlSeconds: 60 });
const locks = new LockManager(session);
const queue = new JobQueue(session, 'memory/queue');

const USES: Readonly<Record<string, (name: string) => Promise<unknown>>> = {
  barrier: async (name) => {
    await (await new Barrier(session, name).hold()).release();
  },
  client: async (name) => {
    await using other = new Client({ endpoints: [endpoint] });
    await other.kv.get(name);
  },
  contended: async (name) => {
    const held = await new Mutex(session, name).lock();
    const next = new Mutex(session, name).lock();
    await held.unlock();
    await (await next).unlock();
  },
  doubleBarrier: async (name) => {
    const barrier = new DoubleBarrier(session, name, { count: 1 });
    await barrier.enter();
    await barrier.leave();
  },
  election: async (name) => {
    const leadership = await new Election(session, name).campaign('x');
    await leadership.resign();
  },
  inspect: (name) => new Mutex(session, name).inspect(),
  job: async (name) => {
    await queue.push('x', { id: name });
    const job = await queue.dequeue();
    await job.ack();
  },
  key: async (name) => {
    await client.kv.put(name, 'x');
    await client.kv.delete(name);
  },
  latch: async (name) => {
    const latch = new Latch(session, name, { count: 1 });
    await latch.countDown();
    await latch.wait();
    await latch.delete();
  },
  lockManager: (name) => locks.request(name, () => undefined),
  multiMutex: (name) => new MultiMutex(session, [`${name}/a`, `${name}/b`]).run(() => undefined),
  mutex: (name) => new Mutex(session, name).run(() => undefined),
  rwLock: async (name) => {
    await (await new RWLock(session, name).readLock()).unlock();
    await (await new RWLock(session, name).writeLock()).unlock();
  },
  semaphore: async (name) => (await new Semaphore(session, name, { limit: 2 }).acquire()).release(),
  session: async () => (await Session.open(client, { ttlSeconds: 60 })).close(),
  stm: (name) =>
    stm(client, (txn) => {
      txn.put(name, 'x');
      txn.delete(name);
    }),
  tryLock: async (name) => (await new Mutex(session, name).tryLock())?.unlock(),
  waited: async (name) => {
    const waiting = new Mutex(session, name).lock({ timeoutMs: 60_000 });
    await (await waiting).unlock();
  },
  watch: async (name) => {
    const watch = client.watch(name);
    await watch.created;
    watch.close();
  },
};
/** Takes as long as hundreds of the others, so fewer are used. */
const COSTLY: Readonly<Record<string, number>> = { client: 20 };

async function useAll(what: string, from: number, to: number): Promise<void> {
  const use = USES[what];
  let next = from;
  const inTurn = async (): Promise<void> => {
    while (next < to) await use?.(`memory/${what}/${String(next++)}`);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, inTurn));
}

/** What the heap has once it changes no more: what is removed in the background, a second after its end, may take a while. */
async function heapAfterwards(): Promise<number> {
  await sleep(SETTLE_MS);
  let last = Infinity;
  for (let looks = 0; looks < MOST_LOOKS; looks++) {
    // V8 throws away the bytecode of what has not run for some collections: let it be done with that.
    for (let times = 0; times < 10; times++) globalThis.gc?.();
    const { heapUsed } = process.memoryUsage();
    if (Math.abs(last - heapUsed) < SAME_BYTES) break;
    last = heapUsed;
    await sleep(1000);
  }
  return process.memoryUsage().heapUsed;
}

const usesOf = (what: string): number => Math.round(count / (COSTLY[what] ?? 1));
const warmUpOf = (what: string): number => Math.ceil(usesOf(what) / 4);

/** What is left by names of these kinds. */
async function measure(kinds: readonly string[]): Promise<void> {
  for (const what of kinds) await useAll(what, 0, Math.ceil(warmUpOf(what) / 2));
  await heapAfterwards();
  for (const what of kinds) await useAll(what, Math.ceil(warmUpOf(what) / 2), warmUpOf(what));
  const before = await heapAfterwards();
  const from = performance.now();
  for (const what of kinds) await useAll(what, warmUpOf(what), warmUpOf(what) + usesOf(what));
  const tookMs = Math.round(performance.now() - from);
  const bytes = (await heapAfterwards()) - before;
  const uses = kinds.reduce((sum, what) => sum + usesOf(what), 0);
  console.log(JSON.stringify({ bytes, bytesEach: Math.round(bytes / uses), kinds, tookMs, uses }));
}

const kinds = Object.keys(USES);
for (const some of mode === 'each' ? kinds.map((what) => [what]) : [kinds]) await measure(some);
await queue.close();
await session.close();
await client.close();
