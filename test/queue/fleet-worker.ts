/**
 * A worker process of the fleet tests: `fleet-worker.js ENDPOINT NAME CONCURRENCY`. A job `{ effect, how }` leaves a key:
 * with `commit` in the transaction that acknowledges it, with `ack` before it is acknowledged, with `hold` by a commit
 * once the parent says so. Tells its parent what happens.
 */
import { Client, hasCode, JobQueue, op, Session } from 'conclave';

/** What the fleet's jobs say. */
export interface FleetJob {
  readonly effect: string;
  readonly how: 'commit' | 'ack' | 'hold';
}

const [endpoint = '', name = '', concurrency = '1'] = process.argv.slice(2);
const client = new Client({ endpoints: [endpoint] });

function tell(message: unknown): void {
  process.send?.(message);
}

/** Said once, and it counts for the session that is there then and for one that is just being opened. */
const stopping = new AbortController();
process.once('SIGTERM', () => stopping.abort());

async function work(): Promise<void> {
  const session = await Session.open(client, { ttlSeconds: 3 });
  const queue = new JobQueue<FleetJob>(session, name);
  const worker = queue.process(
    async (job) => {
      const { effect, how } = job.data;
      const write = op.put(effect, String(job.fencingToken));
      if (how === 'ack') {
        await client.kv.put(effect, String(job.fencingToken));
        return;
      }
      if (how === 'hold') {
        tell({ holding: job.id, attempt: job.attempt });
        await new Promise((resolve) => process.once('message', resolve));
      }
      const outcome = await job.commit({ then: [write] }).then(
        () => 'done',
        (error: unknown) => (hasCode(error) ? error.code : String(error)),
      );
      if (how === 'hold') tell({ committed: outcome });
    },
    { concurrency: Number(concurrency), signal: stopping.signal },
  );
  tell({ ready: true });
  try {
    await worker.finished;
  } catch (error) {
    // A session that is lost (this process was stopped for too long) is replaced, and work goes on.
    if (!hasCode(error, 'SESSION_LOST')) throw error;
    await work();
    return;
  }
  await queue.close();
  await session.close();
}

await work();
process.disconnect();
await client.close();
