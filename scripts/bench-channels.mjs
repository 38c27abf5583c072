// npm run bench:channels: what the diagnostics channels cost when nobody listens. How often a call of each kind asks whether
// somebody listens is counted in a copy of the package; what asking takes is measured by itself, a million times; and both are
// set beside the CPU time of a call. (To measure calls with and without is no use: they differ by 5 % from turn to turn.)
import { cpSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { pathToFileURL } from 'node:url';
import { ensureEtcd } from './ensure-etcd.mjs';
import { run, top } from './lib/steps.mjs';

const ROUNDS = 20;
/** Beside dist/, so that it finds the same proto/ and node_modules/. */
const copy = path.join(top, 'build/without-channels');

/** Counts how often it is asked, and else does nothing. */
const SILENT = `
export let asked = 0;
export const AROUND = Symbol.for('conclave.around');
export const tracing = {};
export const events = {};
const ask = () => void (asked += 1);
export { ask as begin, ask as isHeard, ask as isTold, ask as tell };
export const trace = (what, message, work) => {
  asked += 1;
  return work();
};
`;

function makeCopy() {
  rmSync(copy, { force: true, recursive: true });
  cpSync(path.join(top, 'dist'), path.join(copy, 'dist'), { recursive: true });
  writeFileSync(path.join(copy, 'dist/util/channels.js'), SILENT);
  for (const name of ['package.json', 'proto', 'node_modules'])
    symlinkSync(path.join(top, name), path.join(copy, name));
}

const load = (folder, file) => import(pathToFileURL(path.join(folder, 'dist', file)).href);

/** So many calls, so many at once. */
async function many(count, atOnce, call) {
  let next = 0;
  const worker = async () => {
    while (next < count) await call(next++);
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
}

/** What takes turns: its name, and one turn with a side's client and session. */
const WORK = [
  [
    'get, 512 at once',
    12_000,
    512,
    ({ client }) =>
      (n) =>
        client.kv.get(`bench/channels/${n % 500}`),
  ],
  [
    'put, 64 at once',
    1500,
    64,
    ({ client }) =>
      (n) =>
        client.kv.put(`bench/channels/${n % 500}`, 'v'),
  ],
  [
    'lock + unlock',
    200,
    1,
    ({ mutex }) =>
      async () =>
        (await mutex.lock()).unlock(),
  ],
];

function quantile(numbers, q) {
  const sorted = [...numbers].sort((a, b) => a - b);
  return sorted[Math.floor((sorted.length - 1) * q)];
}

/** What it takes to ask, as a call does: with a closure for the message, and one for the work. */
async function nsOfAsking() {
  const { trace } = await load(top, 'util/channels.js');
  const times = Array.from({ length: 9 }, () => {
    const from = process.hrtime.bigint();
    let sum = 0;
    for (let n = 0; n < 1e6; n++) {
      trace(
        'rpc',
        () => ({ n }),
        () => (sum += n),
      );
    }
    return Number(process.hrtime.bigint() - from) / 1e6;
  });
  return quantile(times, 0.5);
}

run('node', ['scripts/build.mjs'], { stdio: ['ignore', 2, 2] });
ensureEtcd();
makeCopy();
const { startEtcd } = await load(top, 'testing/index.js');
const etcd = await startEtcd();
try {
  const { Client, Mutex, Session } = await load(copy, 'index.js');
  const client = new Client({ endpoints: [etcd.endpoint] });
  const session = await Session.open(client, { ttlSeconds: 60 });
  const parts = { client, mutex: new Mutex(session, 'bench/channels/lock') };
  const askNs = await nsOfAsking();
  console.log(`asking whether somebody listens: ${askNs.toFixed(1)} ns, with what would be told`);
  const counter = await load(copy, 'util/channels.js');
  for (const [what, count, atOnce, work] of WORK) {
    const [costs, before] = [[], counter.asked];
    for (let round = 0; round < ROUNDS; round++) {
      const used = process.cpuUsage();
      await many(count, atOnce, work(parts));
      const { system, user } = process.cpuUsage(used);
      costs.push((system + user) / count);
    }
    const asked = (counter.asked - before) / count / ROUNDS;
    const us = quantile(costs, 0.5);
    console.log(
      `${what}: ${us.toFixed(1)} us of CPU, asks ${asked.toFixed(2)} times: ${((asked * askNs) / us / 10).toFixed(3)} % of it`,
    );
  }
  await session.close();
  await client.close();
} finally {
  await etcd.close();
  rmSync(copy, { force: true, recursive: true });
}
