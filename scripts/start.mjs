// npm start [-- --json | --endpoints A,B …]: builds, then runs the fleet of `conclave demo` in this very process, so that
// its exit code and its signals are ours. What is said before goes to stderr: stdout is the demo's.
import path from 'node:path';
import process from 'node:process';
import { pathToFileURL } from 'node:url';
import { ensureInstalled, run, top } from './lib/steps.mjs';

ensureInstalled();
run('node', ['scripts/build.mjs'], { stdio: ['ignore', 2, 2] });
const main = path.join(top, 'dist/cli/main.js');
process.argv = [process.argv[0], main, 'demo', ...process.argv.slice(2)];
await import(pathToFileURL(main).href);
