// npm run bench:bursts: 20,000 and 100,000 puts, 50,000 gets and 10,000 locks at once, with a session of 3 s beside them: how
// many failed, how long they took, the longest that the event loop was held up once they were asked for, and the heap that
// each takes while it waits. Beside it npm etcd3's, where it has them, if bench/ is installed (`npm ci` there), and those of
// Go's client, if Debian's packages are there (bench/README.md).
import { existsSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import path from 'node:path';
import process from 'node:process';
import { setImmediate } from 'node:timers';
import { pathToFileURL } from 'node:url';
import { ensureEtcd } from './ensure-etcd.mjs';
import { run, top } from './lib/steps.mjs';

if (process.execArgv.includes('--expose-gc')) {
  await main();
} else {
  run('node', ['scripts/build.mjs'], { stdio: ['ignore', 2, 2] });
  run('node', ['node_modules/typescript/bin/tsc', '-p', 'bench/tsconfig.json'], { stdio: ['ignore', 2, 2] });
  ensureEtcd();
  run(process.execPath, ['--expose-gc', process.argv[1]]);
}

async function main() {
  const load = (file) => import(pathToFileURL(path.join(top, 'dist', file)).href);
  const [{ Client, Mutex, Session }, { startEtcd }] = await Promise.all([
    load('index.js'),
    load('testing/index.js'),
  ]);
  const etcd = await startEtcd();
  try {
    const client = new Client({ endpoints: [etcd.endpoint] });
    const session = await Session.open(client, { ttlSeconds: 3 });
    const mutexOf = (name) => new Mutex(session, name);
    const lockOnce = async (name) => (await mutexOf(name).lock()).unlock();
    const { kv } = client;
    const rows = [
      ['put', 20_000, (at) => kv.put(`k/${at}`, 'v')],
      ['put', 100_000, (at) => kv.put(`k/${at % 1000}`, 'v')],
      ['get', 50_000, (at) => kv.get(`k/${at % 1000}`)],
      ['lock and unlock, a name each', 10_000, (at) => lockOnce(`l/${at}`)],
      ['lock and unlock, one name', 10_000, () => lockOnce('one')],
    ];
    for (const [what, count, call] of rows)
      console.log(
        JSON.stringify({ client: 'conclave', what, ...(await burst(count, call)), session: session.state }),
      );
    await session.close();
    await client.close();
    await burstsOfEtcd3(etcd.endpoint);
    burstsOfGo(etcd.endpoint, await import(pathToFileURL(path.join(top, 'build/bench/lib/go.js')).href));
  } finally {
    await etcd.close();
  }
}

async function burstsOfEtcd3(endpoint) {
  const etcd3 = path.join(top, 'bench/node_modules/etcd3');
  if (!existsSync(etcd3)) return;
  const { Etcd3 } = createRequire(import.meta.url)(etcd3);
  let other;
  const rows = [
    ['put', 20_000, (at) => other.put(`k/${at}`).value('v')],
    ['put', 100_000, (at) => other.put(`k/${at % 1000}`).value('v')],
    ['get', 50_000, (at) => other.get(`k/${at % 1000}`)],
    ['lock and unlock, a name each', 10_000, async (at) => (await other.lock(`l/${at}`).acquire()).release()],
  ];
  for (const [what, count, call] of rows) {
    // A client for each: after a burst that failed, its circuit breaker fails the next one too.
    other = new Etcd3({ hosts: endpoint });
    console.log(JSON.stringify({ client: 'etcd3', what, ...(await burst(count, call)) }));
    other.close();
  }
}

function burstsOfGo(endpoint, { buildGo }) {
  const binary = buildGo();
  if (binary === undefined) return;
  const { stdout } = spawnSync(binary, ['-endpoint', endpoint, '-name', 'go/', 'bursts'], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
    timeout: 300_000,
  });
  for (const line of stdout.split('\n')) if (line.includes('"client"')) console.log(line);
}

/** Asks for `count` calls in one turn of the event loop, and waits for all of them. */
async function burst(count, call) {
  globalThis.gc();
  const before = process.memoryUsage().heapUsed;
  const from = performance.now();
  const calls = Array.from({ length: count }, (_, at) => call(at).then(() => undefined, codeOf));
  const askedMs = performance.now() - from;
  globalThis.gc();
  const bytesEach = Math.round((process.memoryUsage().heapUsed - before) / count);
  const delay = monitorEventLoopDelay({ resolution: 5 });
  await new Promise((resolve) => setImmediate(resolve));
  delay.enable();
  const failed = {};
  for (const code of await Promise.all(calls)) if (code !== undefined) failed[code] = (failed[code] ?? 0) + 1;
  delay.disable();
  const tookMs = Math.round(performance.now() - from);
  return {
    count,
    failed,
    tookMs,
    askedMs: Math.round(askedMs),
    loopMs: Math.round(delay.max / 1e6),
    bytesEach,
  };
}

function codeOf(error) {
  return error.code ?? `${error.constructor.name}: ${error.message.slice(0, 80)}`;
}
