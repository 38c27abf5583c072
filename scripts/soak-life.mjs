// npm run soak:life [-- --minutes 10 --seed N]: a program on connect() that uses every primitive lives while its etcd is
// killed, frozen, emptied, restored, and replaced by nonsense, its connections are cut and its leases revoked, at random.
// After each fault every part must have done something again within a minute. Ends with one line of JSON; with code 1 when there is a
// finding, or when the heap at the end is over 1.1 of what it was after the first minute.
import path from 'node:path';
import process from 'node:process';
import { spawnSync } from 'node:child_process';
import { parseArgs } from 'node:util';
import { ensureEtcd } from './ensure-etcd.mjs';
import { buildTests } from './lib/build.mjs';
import { top } from './lib/steps.mjs';

const { values } = parseArgs({
  options: { minutes: { default: '10', type: 'string' }, seed: { type: 'string' } },
});
const minutes = Number(values.minutes);
const seed = Number(values.seed ?? Math.floor(Math.random() * 1_000_000));
if (!(minutes > 0) || !Number.isSafeInteger(seed)) {
  console.error('npm run soak:life -- [--minutes 10] [--seed N]');
  process.exit(2);
}

buildTests();
ensureEtcd();
// Without compiled code, which takes ever more of the heap while a program gets warm, whatever it does.
const flags = ['--expose-gc', '--no-opt', '--no-sparkplug'];
const args = [...flags, path.join(top, 'build/test/life/main.js'), String(minutes * 60), String(seed)];
const { status } = spawnSync(process.execPath, args, { cwd: top, stdio: 'inherit' });
process.exit(status ?? 1);
