// npm run conclave -- ARGUMENTS: the command line of this checkout, built first if need be.
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import process from 'node:process';

import { build } from './lib/build.mjs';
import { top } from './lib/steps.mjs';

build();
const main = path.join(top, 'dist/cli/main.js');
// Ctrl-C reaches the command as well; it ends us by ending.
process.on('SIGINT', () => undefined);
const result = spawnSync(process.execPath, [main, ...process.argv.slice(2)], { stdio: 'inherit' });
process.exit(result.status ?? 1);
