/** What a process of a run does: opens sessions one after the other, and in each plays the parts of its workloads. */
import { Session } from 'conclave';
import type { SimProcess, World } from 'conclave/testing';

import { keepBusy } from './faults.js';
import { resume } from './resume.js';
import type { Stage } from './stage.js';
import { known, type Part, Seat, TTL_SECONDS, USUAL_MS, type Workload } from './workload.js';

/** How many steps a task takes in one session, at most. */
const STEPS = 8;

/** Longer than everything may take. */
const BUSY_MS = 30_000;

/** Acts until the stage is to stop; at first on the lease of an earlier life, if it had one. */
export async function act(
  stage: Stage,
  process: SimProcess,
  random: World['random'],
  workloads: readonly Workload[],
  earlierLife?: bigint,
): Promise<void> {
  const client = stage.world.client(process, { auth: stage.auth, timeoutMs: USUAL_MS });
  let leaseId = earlierLife;
  const rest = (ms: number): Promise<void> => new Promise((resolve) => process.clock.setTimer(ms, resolve));
  while (!stage.isStopping) {
    const parts: Part[] = [];
    let session: Session;
    try {
      const resumed = leaseId;
      leaseId = undefined;
      stage.operations += 1;
      session =
        resumed === undefined
          ? await Session.open(client, { ttlSeconds: TTL_SECONDS })
          : await resume(stage, client, resumed);
      stage.leases.set(process, session.leaseId);
      const seat = new Seat(stage, { client, isResumed: resumed !== undefined, process, random, session });
      // It may be lost already: right after a freeze, say.
      for (const workload of workloads) parts.push(workload.join(seat));
    } catch (error) {
      known(error);
      await close(parts);
      await rest(100);
      continue;
    }
    const task = async (): Promise<void> => {
      for (let at = 0; at < STEPS && session.alive && !stage.isStopping; at++) {
        await rest(random.between(0, 300));
        await random.pick(parts).step();
      }
    };
    await Promise.all(Array.from({ length: 1 + random.below(3) }, task));
    await close(parts);
    leaseId = await leave(stage, session, random);
  }
  await client.close();
}

/** Somebody new, whose event loop may be busy, gets everything at once, and leaves nothing. */
export async function actLast(stage: Stage, name: string, workloads: readonly Workload[]): Promise<void> {
  const process = stage.world.process(name);
  if (stage.world.random.chance(0.2)) keepBusy(stage.world, process, BUSY_MS);
  const client = stage.world.client(process, { auth: stage.auth });
  const session = await Session.open(client, { ttlSeconds: TTL_SECONDS });
  const seat = new Seat(stage, {
    client,
    isResumed: false,
    process,
    random: stage.world.random.fork(),
    session,
  });
  for (const workload of workloads) {
    const part = workload.join(seat);
    await part.finish?.();
    await part.close?.();
  }
  await session.close();
  await client.close();
}

/** Ends the session, or leaves its lease to the next one. */
async function leave(stage: Stage, session: Session, random: World['random']): Promise<bigint | undefined> {
  stage.operations += 1;
  if (stage.isStopping || !random.chance(0.1)) {
    await session.close().catch(known);
    return undefined;
  }
  session.orphan();
  return session.leaseId;
}

async function close(parts: readonly Part[]): Promise<void> {
  for (const part of parts) await part.close?.();
}
