// npm run test:tools [-- NAME …]: packs the package, installs it beside the tools that people build and test with
// (test/tools/package.json), and has each of them load it, run a program with it, or check its types.
import { cpSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { spawnSync } from 'node:child_process';
import { ensureInstalled, run, top } from './lib/steps.mjs';

const source = path.join(top, 'test/tools');
const folder = path.join(top, 'build/tools');
const PRINTED = 'bigint true 0 TypeError true\n';
const TYPES = [
  '--noEmit',
  '--strict',
  '--target',
  'es2022',
  '--lib',
  'es2023,esnext.disposable',
  '--types',
  'node',
];
const tsc = (file, module, resolution) => [
  ['tsc', ...TYPES, '--module', module, '--moduleResolution', resolution, file],
  '',
];

/** Each: the commands to run after one another, and what the last one has to print; undefined: that does not matter. */
const SCENES = {
  esm: [['node', 'esm/use.mjs'], PRINTED],
  cjs: [['node', 'cjs/use.cjs'], PRINTED],
  'both forms are one': [['node', 'esm/both.mjs'], 'true\ntrue\ntrue\n'],
  'worker thread': [['node', 'esm/worker.mjs'], PRINTED],
  command: [['conclave', '--version'], undefined],
  tsx: [['tsx', 'esm/use.mjs'], PRINTED],
  jest: [['jest', '--rootDir', 'jest'], undefined],
  nest: [['jest', '--config', 'nest/package.json', '--rootDir', 'nest'], undefined],
  vitest: [['vitest', 'run', '--root', 'vitest', '--dir', 'vitest'], undefined],
  'types: node16, ESM': tsc('esm/consumer.mts', 'node16', 'node16'),
  'types: node16, CommonJS': tsc('cjs/consumer.ts', 'node16', 'node16'),
  'types: node10': tsc('cjs/consumer.ts', 'commonjs', 'node10'),
  'types: bundler': tsc('esm/consumer.mts', 'esnext', 'bundler'),
  'esbuild, cjs': [
    [
      'esbuild',
      'esm/use.mjs',
      '--bundle',
      '--platform=node',
      '--log-level=error',
      '--outfile=out/esbuild.cjs',
    ],
    ['node', 'out/esbuild.cjs'],
    PRINTED,
  ],
  'esbuild, esm': [
    [
      'esbuild',
      'esm/use.mjs',
      ...['--bundle', '--platform=node', '--format=esm', '--log-level=error', '--outfile=out/esbuild.mjs'],
      // As for every CommonJS package that requires a module of Node's, grpc-js among them.
      "--banner:js=import{createRequire}from'node:module';const require=createRequire(import.meta.url);",
    ],
    ['node', 'out/esbuild.mjs'],
    PRINTED,
  ],
  'rollup, esm': [['node', 'bundle-rollup.mjs', 'es', 'out/rollup.mjs'], ['node', 'out/rollup.mjs'], PRINTED],
  'rollup, cjs': [
    ['node', 'bundle-rollup.mjs', 'cjs', 'out/rollup.cjs'],
    ['node', 'out/rollup.cjs'],
    PRINTED,
  ],
  webpack: [['node', 'bundle-webpack.cjs', 'out', 'webpack.cjs'], ['node', 'out/webpack.cjs'], PRINTED],
  'vite, ssr': [['node', 'bundle-vite.mjs', 'out'], ['node', 'out/use.mjs'], PRINTED],
};

function install() {
  ensureInstalled();
  rmSync(folder, { force: true, recursive: true });
  mkdirSync(folder, { recursive: true });
  for (const name of ['package.json', 'package-lock.json', '.npmrc', 'projects'])
    cpSync(path.join(source, name), path.join(folder, name === 'projects' ? '.' : name), { recursive: true });
  const quiet = { cwd: folder, stdio: ['ignore', 2, 2] };
  run('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], quiet);
  run('npm', ['pack', '--silent', '--pack-destination', folder], { stdio: ['ignore', 2, 2] });
  const packed = readdirSync(folder).find((name) => name.endsWith('.tgz'));
  run('npm', ['install', '--no-save', '--no-audit', '--no-fund', '--loglevel=error', `./${packed}`], quiet);
}

function runScene(commands, expected) {
  let output = '';
  for (const [program, ...args] of commands) {
    const file = program === 'node' ? process.execPath : path.join(folder, 'node_modules/.bin', program);
    const result = spawnSync(file, args, {
      cwd: folder,
      encoding: 'utf8',
      env: { ...process.env, NODE_OPTIONS: '' },
      timeout: 120_000,
    });
    output = `${result.stdout}${result.stderr}`;
    if (result.status !== 0) return `${program} ended with ${result.status ?? result.signal}:\n${output}`;
  }
  return expected === undefined || output === expected ? undefined : `printed ${JSON.stringify(output)}`;
}

const wanted = process.argv.slice(2);
install();
let failed = 0;
for (const [name, scene] of Object.entries(SCENES)) {
  if (wanted.length > 0 && !wanted.some((each) => name.includes(each))) continue;
  const fault = runScene(scene.slice(0, -1), scene.at(-1));
  console.log(`${fault === undefined ? 'ok  ' : 'FAIL'}  ${name}`);
  if (fault !== undefined) console.log(fault);
  failed += fault === undefined ? 0 : 1;
}
process.exit(failed === 0 ? 0 : 1);
