// Three workers count under a lock, in a simulated world in which processes freeze. The first program writes without asking
// whether it still holds the lock; the second one's writes are guarded by it. Which seed shows the difference?
import { ConclaveError, type Lock, Mutex, op, Session } from 'conclave';
import { type SimProcess, World } from 'conclave/testing';

type Write = (lock: Lock, session: Session, count: number) => Promise<unknown>;

const careless: Write = (_lock, { client }, count) => client.kv.put('count', String(count));
const guarded: Write = (lock, _session, count) => lock.txn({ then: [op.put('count', String(count))] });

/** Runs a program in a world; returns how many increments were confirmed and are lost. */
async function lostIn(seed: number, write: Write): Promise<number> {
  await using world = new World(seed);
  let confirmed = 0;
  const worker = async (process: SimProcess): Promise<void> => {
    const client = world.client(process);
    while (world.nowMs < 20_000) {
      try {
        await using session = await Session.open(client, { ttlSeconds: 3 });
        await using lock = await new Mutex(session, 'counter').lock();
        const count = Number((await client.kv.get('count'))?.string() ?? 0);
        await new Promise<void>((resolve) => process.clock.setTimer(200, resolve)); // It thinks.
        await write(lock, session, count + 1);
        confirmed += 1;
      } catch (error) {
        if (!(error instanceof ConclaveError)) throw error; // It was lost: again.
      }
    }
  };
  const processes = ['ann', 'bob', 'cyd'].map((name) => world.process(name));
  const working = Promise.all(processes.map(worker));
  for (let atMs = 1000; atMs < 20_000; atMs += 1000) {
    world.timeline.at(atMs, () => {
      const frozen = world.random.pick(processes);
      frozen.freeze();
      world.timeline.after(world.random.between(500, 6000), () => frozen.thaw());
    });
  }
  await world.run(40_000);
  await working;
  const client = world.client(world.process('reader'));
  const read = client.kv.get('count');
  await world.run(1000);
  return confirmed - Number((await read)?.string() ?? 0);
}

const SEEDS = 50;
for (const [name, write] of Object.entries({ careless, guarded })) {
  let seed = 1;
  while (seed <= SEEDS && (await lostIn(seed, write)) === 0) seed++;
  const shown =
    seed <= SEEDS
      ? `seed ${seed} loses ${await lostIn(seed, write)} of its increments`
      : `no seed up to ${SEEDS} loses any`;
  console.log(`${name}: ${shown}`);
}
