// The package's entry points: the file of dist/ behind each file of lib/, and the stubs of lib/ that a checkout works with.
//
// lib/ is what is published (package.json's "exports" name it). In a checkout its files are stubs that lead to dist/, the
// compiler's output, so that tests and examples reach the same modules by the package's name as by `#conclave/…`.
// `npm pack` puts flat files there (scripts/pack.mjs) and the stubs back afterwards.
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import { top } from './steps.mjs';

export const lib = path.join(top, 'lib');

/** What users import. */
export const DOORS = {
  embedded: 'embedded/index',
  index: 'index',
  keys: 'keys/index',
  otel: 'otel/index',
  testing: 'testing/index',
};
/** What is run as a process of its own. The names are those by which the command starts them, beside itself. */
export const PROGRAMS = {
  cli: 'cli/main',
  'guardian-process': 'cli/command/guardian-process',
  worker: 'cli/demo/worker',
};

const STARTS = '#!/usr/bin/env node\n';

/** The stubs, by file name. */
function stubs() {
  const files = {};
  for (const [name, source] of Object.entries(DOORS)) {
    const all = `export * from '../dist/${source}.js';\n`;
    files[`${name}.js`] = all;
    files[`${name}.d.ts`] = all;
    files[`${name}.d.cts`] = all;
    files[`${name}.cjs`] = `module.exports = require('../dist/${source}.js');\n`;
  }
  for (const [name, source] of Object.entries(PROGRAMS))
    files[`${name}.js`] = `${STARTS}import '../dist/${source}.js';\n`;
  return files;
}

/** Makes lib/ the stubs and nothing else. Writes nothing if it is. */
export function writeStubs() {
  const files = stubs();
  const isThere = ([name, text]) => {
    const file = path.join(lib, name);
    return existsSync(file) && readFileSync(file, 'utf8') === text;
  };
  if (Object.entries(files).every(isThere)) return;
  rmSync(lib, { force: true, recursive: true });
  mkdirSync(lib, { recursive: true });
  for (const [name, text] of Object.entries(files))
    writeFileSync(path.join(lib, name), text, { mode: 0o755 });
}
