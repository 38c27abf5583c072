// Planted edits: a copy of what is built, in which a source file is compiled with a passage of it replaced. What is built in
// dist/ and build/ is not touched: the copy is of hard links, and what is written into it is unlinked first.
import {
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import ts from 'typescript';

import { top } from './steps.mjs';

/**
 * @typedef {object} Edit
 * @property {string} file from the top: below src/ or test/
 * @property {string} from stands in it once, comments and all
 * @property {string} to
 *
 * @typedef {object} Row
 * @property {string} id
 * @property {string} what the fault, in a few words
 * @property {readonly Edit[]} [edits] none: it is not planted, and `missing` says why
 * @property {string} [missing] what it would take to see it
 * @property {readonly string[]} [among] the workloads that could show it; without, all
 * @property {string} [test] what sees it on servers: a file below test/ without its ending, and what its tests are called
 */

/** All rows of a folder's .mjs files, each of which exports an array of them as its default. */
export async function readRows(folder) {
  const dir = path.join(top, folder);
  const files = readdirSync(dir).filter((file) => file.endsWith('.mjs'));
  const rows = [];
  for (const file of files.sort())
    rows.push(...(await import(pathToFileURL(path.join(dir, file)).href)).default);
  const ids = rows.map(({ id }) => id);
  const twice = ids.find((id, at) => ids.indexOf(id) !== at);
  if (twice !== undefined) throw new Error(`two rows of ${folder} are called ${twice}`);
  return rows;
}

/** The rows that are asked for: those whose id is among `only`, or begins with one of it and a blank. */
export function pick(rows, only) {
  if (only.length === 0) return rows;
  const asks = (id, each) => id === each || id.startsWith(`${each} `);
  const idle = only.find((each) => !rows.some(({ id }) => asks(id, each)));
  if (idle !== undefined) throw new Error(`no row is called ${idle}: ${rows.map(({ id }) => id).join(', ')}`);
  return rows.filter(({ id }) => only.some((each) => asks(id, each)));
}

/** A copy of what is built. One edit after the other may be planted in it. */
export class PlantedCopy {
  constructor() {
    mkdirSync(path.join(top, 'build'), { recursive: true });
    this.dir = mkdtempSync(path.join(top, 'build/planted-'));
    for (const folder of ['dist', 'lib', 'build/test', 'build/examples', 'proto']) linkTree(folder, this.dir);
    for (const file of ['package.json']) linkSync(path.join(top, file), path.join(this.dir, file));
    symlinkSync(path.join(top, 'node_modules'), path.join(this.dir, 'node_modules'));
    this.planted = [];
  }

  /** Plants a row's edits in place of those before. Throws when the text that one replaces is not there, or there twice. */
  plant({ edits = [], id }) {
    this.clear();
    // Several edits may be of one file.
    const sources = new Map();
    for (const { file, from, to } of edits) {
      const source = sources.get(file) ?? readFileSync(path.join(top, file), 'utf8');
      const count = source.split(from).length - 1;
      if (count !== 1) throw new Error(`${id}: ${file} has ${count} times, not once:\n${from}`);
      // A function: `to` may have dollar signs.
      sources.set(
        file,
        source.replace(from, () => to),
      );
    }
    for (const [file, source] of sources) this.write(file, compile(file, source));
  }

  /** As it is built. */
  clear() {
    for (const file of this.planted.splice(0)) {
      rmSync(path.join(this.dir, file));
      linkSync(path.join(top, file), path.join(this.dir, file));
    }
  }

  remove() {
    rmSync(this.dir, { force: true, recursive: true });
  }

  write(source, text) {
    const file = outputOf(source);
    rmSync(path.join(this.dir, file));
    writeFileSync(path.join(this.dir, file), text);
    this.planted.push(file);
  }
}

function linkTree(folder, to) {
  for (const entry of readdirSync(path.join(top, folder), { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const from = path.join(entry.parentPath, entry.name);
    const target = path.join(to, path.relative(top, from));
    mkdirSync(path.dirname(target), { recursive: true });
    linkSync(from, target);
  }
}

/** Where a source file is compiled to. */
function outputOf(source) {
  const [room, ...rest] = source.split('/');
  const folder = room === 'src' ? 'dist' : `build/${room}`;
  return path.join(folder, ...rest).replace(/\.ts$/, '.js');
}

/** The repo's compiler options, once read. */
let options;

function readOptions() {
  const { config } = ts.readConfigFile(path.join(top, 'tsconfig.json'), ts.sys.readFile);
  // Its files are of no interest, and many.
  return ts.parseJsonConfigFileContent({ ...config, include: ['package.json'] }, ts.sys, top).options;
}

/** Compiles one file by itself, without a look at its types. */
function compile(file, source) {
  options ??= readOptions();
  const { diagnostics, outputText } = ts.transpileModule(source, {
    // All files are modules: told here, since a file by itself has no package.json.
    compilerOptions: {
      ...options,
      module: ts.ModuleKind.ESNext,
      moduleResolution: ts.ModuleResolutionKind.Bundler,
      rootDir: undefined,
    },
    fileName: file,
    reportDiagnostics: true,
  });
  const [wrong] = diagnostics ?? [];
  if (wrong !== undefined)
    throw new Error(
      `${file} does not compile with its edit: ${ts.flattenDiagnosticMessageText(wrong.messageText, ' ')}`,
    );
  return outputText;
}
