// npm run docs: the API reference, as pages in build/api/. Fails when something that is exported says nothing of itself, or
// links to what is not there. typedoc is installed in build/typedoc/ when it is first run: nothing else needs it.
import { cpSync, existsSync, mkdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { ensureInstalled, run, top } from './lib/steps.mjs';

const source = path.join(top, 'scripts/docs');
const folder = path.join(top, 'build/typedoc');
const lock = 'package-lock.json';

/** Whether what is installed is what the lock file says. */
function isInstalled() {
  const copy = path.join(folder, lock);
  const typedoc = path.join(folder, 'node_modules/typedoc/package.json');
  return (
    existsSync(typedoc) &&
    existsSync(copy) &&
    readFileSync(copy, 'utf8') === readFileSync(path.join(source, lock), 'utf8')
  );
}

ensureInstalled();
run('node', ['scripts/build-proto.mjs']);
if (!isInstalled()) {
  console.error('installing typedoc in build/typedoc/ …');
  mkdirSync(folder, { recursive: true });
  for (const file of ['package.json', lock]) cpSync(path.join(source, file), path.join(folder, file));
  run('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], { cwd: folder, stdio: ['ignore', 2, 2] });
}
run('node', [
  path.join(folder, 'node_modules/typedoc/bin/typedoc'),
  '--options',
  path.join(source, 'typedoc.json'),
]);
console.log('the API reference: build/api/index.html');
