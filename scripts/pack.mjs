// What `npm pack` and `npm publish` run: `pack.mjs flat` before, which puts into lib/ what is published, and `pack.mjs stubs`
// after, which makes lib/ a checkout's again (scripts/lib/entries.mjs).
//
// All code is CommonJS, cut by rollup into one file for each door, each program, and what they share; the ESM doors only name
// what the CommonJS ones export. So a process that loads both forms has one instance of everything: one line for each lock.
import { readFileSync, rmSync, mkdirSync, writeFileSync, readdirSync } from 'node:fs';
import { builtinModules } from 'node:module';
import path from 'node:path';
import process from 'node:process';
import { rollup } from 'rollup';
import { dts } from 'rollup-plugin-dts';

import { build } from './lib/build.mjs';
import { DOORS, lib, PROGRAMS, writeStubs } from './lib/entries.mjs';
import { run, top } from './lib/steps.mjs';

const { dependencies, peerDependencies = {} } = JSON.parse(
  readFileSync(path.join(top, 'package.json'), 'utf8'),
);
const packages = [...Object.keys(dependencies), ...Object.keys(peerDependencies)];
const isForeign = (id) =>
  id.startsWith('node:') ||
  builtinModules.includes(id) ||
  packages.some((name) => id === name || id.startsWith(`${name}/`));

/** Loaded by the first call, not with the package: what only that needs, and takes as long as all the rest. */
const LATE = '@grpc/proto-loader';

/** Has LATE required where it is used. */
const requiredLate = {
  name: 'required-late',
  renderChunk(code) {
    const [line, name] =
      new RegExp(`^(?:const|var) (\\w+) = require\\('${LATE}'\\);\\n`, 'm').exec(code) ?? [];
    if (line === undefined) return null;
    return code.replace(line, '').replaceAll(`${name}.`, `require('${LATE}').`);
  },
};

function inputs(entries, folder, ending) {
  return Object.fromEntries(
    Object.entries(entries).map(([name, source]) => [name, path.join(top, folder, source + ending)]),
  );
}

/** Cuts modules into flat CommonJS files in lib/; `ending` is theirs. Returns what each door exports. */
async function flatten(input, ending, plugins = []) {
  const bundle = await rollup({
    external: isForeign,
    input,
    onwarn: (warning) => {
      // The compiler's helpers for `using` look for helpers of the same name there; there are none.
      if (warning.code !== 'THIS_IS_UNDEFINED') throw new Error(warning.message);
    },
    plugins,
    treeshake: { moduleSideEffects: 'no-external' },
  });
  const { output } = await bundle.write({
    chunkFileNames: `[name]-[hash]${ending}`,
    dir: lib,
    entryFileNames: `[name]${ending}`,
    exports: 'named',
    format: ending === '.cjs' ? 'cjs' : 'es',
    generatedCode: { constBindings: true },
    hoistTransitiveImports: false,
  });
  await bundle.close();
  return new Map(output.filter((chunk) => chunk.isEntry).map((chunk) => [chunk.name, chunk.exports]));
}

function write(name, text) {
  writeFileSync(path.join(lib, name), text, { mode: 0o755 });
}

/** The declarations without what is marked as internal. */
function declarations() {
  const folder = 'build/types';
  rmSync(path.join(top, folder), { force: true, recursive: true });
  const options = [
    '--emitDeclarationOnly',
    '--stripInternal',
    '--incremental',
    'false',
    '--tsBuildInfoFile',
    'null',
  ];
  run('node', ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.json', ...options, '--outDir', folder], {
    stdio: ['ignore', 2, 2],
  });
  return folder;
}

/** The names that are there when a program runs, of a bundle of declarations. */
function namesOf(names, values) {
  return [...names].sort().map((name) => (values.has(name) ? name : `type ${name}`));
}

async function flat() {
  build();
  rmSync(lib, { force: true, recursive: true });
  mkdirSync(lib);
  const values = await flatten(inputs({ ...DOORS, ...PROGRAMS }, 'dist', '.js'), '.cjs', [requiredLate]);
  const types = await flatten(inputs(DOORS, declarations(), '.d.ts'), '.d.cts', [dts()]);
  // Declarations name one another as the code does, and the code is `.cjs`.
  for (const file of readdirSync(lib).filter((each) => each.endsWith('.d.cts'))) {
    const text = readFileSync(path.join(lib, file), 'utf8');
    write(file, text.replaceAll(/(from '\.\/[^']+)\.d\.cts'/g, "$1.cjs'"));
  }
  for (const name of Object.keys(DOORS)) {
    const list = [...values.get(name)].sort().join(',\n  ');
    const typed = namesOf(types.get(name), new Set(values.get(name))).join(',\n  ');
    write(`${name}.js`, `export {\n  ${list},\n} from './${name}.cjs';\n`);
    write(`${name}.d.ts`, `export {\n  ${typed},\n} from './${name}.cjs';\n`);
  }
  for (const name of Object.keys(PROGRAMS))
    write(`${name}.js`, `#!/usr/bin/env node\nimport './${name}.cjs';\n`);
}

const steps = { flat, stubs: writeStubs };
const step = steps[process.argv[2]];
if (step === undefined) {
  console.error(`node scripts/pack.mjs ${Object.keys(steps).join(' | ')}`);
  process.exit(2);
}
await step();
