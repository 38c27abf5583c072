/** Writes, and watches of them that end and go on. */
import { compare, type Op, op, type WatchBatch } from 'conclave';

import { known, type Part, type Seat, type Workload } from '../workload.js';

const PREFIX = 'wt/';
const KEYS = ['wt/a', 'wt/b', 'wt/c'];

/** One watch, for a while. Resolves with where another one goes on. */
async function watchFor(seat: Seat, from: bigint | undefined, ms: number): Promise<bigint | undefined> {
  const { client, process, random, stage } = seat;
  const watch = stage.next('watch');
  const isOne = random.chance(0.3);
  const range = isOne ? random.pick(KEYS) : { prefix: PREFIX };
  const filter = random.pick([undefined, undefined, 'noput', 'nodelete'] as const);
  seat.note({ filter, from, is: 'watchBegins', range, watch });
  const ends = (): void => void seat.note({ is: 'watchEnds', watch });
  stage.whenKilled(process, ends);
  const stop = new AbortController();
  process.clock.setTimer(ms, () => stop.abort(new Error('enough')));
  let next = from;
  try {
    const batches = client.watch(range, {
      filter,
      onCompacted: 'relist',
      progressNotify: random.chance(0.3),
      signal: stop.signal,
      startRevision: from,
    });
    for await (const batch of batches) {
      seat.note({ is: 'watchBatch', watch, ...asRecord(batch) });
      next = batch.nextRevision;
    }
  } catch (error) {
    if (error !== stop.signal.reason) known(error);
  }
  if (!process.isDead) ends();
  return next;
}

function asRecord({ events, nextRevision, revision, snapshot }: WatchBatch): Record<string, unknown> {
  return {
    events: events.map(({ kv: { key, modRevision }, type: kind }) => ({ key, kind, modRevision })),
    nextRevision,
    revision,
    ...(snapshot && { snapshot: snapshot.map(({ key, modRevision }) => ({ key, modRevision })) }),
  };
}

async function write({ client, random, stage }: Seat): Promise<void> {
  stage.operations += 1;
  const change = (key: string): Op => (random.chance(0.3) ? op.delete(key) : op.put(key, random.id(4)));
  const count = 1 + random.below(KEYS.length);
  const then = KEYS.slice(0, count).map(change);
  await client.kv.txn({ if: [compare.version('none', '=', 0n)], then }).catch(known);
}

function join(seat: Seat): Part {
  const { random } = seat;
  return {
    step: async () => {
      if (random.chance(0.7)) {
        await write(seat);
        return;
      }
      seat.stage.operations += 1;
      // From now on, or from what has been; then on from where it ended.
      const past = BigInt(1 + random.below(40));
      const next = await watchFor(seat, random.chance(0.5) ? undefined : past, random.between(50, 2000));
      if (random.chance(0.5)) await watchFor(seat, next, random.between(50, 2000));
    },
  };
}

export const watches: Workload = {
  begin: (stage) => {
    stage.world.server.onCommit((revision, changes) => {
      stage.note({
        atMs: stage.world.nowMs,
        changes: changes.map(({ deleted, text: key }) => ({ key, kind: deleted ? 'delete' : 'put' })),
        is: 'commit',
        process: 'etcd',
        revision,
      });
    });
  },
  join,
  name: 'watches',
  stays: /^wt\//,
};
