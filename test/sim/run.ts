// npm run sim -- [--minutes N | --seeds N] [--seed N] [--jobs N] [--only WORKLOAD,…]: plays seeds from the first on, in as many processes as there
// are cores, until the time is over or a run breaks a rule; that is shrunk then. SEED=N plays one, and prints its history.
import { fork } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { type Played, play } from './play.js';
import { asText, shrink } from './shrink.js';

/**
 * Room for what a run makes and drops, and no threads to collect it: there is a process for each core already. A sixth of the
 * time is saved.
 */
const FLAGS = ['--max-semi-space-size=32', '--min-semi-space-size=16', '--single-threaded-gc'];

/** What one process has played. */
interface Tally {
  readonly seeds: number;
  readonly operations: number;
  readonly events: number;
  readonly simulatedMs: number;
  readonly faults: Readonly<Record<string, number>>;
  /** The seed that broke a rule. */
  readonly broken: number | undefined;
}

interface Share {
  readonly first: number;
  readonly step: number;
  readonly seeds: number;
  readonly ms: number;
  readonly among: readonly string[] | undefined;
}

/** So many seeds are played between two reports of a process. */
const REPORT_EVERY = 100;

async function playShare(
  { among, first, ms, seeds, step }: Share,
  tell: (tally: Tally) => void,
): Promise<void> {
  // Of errors that are part of the play nobody reads the stack, which costs a tenth of the time; a broken seed is played again.
  Error.stackTraceLimit = 0;
  const untilMs = performance.now() + ms;
  const faults: Record<string, number> = {};
  const sum = { events: 0, operations: 0, seeds: 0, simulatedMs: 0 };
  let broken: number | undefined;
  for (let seed = first; sum.seeds < seeds && performance.now() < untilMs; seed += step) {
    const played = await play({ among, seed });
    sum.seeds += 1;
    sum.events += played.events;
    sum.operations += played.operations;
    sum.simulatedMs += played.simulatedMs;
    for (const [fault, count] of played.faults) faults[fault] = (faults[fault] ?? 0) + count;
    if (played.violations.length > 0) {
      broken = seed;
      break;
    }
    if (sum.seeds % REPORT_EVERY === 0) tell({ ...sum, broken, faults });
  }
  tell({ ...sum, broken, faults });
}

/** Plays a share in a process of its own; the first that breaks a rule ends the others, of which counts what they reported last. */
function inChild(share: Share, stop: AbortController): Promise<Tally> {
  return new Promise((resolve, reject) => {
    const child = fork(fileURLToPath(import.meta.url), {
      execArgv: FLAGS,
      env: { ...process.env, SIM_SHARE: JSON.stringify(share) },
    });
    let tally: Tally = { broken: undefined, events: 0, faults: {}, operations: 0, seeds: 0, simulatedMs: 0 };
    child.on('message', (message: Tally) => {
      tally = message;
      if (tally.broken !== undefined) stop.abort();
    });
    stop.signal.addEventListener('abort', () => {
      if (tally.broken === undefined) child.kill();
    });
    child.on('exit', (code) => {
      if (code === 0 || stop.signal.aborted) resolve(tally);
      else reject(new Error(`a process that played from seed ${share.first} ended with ${String(code)}`));
    });
  });
}

function report(played: Played, seed: number): void {
  for (const { at, message, rule } of played.violations.slice(0, 5)) {
    console.log(`  ${rule}: ${message}`);
    for (const record of at) console.log(`    ${asText(record)}`);
  }
  const file = `build/sim-${seed}.jsonl`;
  writeFileSync(file, played.history.map((record) => `${asText(record)}\n`).join(''));
  console.log(`the whole history: ${file}; again: SEED=${seed} npm run sim`);
}

async function main(): Promise<number> {
  const one = process.env['SEED'];
  if (one !== undefined) {
    const played = await play({ seed: Number(one) });
    for (const record of played.history) console.log(asText(record));
    if (played.violations.length === 0) return 0;
    report(played, Number(one));
    return 1;
  }
  const { values } = parseArgs({
    options: {
      jobs: { type: 'string' },
      only: { type: 'string' },
      minutes: { type: 'string' },
      seed: { default: '1', type: 'string' },
      seeds: { type: 'string' },
    },
  });
  const among = values.only?.split(',');
  const jobs = Number(values.jobs ?? availableParallelism());
  const seeds = values.seeds === undefined ? Infinity : Number(values.seeds);
  const minutes =
    values.minutes === undefined ? (values.seeds === undefined ? 1 : 1e6) : Number(values.minutes);
  const startedAt = performance.now();
  const shares = Array.from({ length: jobs }, (_, at) => ({
    among,
    first: Number(values.seed) + at,
    ms: minutes * 60_000,
    // JSON knows no Infinity.
    seeds: Math.min(1e9, Math.ceil((seeds - at) / jobs)),
    step: jobs,
  }));
  const stop = new AbortController();
  const tallies = await Promise.all(shares.map((each) => inChild(each, stop)));
  const total = (of: (tally: Tally) => number): number => tallies.reduce((sum, tally) => sum + of(tally), 0);
  const seconds = (performance.now() - startedAt) / 1000;
  const played = total((tally) => tally.seeds);
  console.log(
    `${played} seeds in ${seconds.toFixed(0)} s (${((played * 60) / seconds).toFixed(0)} a minute), ` +
      `${total((tally) => tally.operations)} operations, ${total((tally) => tally.events)} events, ` +
      `${(total((tally) => tally.simulatedMs) / 3_600_000).toFixed(2)} simulated hours`,
  );
  const kinds = [...new Set(tallies.flatMap(({ faults }) => Object.keys(faults)))].sort();
  console.log(
    `faults: ${kinds.map((kind) => `${kind} ${total(({ faults }) => faults[kind] ?? 0)}`).join(', ')}`,
  );
  const broken = tallies.flatMap((tally) => tally.broken ?? []).sort((a, b) => a - b)[0];
  if (broken === undefined) return 0;
  console.log(`seed ${broken} breaks a rule; shrinking it …`);
  const least = await shrink(broken, among);
  console.log(`it does so too with ${least.what}:`);
  report(least.played, broken);
  return 1;
}

const share = process.env['SIM_SHARE'];
if (share === undefined) process.exit(await main());
await playShare(JSON.parse(share) as Share, (tally) => process.send?.(tally));
process.disconnect();
process.exit(0);
