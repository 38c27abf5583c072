/**
 * Hands one lock round 2, 10, 100 and 1000 sessions on one etcd, and counts the handovers: Conclave's, waiters that each
 * open a watch from their read's revision as Go does, and, where Go is installed, Go's own. Every way in turn, several
 * rounds, in one run on one server; what counts are the ratios of the medians.
 *
 * Ends with code 1 when ours makes less than 10 times as many handovers at 2 sessions as the comparison, or at 1000
 * sessions less than half of what it makes at 10.
 */
import { parseArgs } from 'node:util';
import { buildGo, goHandovers } from '../lib/go.js';
import { endAfter, openServer } from '../lib/server.js';
import { median, short, times } from '../lib/stats.js';
import { table } from '../lib/table.js';
import { asGo } from './as-go.js';
import { ours, oursApart } from './ours.js';
import { handoversPerSecond, type MakeRing } from './ring.js';

const USAGE = `npm run bench:handover -- [--sizes 2,10,100,1000] [--rounds 3] [--seconds 2] [--endpoints URL] [--embedded] [--apart] [--no-go] [--json]
  --endpoints  measure this server; by default a real etcd of its own
  --embedded   measure Conclave's embedded server
  --apart      also: a client for every session, as if each were a process
  --json       the last line is one JSON object`;

type Way = (name: string, size: number) => Promise<number>;

const { values } = parseArgs({
  options: {
    apart: { type: 'boolean' },
    embedded: { type: 'boolean' },
    endpoints: { type: 'string' },
    help: { type: 'boolean' },
    json: { type: 'boolean' },
    'no-go': { type: 'boolean' },
    rounds: { default: '3', type: 'string' },
    seconds: { default: '2', type: 'string' },
    sizes: { default: '2,10,100,1000', type: 'string' },
  },
});

function positive(text: string, option: string): number {
  const value = Number(text);
  if (!(value > 0) || !Number.isFinite(value))
    throw new RangeError(`${option} must be a number above 0, not ${text}`);
  return value;
}

async function main(): Promise<number> {
  if (values.help === true) {
    console.log(USAGE);
    return 0;
  }
  const sizes = values.sizes.split(',').map((size) => Math.round(positive(size, '--sizes')));
  const rounds = Math.round(positive(values.rounds, '--rounds'));
  const seconds = positive(values.seconds, '--seconds');
  endAfter(60_000 + sizes.length * rounds * 4 * (seconds * 1000 + 30_000));
  await using server = await openServer(values.endpoints, values.embedded === true);
  const { endpoint } = server;
  const inProcess =
    (make: MakeRing): Way =>
    async (name, size) => {
      const ring = await make(endpoint, name, size);
      try {
        return await handoversPerSecond(ring, seconds);
      } finally {
        await ring.close();
      }
    };
  const ways: Record<string, Way> = { 'a watch per wait': inProcess(asGo), ours: inProcess(ours) };
  if (values.apart === true) ways['ours, apart'] = inProcess(oursApart);
  const go = values['no-go'] === true ? undefined : buildGo();
  if (go !== undefined) ways["Go's"] = (name, size) => goHandovers(go, { endpoint, name, seconds, size });

  console.log(
    `handovers per second on ${server.name}, medians of ${String(rounds)} rounds of ${String(seconds)} s`,
  );
  // What runs first pays for what is compiled on the way, so one round does not count.
  for (const [way, run] of Object.entries(ways)) await run(`bench/handover/${way}/warm`, 2);
  const rates = new Map<string, number[]>();
  for (let round = 0; round < rounds; round++) {
    for (const size of sizes) {
      for (const [way, run] of Object.entries(ways)) {
        const rate = await run(`bench/handover/${way}/${String(round)}/${String(size)}`, size);
        const of = `${way} ${String(size)}`;
        rates.set(of, [...(rates.get(of) ?? []), rate]);
        if (process.stderr.isTTY)
          console.error(`  round ${String(round + 1)}  ${of} sessions: ${short(rate)}/s`);
      }
    }
  }
  return report(server.name, Object.keys(ways), sizes, rates);
}

/** Prints what was found; 0 when it is what is asked of us. */
function report(
  server: string,
  ways: readonly string[],
  sizes: readonly number[],
  rates: ReadonlyMap<string, readonly number[]>,
): number {
  const rate = (way: string, size: number): number => median(rates.get(`${way} ${String(size)}`) ?? []);
  const ratio = (size: number): number => rate('ours', size) / rate('a watch per wait', size);
  const rows = sizes.map((size) => [
    String(size),
    ...ways.map((way) => short(rate(way, size))),
    times(rate('ours', size), rate('a watch per wait', size)),
  ]);
  console.log(table([['sessions', ...ways, 'ours / a watch per wait'], ...rows]));
  const asked = [
    { floor: 10, value: ratio(2), what: 'ours at 2 sessions, against a watch per wait' },
    {
      floor: 0.5,
      value: rate('ours', 1000) / rate('ours', 10),
      what: 'ours at 1000 sessions, against ours at 10',
    },
  ].filter(({ value }) => !Number.isNaN(value));
  for (const { floor, value, what } of asked) {
    const verdict = value >= floor ? 'ok' : 'TOO SLOW';
    console.log(`${verdict}: ${what}: ${short(value)}x, asked for ${String(floor)}x`);
  }
  const ok = asked.every(({ floor, value }) => value >= floor);
  if (values.json === true) {
    const perSecond = Object.fromEntries(
      ways.map((way) => [way, Object.fromEntries(sizes.map((size) => [size, rate(way, size)]))]),
    );
    console.log(JSON.stringify({ asked, ok, perSecond, server }));
  }
  return ok ? 0 : 1;
}

process.exitCode = await main();
