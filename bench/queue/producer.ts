/**
 * One producer of bench/queue/producers.ts, as a process: `producer.js ENDPOINT QUEUE push|plain`. It says when it is ready, pushes one
 * job after the other for as many milliseconds as it is told to, and says how many it has pushed.
 */
import { once } from 'node:events';
import { Client, JobQueue, Session } from 'conclave';

/** What a producer reports. */
export interface Pushed {
  readonly pushes: number;
  readonly slowestMs: number;
}

const [endpoint = '', name = '', what = 'push'] = process.argv.slice(2);

await using client = new Client({ endpoints: [endpoint] });
await using session = await Session.open(client, { ttlSeconds: 60 });
await using queue = new JobQueue<number>(session, name);
await queue.push(0);

async function step(at: number): Promise<void> {
  if (what === 'push') {
    await queue.push(at);
    return;
  }
  await client.kv.get(name);
  await client.kv.put(`${name}/${String(process.pid)}/${String(at)}`, 'about as much as a job has');
}

process.send?.('ready');
const [forMs] = (await once(process, 'message')) as [number];
let pushes = 0;
let slowestMs = 0;
for (let last = performance.now(), end = last + forMs; last < end; pushes++) {
  await step(pushes);
  const now = performance.now();
  slowestMs = Math.max(slowestMs, now - last);
  last = now;
}
process.send?.({ pushes, slowestMs } satisfies Pushed);
process.disconnect();
