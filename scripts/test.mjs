// npm test [-- pattern …]: builds, makes sure there is an etcd, and runs the test files whose path contains a pattern
// (without one, all but test/interop, which needs Go: npm run test:interop). Fails too when a test leaves an etcd process running.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { spawn, spawnSync } from 'node:child_process';
import { ensureEtcd } from './ensure-etcd.mjs';
import { ensureGo } from './ensure-go.mjs';
import { ensureInstalled, run, top } from './lib/steps.mjs';

const FILE_TIMEOUT_MS = 180_000;
const CONCURRENCY = 2;
/** Two minutes that are mostly spent waiting: beside the others, and printed after them. */
const ASIDE = [path.join('life', 'life.test.js')];
const outDir = path.join(top, 'build/test');
const pidFile = path.join(top, 'build/etcd-pids');

/** Every file below `folder`, as paths relative to it. */
function filesBelow(folder) {
  if (!existsSync(folder)) return [];
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(folder, path.join(entry.parentPath, entry.name)));
}

/** Removes what was built from a source that is gone, and has everything built again when an output is missing. */
function compileTests() {
  const sources = filesBelow(path.join(top, 'test')).filter(
    (file) => file.endsWith('.ts') && !file.startsWith(`tools${path.sep}`),
  );
  const wanted = new Set(sources.map((file) => file.replace(/\.ts$/, '.js')));
  const present = new Set(filesBelow(outDir));
  for (const file of present) if (!wanted.has(file)) rmSync(path.join(outDir, file));
  if ([...wanted].some((file) => !present.has(file))) {
    rmSync(path.join(top, 'build/test.tsbuildinfo'), { force: true });
  }
  run('node', ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.test.json']);
  return [...wanted].filter((file) => file.endsWith('.test.js')).sort();
}

function needsGo(file) {
  return file.startsWith(`interop${path.sep}`);
}

/** Whether a process that a test recorded still runs, and is still the etcd it was. */
function isRunningEtcd(pid) {
  try {
    process.kill(pid, 0);
    // "pid (name) state …": one that has ended stays as a Z until its parent has taken note.
    if (existsSync('/proc/self/stat'))
      return /^\d+ \(etcd.*\) [^ZX]/.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
    const { stdout } = spawnSync('ps', ['-o', 'stat=,comm=', '-p', String(pid)], { encoding: 'utf8' });
    return /^[^ZX]\S* +(.*\/)?etcd/.test(stdout.trim());
  } catch {
    return false;
  }
}

/** The etcd processes that are left, after the moment that the launcher's watchdog may take to end them. */
function leftEtcds() {
  const pids = readFileSync(pidFile, 'utf8').split('\n').filter(Boolean).map(Number);
  const end = performance.now() + 2000;
  let left = pids.filter(isRunningEtcd);
  while (left.length > 0 && performance.now() < end) {
    spawnSync('sleep', ['0.1']);
    left = left.filter(isRunningEtcd);
  }
  return left;
}

ensureInstalled();
run('node', ['scripts/build.mjs']);
const patterns = process.argv.slice(2);
const present = compileTests();
const matches = (file, pattern) => `test/${file}`.includes(pattern);
const idle = patterns.filter((pattern) => !present.some((file) => matches(file, pattern)));
if (idle.length > 0 || present.length === 0) {
  console.error(`no test file's path contains ${idle.join(', nor ') || 'anything: test/ is empty'}`);
  process.exit(1);
}
const files = present.filter((file) =>
  patterns.length === 0 ? !needsGo(file) : patterns.some((pattern) => matches(file, pattern)),
);
ensureEtcd();
if (files.some(needsGo)) ensureGo();

mkdirSync(path.dirname(pidFile), { recursive: true });
writeFileSync(pidFile, '');
const aside = files.length > ASIDE.length ? files.filter((file) => ASIDE.includes(file)) : [];
const inLine = files.filter((file) => !aside.includes(file));

/** Runs test files; resolves with the exit code and, if they are not to print at once, what they printed. */
function runTests(some, stdout) {
  const args = [
    '--test',
    '--test-reporter=spec',
    `--test-concurrency=${CONCURRENCY}`,
    `--test-timeout=${FILE_TIMEOUT_MS}`,
    ...some.map((file) => path.join('build/test', file)),
  ];
  const env = { ...process.env, CONCLAVE_ETCD_PIDS: pidFile };
  const child = spawn(process.execPath, args, { cwd: top, env, stdio: ['inherit', stdout, 'inherit'] });
  let printed = '';
  child.stdout?.setEncoding('utf8').on('data', (text) => (printed += text));
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => resolve({ code: code ?? 1, printed }));
  });
}

const results = await Promise.all([
  runTests(inLine, 'inherit'),
  ...(aside.length > 0 ? [runTests(aside, 'pipe')] : []),
]);
for (const { printed } of results) process.stdout.write(printed);
const left = leftEtcds();
for (const pid of left) {
  console.error(`etcd process ${pid} was left running by a test; ending it`);
  process.kill(pid, 'SIGKILL');
}
process.exit(left.length > 0 ? 1 : Math.max(...results.map(({ code }) => code)));
