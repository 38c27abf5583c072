// npm run bench:start [-- --rounds N]: how long importing the package and starting its command take, as CPU and wall time of
// whole processes, beside what a user would compare them with, in turns in one run; medians. It packs and installs the
// package into build/start, with npm etcd3, and starts an etcd of its own.
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { spawnSync } from 'node:child_process';
import { pathToFileURL } from 'node:url';
import { ensureEtcd } from './ensure-etcd.mjs';
import { run, top } from './lib/steps.mjs';

const at = process.argv.indexOf('--rounds');
const rounds = at < 0 ? 9 : Number(process.argv[at + 1]);
if (!Number.isInteger(rounds) || rounds < 1) {
  console.error('usage: npm run bench:start [-- --rounds N]');
  process.exit(2);
}
const folder = path.join(top, 'build/start');

function install() {
  run('node', ['scripts/build.mjs'], { stdio: ['ignore', 2, 2] });
  ensureEtcd();
  rmSync(folder, { force: true, recursive: true });
  mkdirSync(folder, { recursive: true });
  writeFileSync(path.join(folder, 'package.json'), '{ "private": true }\n');
  run('npm', ['pack', '--silent', '--pack-destination', folder], { stdio: ['ignore', 2, 2] });
  const packed = readdirSync(folder).find((name) => name.endsWith('.tgz'));
  const options = ['--no-audit', '--no-fund', '--no-package-lock', '--loglevel=error'];
  run('npm', ['install', ...options, `./${packed}`, 'etcd3@1.1.2'], { cwd: folder, stdio: ['ignore', 2, 2] });
}

/** Runs a command, and says the CPU time of its children in its last line. */
const TIMED = '"$@"; code=$?; times >&2; exit $code';

/** The CPU and wall milliseconds of one process, with its children. */
function measure([command, ...args]) {
  const from = performance.now();
  const { status, stderr } = spawnSync('sh', ['-c', TIMED, 'sh', command, ...args], {
    cwd: folder,
    encoding: 'utf8',
    env: { ...process.env, ETCDCTL_API: '3' },
  });
  const wallMs = performance.now() - from;
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${status}: ${stderr}`);
  const [user, system] = stderr.trim().split('\n').at(-1).split(' ').map(milliseconds);
  return { cpuMs: user + system, wallMs };
}

/** Of "0m0.120s", as the shell prints it. */
function milliseconds(text) {
  const [, minutes, seconds] = /^(\d+)m([\d.]+)s$/.exec(text);
  return (Number(minutes) * 60 + Number(seconds)) * 1000;
}

function median(values) {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
}

install();
const { startEtcd } = await import(pathToFileURL(path.join(top, 'dist/testing/index.js')).href);
const etcd = await startEtcd();
try {
  const node = process.execPath;
  const conclave = path.join(folder, 'node_modules/.bin/conclave');
  const rows = {
    'node, nothing': [node, '-e', '0'],
    "import 'conclave'": [node, '--input-type=module', '-e', "import 'conclave'"],
    "require('conclave')": [node, '-e', "require('conclave')"],
    "require('etcd3')": [node, '-e', "require('etcd3')"],
    'conclave --version': [conclave, '--version'],
    'conclave lock x -- true': [conclave, 'lock', '--endpoints', etcd.endpoints[0], 'x', '--', 'true'],
    'etcdctl lock x true': ['etcdctl', '--endpoints', etcd.endpoints[0], 'lock', 'x', 'true'],
  };
  const seen = new Map(Object.keys(rows).map((name) => [name, []]));
  for (let round = 0; round < rounds; round++)
    for (const [name, command] of Object.entries(rows)) seen.get(name).push(measure(command));
  console.log(`${''.padEnd(24)} CPU ms  wall ms   (medians of ${rounds})`);
  for (const [name, all] of seen) {
    const [cpu, wall] = ['cpuMs', 'wallMs'].map((key) => median(all.map((each) => each[key])).toFixed(0));
    console.log(`${name.padEnd(24)} ${cpu.padStart(6)} ${wall.padStart(8)}`);
  }
} finally {
  await etcd.close();
}
