// What every script that needs dist/ calls: packages of the lock file, generated modules, then the compiler.
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';

import { writeStubs } from './entries.mjs';
import { ensureInstalled, run, top } from './steps.mjs';

const dist = path.join(top, 'dist');
const stamp = path.join(top, 'build/dist.stamp');

/** Brings dist/ up to date. Does nothing when nothing has changed since it last did. Talks on stderr only. */
export function build() {
  ensureInstalled();
  writeStubs();
  if (isUpToDate()) return;
  console.error('building dist/ …');
  const quiet = { stdio: ['ignore', 2, 2] };
  rmSync(stamp, { force: true });
  run('node', ['scripts/build-proto.mjs'], quiet);
  if (outputs().some((file) => !existsSync(file)))
    rmSync(path.join(top, 'build/src.tsbuildinfo'), { force: true });
  removeOrphans();
  // Taken before the compiler reads: what is changed meanwhile is built next time.
  const seen = fingerprint();
  run('node', ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.json'], quiet);
  chmodSync(path.join(dist, 'cli/main.js'), 0o755);
  mkdirSync(path.dirname(stamp), { recursive: true });
  writeFileSync(stamp, seen);
}

/** Brings dist/, and what is compiled of test/ and examples/, up to date. Talks on stderr only. */
export function buildTests() {
  build();
  run('node', ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.test.json'], { stdio: ['ignore', 2, 2] });
}

function isUpToDate() {
  return (
    existsSync(stamp) &&
    readFileSync(stamp, 'utf8') === fingerprint() &&
    outputs().every((file) => existsSync(file))
  );
}

/** All that dist/ is made of, each with its size and when it was written. */
function fingerprint() {
  const alone = ['package.json', 'package-lock.json', 'tsconfig.json', 'scripts/build-proto.mjs'];
  const files = [...alone, ...filesBelow('src'), ...filesBelow('proto')];
  const lines = files.map((file) => {
    const { mtimeMs, size } = statSync(path.join(top, file));
    return `${file} ${size} ${mtimeMs}\n`;
  });
  return lines.join('');
}

/** Every file below a folder of the project, as paths from its top, in order. */
function filesBelow(folder) {
  const entries = readdirSync(path.join(top, folder), { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(top, path.join(entry.parentPath, entry.name)))
    .sort();
}

/** The files of dist/ that the compiler makes. */
function outputs() {
  const sources = filesBelow('src').filter((file) => file.endsWith('.ts'));
  return sources.map((file) => path.join(dist, path.relative('src', file).replace(/\.ts$/, '.js')));
}

/** Removes what was built from a source file that is there no more. */
function removeOrphans() {
  if (!existsSync(dist)) return;
  for (const file of readdirSync(dist, { recursive: true })) {
    const source = path.join(top, 'src', file.replace(/(\.d)?\.[jt]s$/, '.ts'));
    if (/\.[jt]s$/.test(file) && !existsSync(source)) rmSync(path.join(dist, file));
  }
}
