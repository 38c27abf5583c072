// A process that works, holds and leads on `connect()`, says so in one line, and ends in order when it is asked to.
import { connect } from 'conclave';

const [endpoint = '', mood] = process.argv.slice(2);
const conclave = await connect({ endpoints: endpoint, ttlSeconds: 60 });
conclave.closeOnSignals();
const queue = conclave.queue<number>('child');
let isWorking = (): void => undefined;
const working = new Promise<void>((resolve) => (isWorking = resolve));
queue.process(async (job) => {
  isWorking();
  // Ends when the process is asked to end: what it says then is the proof that its handler was let finish.
  await new Promise((resolve) => process.once('SIGTERM', resolve));
  await new Promise((resolve) => mood !== 'stubborn' && setTimeout(resolve, 100));
  console.log(`did ${String(job.data)}`);
});
await conclave.mutex('child/lock').lock();
void conclave
  .election('child/election')
  .run('child', (_leadership, stop) => new Promise((resolve) => stop.addEventListener('abort', resolve)))
  .catch(() => console.log('led'));
await working;
console.log('ready');
