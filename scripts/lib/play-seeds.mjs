// For sim-exam.mjs: plays the seeds from one to another with the simulation of a planted copy, until one breaks a rule.
import path from 'node:path';
import process from 'node:process';
import { pathToFileURL } from 'node:url';

const [dir = '', options = ''] = process.argv.slice(2);
const { among, from, to } = JSON.parse(options);
process.chdir(dir);
const { play } = await import(pathToFileURL(path.join(dir, 'build/test/sim/play.js')).href);
const tell = (message) => new Promise((resolve) => process.send(message, resolve));
for (let seed = from; seed <= to; seed++) {
  await tell({ seed });
  const [violation] = (await play({ among, seed })).violations;
  if (violation === undefined) continue;
  await tell({ message: violation.message, rule: violation.rule, seed });
  break;
}
process.disconnect();
process.exit(0);
