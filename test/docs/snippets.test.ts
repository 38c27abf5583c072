// Every TypeScript block of the README and of docs/ has the types it needs: it is what a reader copies.
import assert from 'node:assert/strict';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { it } from 'node:test';
import { fileURLToPath } from 'node:url';

import * as conclave from 'conclave';
import ts from 'typescript';

const top = fileURLToPath(new URL('../../..', import.meta.url));
const folder = path.join(top, 'build/snippets');

/** What blocks use without saying where it comes from. A new name goes in here. */
const SURROUNDINGS = `
import type { Client, Conclave, Leadership, Lock, Schema, Session } from 'conclave';
declare global {
  var client: Client;
  var conclave: Conclave;
  var session: Session;
  var lock: Lock;
  var Settings: Schema<{ readonly port: number }>;
  var signal: AbortSignal;
  var startRevision: bigint;
  var state: Map<string, string>;
  var body: string;
  function compute(step: number): Promise<void>;
  function migrate(): Promise<void>;
  function readFile(name: string): Promise<Buffer>;
  function readPrices(): Promise<void>;
  function readReport(signal: AbortSignal): Promise<string>;
  function send(to: string, options: { signal: AbortSignal }): Promise<string>;
  function tick(leadership: Leadership): Promise<void>;
}
`;

/** The blocks of one page, each as a module of its own. */
function modulesOf(page: string): string[] {
  return [...page.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, block = '']) => {
    if (block.startsWith('import ')) return block;
    const names = Object.keys(conclave).filter((name) => new RegExp(`\\b${name}\\b`).test(block));
    return `import { ${names.join(', ')} } from 'conclave';\nexport async function page() {\n${block}}\n`;
  });
}

it('every TypeScript block of the pages compiles', async () => {
  await rm(folder, { force: true, recursive: true });
  await mkdir(folder, { recursive: true });
  const pages = (await readdir(path.join(top, 'docs'))).map((name) => `docs/${name}`);
  const files = [path.join(folder, 'surroundings.mts')];
  await writeFile(files[0] ?? '', SURROUNDINGS);
  for (const page of ['README.md', ...pages]) {
    const text = await readFile(path.join(top, page), 'utf8');
    for (const [at, code] of modulesOf(text).entries()) {
      const file = path.join(folder, `${path.basename(page, '.md')}-${at + 1}.mts`);
      await writeFile(file, code);
      files.push(file);
    }
  }
  assert.ok(files.length > 15, 'the blocks were found');
  const program = ts.createProgram(files, {
    lib: ['lib.es2023.d.ts', 'lib.esnext.disposable.d.ts'],
    module: ts.ModuleKind.NodeNext,
    noEmit: true,
    skipLibCheck: true,
    strict: true,
    target: ts.ScriptTarget.ES2022,
    types: ['node'],
  });
  const wrong = ts.getPreEmitDiagnostics(program).map(({ file, messageText, start = 0 }) => {
    const line = file === undefined ? '' : file.text.slice(start).split('\n', 1)[0];
    const page = path.basename(file?.fileName ?? '');
    return `${page}: ${ts.flattenDiagnosticMessageText(messageText, ' ')}: ${line ?? ''}`;
  });
  assert.deepEqual(wrong, []);
});
