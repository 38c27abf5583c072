// npm run sim -- [--minutes N | --seeds N] [--seed N] [--jobs N], or SEED=N npm run sim: the simulation, see test/sim/README.md.
import process from 'node:process';
import { ensureInstalled, run } from './lib/steps.mjs';

ensureInstalled();
run('npm', ['run', '--silent', 'build']);
run('node', ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.test.json']);
run('node', ['build/test/sim/run.js', ...process.argv.slice(2)]);
