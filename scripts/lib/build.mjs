// What every script that needs dist/ calls: packages of the lock file, generated modules, then the compiler.
import { chmodSync, existsSync, readdirSync, rmSync } from 'node:fs';
import path from 'node:path';

import { ensureInstalled, run, top } from './steps.mjs';

/** Brings dist/ up to date. The compiler is incremental, so that nothing changed costs little. Talks on stderr only. */
export function build() {
  ensureInstalled();
  const quiet = { stdio: ['ignore', 2, 2] };
  run('node', ['scripts/build-proto.mjs'], quiet);
  if (!existsSync(path.join(top, 'dist/index.js')))
    rmSync(path.join(top, 'build/src.tsbuildinfo'), { force: true });
  removeOrphans();
  run('node', ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.json'], quiet);
  const main = path.join(top, 'dist/cli/main.js');
  if (existsSync(main)) chmodSync(main, 0o755);
}

/** Removes what was built from a source file that is there no more. */
function removeOrphans() {
  const dist = path.join(top, 'dist');
  if (!existsSync(dist)) return;
  for (const file of readdirSync(dist, { recursive: true })) {
    const source = path.join(top, 'src', file.replace(/(\.d)?\.[jt]s$/, '.ts'));
    if (/\.[jt]s$/.test(file) && !existsSync(source)) rmSync(path.join(dist, file));
  }
}
