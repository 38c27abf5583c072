// npm run tutorial [-- NAME …]: builds, starts a cluster of three (`conclave cluster start`), and runs the steps of
// examples/tutorial/ on it, or those whose name contains a NAME, one after the other. docs/tutorial.md tells about them.
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { ensureEtcd } from './ensure-etcd.mjs';
import { buildTests } from './lib/build.mjs';
import { top } from './lib/steps.mjs';

/** The steps in order, by name and the sentence with which each file begins. */
function steps(wanted) {
  const folder = path.join(top, 'examples/tutorial');
  const names = readdirSync(folder).filter((file) => /^\d\d-.*\.ts$/.test(file));
  return names
    .map((file) => file.replace(/\.ts$/, ''))
    .filter((name) => wanted.length === 0 || wanted.some((part) => name.includes(part)))
    .sort()
    .map((name) => {
      const [line = ''] = readFileSync(path.join(folder, `${name}.ts`), 'utf8').split('\n');
      return { name, about: line.replace(/^\/\/ /, '') };
    });
}

/** Starts the cluster; resolves with its process and its endpoints once it serves. */
async function startCluster() {
  const command = [path.join(top, 'dist/cli/main.js'), 'cluster', 'start', '--port', '0', '--json'];
  const cluster = spawn(process.execPath, command, { stdio: ['ignore', 'pipe', 'inherit'] });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'])
    process.once(signal, () => {
      cluster.kill('SIGTERM');
      cluster.once('exit', () => process.exit(1));
    });
  for await (const line of createInterface({ input: cluster.stdout }))
    return { cluster, endpoints: JSON.parse(line).endpoints };
  console.error('the cluster did not start');
  process.exit(1);
}

function runStep(name, endpoints) {
  // What is said of old versions of etcd is of no use to who learns.
  const args = [
    '--disable-warning=CONCLAVE_ETCD_KEEPALIVE',
    path.join(top, `build/examples/tutorial/${name}.js`),
  ];
  const env = { ...process.env, CONCLAVE_ENDPOINTS: endpoints.join() };
  const child = spawn(process.execPath, args, { cwd: top, env, stdio: 'inherit' });
  return once(child, 'exit').then(([code]) => code === 0);
}

const chosen = steps(process.argv.slice(2));
if (chosen.length === 0) {
  console.error(`no step's name contains ${process.argv.slice(2).join(', nor ')}`);
  process.exit(2);
}
buildTests();
ensureEtcd();
const { cluster, endpoints } = await startCluster();
console.log(`a cluster of three: ${endpoints.join(' ')}`);
const failed = [];
for (const { name, about } of chosen) {
  console.log(`\n── ${name}\n   ${about}\n`);
  if (!(await runStep(name, endpoints))) failed.push(name);
}
cluster.kill('SIGTERM');
await once(cluster, 'exit');
if (failed.length > 0) console.error(`\nfailed: ${failed.join(' ')}`);
process.exit(failed.length === 0 ? 0 : 1);
