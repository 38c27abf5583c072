// npm run soak:models [-- --minutes 30 --models barrier,latch --late first|copy|off]: plays the models over and over, each
// on the embedded server and on etcd, with random seeds, which it prints, and with requests that arrive late (FaultProxy's
// lateCopies; `first` unless said otherwise). Ends with one line of JSON: { runs, seconds, late, findings, seeds }, where `seeds`
// tells of each finding the model, its seed and what was wrong. Exits with 1 if there is a finding.
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { Buffer } from 'node:buffer';
import path from 'node:path';
import process from 'node:process';
import { spawn } from 'node:child_process';
import { clearTimeout, setTimeout } from 'node:timers';
import { parseArgs } from 'node:util';
import { ensureEtcd } from './ensure-etcd.mjs';
import { buildTests } from './lib/build.mjs';
import { top } from './lib/steps.mjs';

const RUN_LIMIT_MS = 300_000;
const { values } = parseArgs({
  options: {
    late: { default: 'first', type: 'string' },
    minutes: { default: '30', type: 'string' },
    models: { type: 'string' },
  },
});
const minutes = Number(values.minutes);
if (!(minutes > 0)) throw new RangeError(`--minutes must be a number above 0, not ${values.minutes}`);
if (!['first', 'copy', 'off'].includes(values.late))
  throw new RangeError(`--late must be first, copy or off, not ${values.late}`);

buildTests();
ensureEtcd();

const folder = path.join(top, 'build/test/model');
const all = new Map(
  readdirSync(folder)
    .filter(
      (file) =>
        file.endsWith('.test.js') && existsSync(path.join(top, 'test/model', file.replace(/js$/, 'ts'))),
    )
    .map((file) => [file.replace('.test.js', ''), path.join(folder, file)]),
);
all.set('stm-bank', path.join(top, 'build/test/stm/stm-bank.test.js'));
all.set('stm-isolation', path.join(top, 'build/test/stm/isolation.test.js'));
const names = values.models?.split(',') ?? [...all.keys()];
const unknown = names.filter((name) => !all.has(name));
if (unknown.length > 0)
  throw new RangeError(`no model is called ${unknown.join(', ')}; there are ${[...all.keys()].join(', ')}`);

const pidFile = path.join(top, 'build/soak-etcd-pids');
mkdirSync(path.dirname(pidFile), { recursive: true });
writeFileSync(pidFile, '');

/** What node's reporter says of the tests that failed: their names, and their errors without the stacks. */
function complaints(text) {
  const lines = text.split('\n').map((line) => line.trim());
  return lines.filter((line, at) => {
    if (/^(not ok|error:)/.test(line)) return true;
    const error = lines.lastIndexOf('error: |-', at);
    return (
      error >= 0 &&
      at - error < 12 &&
      !lines.slice(error, at + 1).some((each) => /^(code:|stack:)/.test(each))
    );
  });
}

/** Plays one model once; resolves with what went wrong, or undefined. */
function play(name, seed) {
  const late = values.late === 'off' ? '' : values.late;
  const seeds = { CONCLAVE_SEED: String(seed), CONCLAVE_STM_SEED: String(seed) };
  const child = spawn(process.execPath, ['--test', '--test-reporter=tap', all.get(name)], {
    cwd: top,
    env: {
      ...process.env,
      ...seeds,
      CONCLAVE_ETCD_PIDS: pidFile,
      CONCLAVE_LATE_COPIES: late,
      CONCLAVE_MODELS: 'everywhere',
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const said = [];
  child.stdout.on('data', (chunk) => said.push(chunk));
  child.stderr.on('data', (chunk) => said.push(chunk));
  const timer = setTimeout(() => child.kill('SIGKILL'), RUN_LIMIT_MS);
  return new Promise((resolve) => {
    child.on('close', (code) => {
      clearTimeout(timer);
      if (code === 0) return resolve(undefined);
      const text = Buffer.concat(said).toString();
      writeFileSync(path.join(top, `build/soak-${name}-${seed}.log`), text);
      const wrong = complaints(text);
      const last = code === null ? ['it had not ended after 5 minutes'] : [];
      resolve([...last, ...wrong.map((line) => line.trim())].slice(0, 20));
    });
  });
}

const startedAt = performance.now();
const seconds = () => Math.round((performance.now() - startedAt) / 1000);
const findings = [];
let runs = 0;
while (seconds() < minutes * 60) {
  const name = names[runs++ % names.length];
  const seed = Math.floor(Math.random() * 2 ** 32);
  const wrong = await play(name, seed);
  console.log(
    `${String(seconds()).padStart(5)} s  ${name}  CONCLAVE_SEED=${seed}  ${wrong === undefined ? 'fine' : 'FINDING'}`,
  );
  if (wrong === undefined) continue;
  for (const line of wrong) console.log(`          ${line}`);
  findings.push({ model: name, seed, wrong });
}
console.log(
  JSON.stringify({ runs, seconds: seconds(), late: values.late, findings: findings.length, seeds: findings }),
);
process.exit(findings.length > 0 ? 1 : 0);
