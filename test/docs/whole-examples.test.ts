// The whole examples of docs/embedded.md and docs/testing.md, those that begin with imports, do what they assert.
import assert from 'node:assert/strict';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';

import ts from 'typescript';
import { Running } from '../cli/run.js';

const top = fileURLToPath(new URL('../../..', import.meta.url));
const folder = path.join(top, 'build/whole-examples');
const compilerOptions = { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 };

describe('the whole examples', { concurrency: 2 }, () => {
  for (const page of ['embedded', 'testing']) {
    it(`of docs/${page}.md run to their end`, { timeout: 60_000 }, async () => {
      const text = await readFile(path.join(top, `docs/${page}.md`), 'utf8');
      const blocks = [...text.matchAll(/```ts\n(import [\s\S]*?)```/g)].map(([, block = '']) => block);
      assert.ok(blocks.length >= 2);
      await mkdir(folder, { recursive: true });
      for (const [at, block] of blocks.entries()) {
        const file = path.join(folder, `${page}-${at + 1}.mjs`);
        await writeFile(file, ts.transpileModule(block, { compilerOptions }).outputText);
        const named = process.env['CONCLAVE_ETCD'];
        const env = { CONCLAVE_ETCD_PIDS: process.env['CONCLAVE_ETCD_PIDS'] ?? '' };
        await using example = new Running(process.execPath, [file], {
          env: named === undefined ? env : { ...env, CONCLAVE_ETCD: named },
        });
        assert.equal(await example.ended, 0, `${block}\n${example.stderr}`);
      }
    });
  }
});
