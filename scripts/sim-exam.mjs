// npm run sim:exam -- [--only ID]… [--seeds N] [--from N] [--jobs N]: each fault of test/sim/exam is planted, and the simulation
// plays seeds until it breaks a rule. Says which seed that was, and which rule. With --check nothing is built or played: it is
// only seen whether all can be planted. See test/sim/README.md.
import { fork } from 'node:child_process';
import process from 'node:process';
import { clearTimeout, setTimeout } from 'node:timers';
import { parseArgs } from 'node:util';

import { buildTests } from './lib/build.mjs';
import { ensureInstalled } from './lib/steps.mjs';

/** A run takes a fraction of a second. One that takes this long does not end. */
const HANGS_MS = 60_000;

/** Plays seeds in a process of its own until one breaks a rule. Undefined: none did. */
function playSeeds(dir, among, from, to) {
  return new Promise((resolve, reject) => {
    const child = fork(
      new URL('lib/play-seeds.mjs', import.meta.url),
      [dir, JSON.stringify({ among, from, to })],
      {
        stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      },
    );
    let seed = from;
    let found;
    let printed = '';
    let watchdog;
    const watch = () => {
      clearTimeout(watchdog);
      watchdog = setTimeout(() => {
        found = { message: `the run has not ended within ${HANGS_MS / 1000} s`, rule: 'hangs', seed };
        child.kill('SIGKILL');
      }, HANGS_MS);
    };
    watch();
    child.stderr.setEncoding('utf8').on('data', (text) => (printed = (printed + text).slice(-4000)));
    child.on('message', (message) => {
      watch();
      seed = message.seed;
      if (message.rule !== undefined) found = message;
    });
    child.on('error', reject);
    child.on('close', (code) => {
      clearTimeout(watchdog);
      if (found !== undefined || code === 0) resolve(found);
      else resolve({ message: lastError(printed), rule: 'the process ends', seed });
    });
  });
}

function lastError(printed) {
  return printed.split('\n').find((line) => /Error/.test(line)) ?? printed.trim().slice(0, 200);
}

ensureInstalled();
// It needs what may just have been installed.
const { pick, PlantedCopy, readRows } = await import('./lib/planted.mjs');
const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    check: { default: false, type: 'boolean' },
    from: { default: '1', type: 'string' },
    jobs: { default: '1', type: 'string' },
    only: { multiple: true, type: 'string' },
    seeds: { default: '10000', type: 'string' },
  },
});
const rows = pick(await readRows('test/sim/exam'), [...(values.only ?? []), ...positionals]);
const queue = rows.filter(({ edits = [] }) => edits.length > 0);
if (values.check) process.exit(checkAll());
buildTests();

for (const { id, missing, what } of rows.filter((row) => !queue.includes(row)))
  console.log(`${id.padEnd(12)} not planted: ${missing} (${what})`);
const first = Number(values.from);
const last = first + Number(values.seeds) - 1;
let unseen = 0;
let wrong = 0;

/** Plants all, one after the other. Returns the exit code. */
function checkAll() {
  const copy = new PlantedCopy();
  try {
    for (const row of queue) copy.plant(row);
    console.log(`${queue.length} can be planted`);
    return 0;
  } catch (error) {
    console.error(error.message);
    return 1;
  } finally {
    copy.remove();
  }
}

/** The first seed that breaks a rule with the edits, and none without. */
async function find(copy, row) {
  for (let from = first; from <= last;) {
    copy.plant(row);
    const found = await playSeeds(copy.dir, row.among, from, last);
    if (found === undefined) return undefined;
    copy.clear();
    const anyway = await playSeeds(copy.dir, row.among, found.seed, found.seed);
    if (anyway === undefined) return found;
    console.log(`seed ${found.seed} breaks a rule with no edit, too: ${anyway.rule}: ${anyway.message}`);
    from = found.seed + 1;
  }
  return undefined;
}

async function work() {
  const copy = new PlantedCopy();
  try {
    for (let row = queue.shift(); row !== undefined; row = queue.shift()) {
      const startedAt = performance.now();
      let text;
      try {
        const found = await find(copy, row);
        if (found === undefined) unseen += 1;
        text =
          found === undefined
            ? `not found in seeds ${first} to ${last}`
            : `seed ${found.seed}: ${found.rule}: ${found.message}`;
      } catch (error) {
        wrong += 1;
        text = `FAILED: ${error.message}`;
      }
      const seconds = ((performance.now() - startedAt) / 1000).toFixed(0);
      console.log(`${row.id.padEnd(12)} ${`${seconds} s`.padStart(6)}  ${text.slice(0, 400)}`);
    }
  } finally {
    copy.remove();
  }
}

await Promise.all(Array.from({ length: Math.min(Number(values.jobs), Math.max(1, queue.length)) }, work));
console.log(`${unseen} not found`);
process.exit(wrong > 0 || unseen > 0 ? 1 : 0);
