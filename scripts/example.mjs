// npm run example NAME: builds what is missing or old, and runs examples/NAME.ts with the arguments after `--`.
import { existsSync } from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { spawnSync } from 'node:child_process';
import { buildTests } from './lib/build.mjs';
import { top } from './lib/steps.mjs';

const [name = '', ...args] = process.argv.slice(2);
if (!existsSync(path.join(top, `examples/${name}.ts`))) {
  console.error(`there is no examples/${name}.ts`);
  process.exit(2);
}
buildTests();
const result = spawnSync(process.execPath, [path.join('build/examples', `${name}.js`), ...args], {
  cwd: top,
  stdio: 'inherit',
});
process.exit(result.status ?? 1);
