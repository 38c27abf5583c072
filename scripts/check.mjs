// npm run check: types, lint, format and arrows, one line each. Everything is run; the output of what fails is shown.
import process from 'node:process';
import { spawnSync } from 'node:child_process';
import { writeStubs } from './lib/entries.mjs';
import { ensureInstalled, top } from './lib/steps.mjs';

const STEPS = [
  ['generated protocol', 'scripts/build-proto.mjs'],
  ['types of src', 'node_modules/typescript/bin/tsc', '-p', 'tsconfig.json'],
  ['types of test and examples', 'node_modules/typescript/bin/tsc', '-p', 'tsconfig.test.json'],
  ['types of bench', 'node_modules/typescript/bin/tsc', '-p', 'bench/tsconfig.json'],
  ['lint', 'node_modules/eslint/bin/eslint.js', '.', '--max-warnings', '0'],
  ['format', 'node_modules/prettier/bin/prettier.cjs', '--check', '--log-level', 'warn', '.'],
  ['arrows', 'scripts/check-arrows.mjs'],
];

ensureInstalled();
writeStubs();
let failed = false;
for (const [name, ...args] of STEPS) {
  const from = performance.now();
  const result = spawnSync(process.execPath, args, { cwd: top, encoding: 'utf8' });
  const seconds = ((performance.now() - from) / 1000).toFixed(1);
  const ok = result.status === 0;
  console.log(`${ok ? 'ok  ' : 'FAIL'}  ${name.padEnd(28)} ${seconds.padStart(5)} s`);
  if (!ok) console.log(`${result.stdout}${result.stderr}`.trimEnd());
  failed ||= !ok;
}
process.exit(failed ? 1 : 0);
