/**
 * A job queue under fire: 8 worker processes, one of them killed every second, and every job's result is written exactly
 * once. `npm run example:queue` runs it on an embedded server; `-- --jobs 20000 --endpoint http://127.0.0.1:2379` on yours.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { stdout } from 'node:process';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { Client, hasCode, JobQueue, op, Session } from 'conclave';
import { EmbeddedServer } from 'conclave/embedded';

interface Square {
  readonly n: number;
}

const WORKERS = 8;
const RESULTS = 'example/results/';

/** What each worker process does. */
async function work(endpoint: string): Promise<void> {
  await using client = new Client({ endpoints: [endpoint] });
  process.once('disconnect', () => process.exit());
  const stopping = new AbortController();
  process.once('message', () => stopping.abort());
  while (!stopping.signal.aborted) {
    await using session = await Session.open(client, { ttlSeconds: 3 });
    await using queue = new JobQueue<Square>(session, 'example/squares');
    const worker = queue.process(
      async (job) => {
        const { n } = job.data;
        // The result and the acknowledgement are one transaction: both or neither, even if we are killed right now.
        await job.commit({ then: [op.put(`${RESULTS}${n}`, String(n * n))] });
      },
      { concurrency: 8, signal: stopping.signal },
    );
    process.send?.('ready');
    // A process that was out for longer than its TTL has lost its session: it goes on with a new one.
    await worker.finished.catch((error: unknown) => {
      if (!hasCode(error, 'SESSION_LOST')) throw error;
    });
  }
  process.disconnect();
}

/** Pushes the jobs, kills a worker every second, and shows how it goes. */
async function run(endpoint: string, jobs: number): Promise<void> {
  await using client = new Client({ endpoints: [endpoint] });
  await using session = await Session.open(client);
  await using queue = new JobQueue<Square>(session, 'example/squares', { maxAttempts: 20 });
  const ready = new Set<ChildProcess>();
  const start = (): ChildProcess => {
    const child = fork(fileURLToPath(import.meta.url), ['--worker', endpoint]);
    child.once('message', () => ready.add(child));
    return child;
  };
  const fleet = Array.from({ length: WORKERS }, start);
  const over = new AbortController();
  let killed = 0;

  const pushing = (async () => {
    for (let from = 0; from < jobs; from += 500) {
      const size = Math.min(500, jobs - from);
      await queue.pushMany(Array.from({ length: size }, (_, at) => ({ data: { n: from + at } })));
    }
  })();
  const killing = (async () => {
    for (;;) {
      await sleep(1000, undefined, { signal: over.signal });
      const [victim] = ready;
      if (victim === undefined) continue;
      ready.delete(victim);
      victim.kill('SIGKILL');
      fleet[fleet.indexOf(victim)] = start();
      killed += 1;
    }
  })().catch(() => undefined);
  const showing = (async () => {
    for (;;) {
      await sleep(stdout.isTTY ? 200 : 1000, undefined, { signal: over.signal });
      show((await client.kv.range({ prefix: RESULTS }, { countOnly: true })).count, jobs, killed);
    }
  })().catch(() => undefined);

  await pushing;
  await queue.idle();
  over.abort();
  await Promise.all([killing, showing]);
  let done = 0;
  let twice = 0;
  for await (const { version } of client.kv.scan({ prefix: RESULTS }, { keysOnly: true })) {
    done += 1;
    // How often the key was written.
    if (version > 1n) twice += 1;
  }
  show(BigInt(done), jobs, killed);
  await Promise.all(
    fleet.map(async (worker) => {
      const gone = once(worker, 'exit');
      worker.send('stop');
      await gone;
    }),
  );
  const counts = await queue.counts();
  await client.kv.delete({ prefix: RESULTS });
  console.log(
    `${stdout.isTTY ? '\n' : ''}${JSON.stringify({ jobs, done, lost: jobs - done, twice, killed, ...counts })}`,
  );
}

/** A progress bar on a terminal, a line a second elsewhere. */
function show(done: bigint, jobs: number, killed: number): void {
  const part = Number(done) / jobs;
  const text = `${done}/${jobs} done, ${killed} workers killed`;
  if (!stdout.isTTY) console.log(text);
  else stdout.write(`\r[${'#'.repeat(Math.round(part * 40)).padEnd(40, '.')}] ${text} `);
}

const { values } = parseArgs({
  options: {
    endpoint: { type: 'string' },
    jobs: { default: '3000', type: 'string' },
    worker: { type: 'string' },
  },
});
if (values.worker !== undefined) {
  await work(values.worker);
} else if (values.endpoint !== undefined) {
  await run(values.endpoint, Number(values.jobs));
} else {
  await using server = await EmbeddedServer.start({ port: 0 });
  await run(server.endpoint, Number(values.jobs));
}
