/** A session on the lease of an earlier life: what that has left for one use is gone when it is open. */
import { type Client, Session } from 'conclave';

import { keyRange } from '#conclave/embedded/store/key-range.js';
import type { Stage } from './stage.js';
import { TTL_SECONDS } from './workload.js';

/** More than there is of a lease's time. */
const TOO_LARGE_MS = TTL_SECONDS * 1000 + 2000;

export async function resume(stage: Stage, client: Client, leaseId: bigint): Promise<Session> {
  const era = stage.eras.length;
  if (stage.world.random.chance(0.2)) await refused(stage, client, leaseId);
  const session = await Session.open(client, { leaseId });
  const { store } = stage.world.server.member;
  const one = `${leaseId.toString(16)}-`;
  const keys = store.range(keyRange(Buffer.of(0), Buffer.of(0))).kvs.map(({ text }) => text);
  const left = keys.filter((key) => key.slice(key.lastIndexOf('/') + 1).startsWith(one));
  if (left.length > 0 && stage.eras.length === era)
    stage.violate('earlier-life', `${left.join(', ')} of an earlier life is there in the next one`);
  return session;
}

/** The margin is one of the lease's time, whatever else is asked for. */
async function refused(stage: Stage, client: Client, leaseId: bigint): Promise<void> {
  try {
    const session = await Session.open(client, { leaseId, marginMs: TOO_LARGE_MS, ttlSeconds: 60 });
    stage.violate(
      'margin',
      `a session on a lease of ${session.ttlSeconds} s has a margin of ${TOO_LARGE_MS} ms`,
    );
    session.orphan();
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
  }
}
