// npm run test:node -- VERSION [PATTERN …]: the contract, otel and package suites (or those that are named) on another version of
// Node, such as 24; its program comes in an npm package and goes into build/node-VERSION.
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { spawnSync } from 'node:child_process';
import { run, top } from './lib/steps.mjs';

const [version = '', ...patterns] = process.argv.slice(2);
if (!/^\d+(\.\d+)*$/.test(version) || process.platform !== 'linux') {
  console.error('usage, on Linux: npm run test:node -- VERSION [PATTERN …]; VERSION is such as 22 or 24.9.0');
  process.exit(2);
}
const folder = path.join(top, `build/node-${version}`);
const name = `node-linux-${process.arch}`;
const bin = path.join(folder, 'node_modules', name, 'bin');
if (!existsSync(path.join(bin, 'node'))) {
  console.error(`installing Node ${version} into ${path.relative(top, folder)} …`);
  mkdirSync(folder, { recursive: true });
  writeFileSync(path.join(folder, 'package.json'), '{ "private": true }\n');
  const options = ['--no-audit', '--no-fund', '--no-package-lock', '--loglevel=error'];
  run('npm', ['install', ...options, `${name}@${version}`], { cwd: folder, stdio: ['ignore', 2, 2] });
}
const node = path.join(bin, 'node');
const { stdout } = spawnSync(node, ['--version'], { encoding: 'utf8' });
console.log(`Node ${stdout.trim()}`);
run(
  node,
  [
    'scripts/test.mjs',
    ...(patterns.length > 0 ? patterns : ['test/contract/', 'test/otel/', 'test/package/']),
  ],
  {
    env: { ...process.env, PATH: `${bin}${path.delimiter}${process.env.PATH}` },
  },
);
