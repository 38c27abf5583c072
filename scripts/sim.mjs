// npm run sim -- [--minutes N | --seeds N] [--seed N] [--jobs N], or SEED=N npm run sim: the simulation, see test/sim/README.md.
import process from 'node:process';
import { buildTests } from './lib/build.mjs';
import { run } from './lib/steps.mjs';

buildTests();
run('node', ['build/test/sim/run.js', ...process.argv.slice(2)]);
