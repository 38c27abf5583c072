// npm run soak:memory [-- --uses 20000]: uses so many names of every primitive, keys, sessions, jobs and watches once (clients: a
// twentieth), and prints what is left of the heap by each kind, a line of JSON each. Ends with code 1 when that is over 64
// bytes a use and over 300 KB in all, which is what a heap differs by anyway.
import process from 'node:process';
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { ensureEtcd } from './ensure-etcd.mjs';
import { buildTests } from './lib/build.mjs';
import { top } from './lib/steps.mjs';

const { values } = parseArgs({ options: { uses: { default: '20000', type: 'string' } } });
const uses = Number(values.uses);
if (!Number.isInteger(uses) || uses < 1) {
  console.error('npm run soak:memory -- [--uses 20000]');
  process.exit(2);
}
buildTests();
ensureEtcd();
const { startEtcd } = await import(pathToFileURL(path.join(top, 'dist/testing/index.js')).href);
const etcd = await startEtcd();
try {
  const child = path.join(top, 'build/test/faults/memory-child.js');
  const args = ['--expose-gc', '--no-opt', '--no-sparkplug', child, etcd.endpoint, String(uses), 'each'];
  const running = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = new Promise((resolve) => running.once('exit', resolve));
  for await (const line of createInterface({ input: running.stdout })) {
    console.log(line);
    const { bytes, bytesEach } = JSON.parse(line);
    if (bytesEach > 64 && bytes > 300_000) process.exitCode = 1;
  }
  if ((await ended) !== 0) process.exitCode = 1;
} finally {
  await etcd.close();
}
