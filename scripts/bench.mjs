// npm run bench:handover, bench:ops, bench:producers: builds the library and bench/, and runs the one that is named, with the
// arguments after it. See bench/README.md.
import process from 'node:process';
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { ensureEtcd } from './ensure-etcd.mjs';
import { run, top } from './lib/steps.mjs';

const SCRIPTS = { handover: 'handover/handover.js', ops: 'ops/ops.js', producers: 'queue/producers.js' };

const [name, ...args] = process.argv.slice(2);
const script = SCRIPTS[name];
if (script === undefined) {
  console.error(`usage: node scripts/bench.mjs ${Object.keys(SCRIPTS).join('|')} [options]`);
  process.exit(2);
}
run('node', ['scripts/build.mjs']);
run('node', ['node_modules/typescript/bin/tsc', '-p', 'bench/tsconfig.json']);
if (!args.some((arg) => arg.startsWith('--endpoints') || arg === '--embedded')) ensureEtcd();
const result = spawnSync(process.execPath, [path.join('build/bench', script), ...args], {
  cwd: top,
  stdio: 'inherit',
});
process.exit(result.status ?? 1);
