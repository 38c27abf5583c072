// npm run conclave -- ARGUMENTS: the command line of this checkout, built first if need be, in this very process, so that its
// exit code and its signals are ours.
import path from 'node:path';
import { pathToFileURL } from 'node:url';

import { build } from './lib/build.mjs';
import { top } from './lib/steps.mjs';

build();
await import(pathToFileURL(path.join(top, 'dist/cli/main.js')).href);
