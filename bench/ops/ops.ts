/**
 * The single operations, one client after the other in every round, all on one server in one run: Conclave, grpc-js
 * alone, npm etcd3 and Go's clientv3 with its concurrency package. What counts are the ratios of the medians.
 */
import { parseArgs } from 'node:util';
import { endAfter, openServer } from '../lib/server.js';
import { median, short, times } from '../lib/stats.js';
import { table } from '../lib/table.js';
import { etcd3 } from './etcd3.js';
import { goClient } from './go.js';
import { ours, oursBatched } from './ours.js';
import { raw } from './raw.js';
import { type Peer, type WorkloadName, WORKLOADS } from './workloads.js';

const USAGE = `npm run bench:ops -- [--rounds 3] [--seconds 1] [--only lock,put] [--endpoints URL] [--embedded] [--json]
  --only       some of: ${Object.keys(WORKLOADS).join(', ')}
  --endpoints  measure on this server; by default a real etcd of its own
  --embedded   measure on Conclave's embedded server
  --json       the last line is one JSON object`;

const { values } = parseArgs({
  options: {
    embedded: { type: 'boolean' },
    endpoints: { type: 'string' },
    help: { type: 'boolean' },
    json: { type: 'boolean' },
    only: { type: 'string' },
    rounds: { default: '3', type: 'string' },
    seconds: { default: '1', type: 'string' },
  },
});

type Rates = Map<string, number[]>;

async function main(): Promise<void> {
  if (values.help === true) {
    console.log(USAGE);
    return;
  }
  const [rounds, seconds] = [Math.round(Number(values.rounds)), Number(values.seconds)];
  if (!(rounds > 0 && seconds > 0)) throw new RangeError('--rounds and --seconds must be above 0');
  const names = (Object.keys(WORKLOADS) as WorkloadName[]).filter(
    (name) => values.only === undefined || values.only.split(',').includes(name),
  );
  endAfter(60_000 + rounds * names.length * 4 * (seconds * 1000 + 15_000));
  await using server = await openServer(values.endpoints, values.embedded === true);
  const { endpoint } = server;
  const peers = [
    await ours(endpoint, 'bench/ops/ours'),
    await oursBatched(endpoint, 'bench/ops/batched'),
    await raw(endpoint, 'bench/ops/raw'),
    etcd3(endpoint, 'bench/ops/etcd3'),
    goClient(endpoint, 'bench/ops/go'),
  ].filter((peer) => peer !== undefined);
  const what = `medians of ${String(rounds)} rounds of ${String(seconds)} s`;
  console.log(`operations per second on ${server.name}, ${what}; in brackets: ours to it`);
  const rates: Rates = new Map();
  // What runs first pays for what is compiled on the way, so one round does not count.
  for (let round = -1; round < rounds; round++) {
    for (const name of names)
      await runRound(name, peers, round < 0 ? 0.3 : seconds, round < 0 ? undefined : rates);
  }
  await Promise.all(peers.map((peer) => peer.close()));
  report(server.name, names, peers, rates);
}

async function runRound(
  name: WorkloadName,
  peers: readonly Peer[],
  seconds: number,
  rates: Rates | undefined,
): Promise<void> {
  for (const peer of peers) {
    const rate = await peer.workloads[name]?.(seconds);
    if (rate === undefined || rates === undefined) continue;
    const of = `${peer.name} ${name}`;
    rates.set(of, [...(rates.get(of) ?? []), rate]);
    if (process.stderr.isTTY) console.error(`  ${WORKLOADS[name]}  ${peer.name}: ${short(rate)}/s`);
  }
}

function report(server: string, names: readonly WorkloadName[], peers: readonly Peer[], rates: Rates): void {
  const rate = (peer: Peer, name: WorkloadName): number | undefined => {
    const found = rates.get(`${peer.name} ${name}`);
    return found === undefined ? undefined : median(found);
  };
  const [first] = peers;
  const cell = (peer: Peer, name: WorkloadName): string => {
    const ratio =
      peer === first || first === undefined ? '' : ` (${times(rate(first, name), rate(peer, name))})`;
    return rate(peer, name) === undefined ? '-' : `${short(rate(peer, name))}${ratio}`;
  };
  const rows = names.map((name) => [WORKLOADS[name], ...peers.map((peer) => cell(peer, name))]);
  console.log(table([['', ...peers.map((peer) => peer.name)], ...rows]));
  if (values.json !== true) return;
  const perSecond = Object.fromEntries(
    peers.map((peer) => [peer.name, Object.fromEntries(names.map((name) => [name, rate(peer, name)]))]),
  );
  console.log(JSON.stringify({ perSecond, server }));
}

await main();
