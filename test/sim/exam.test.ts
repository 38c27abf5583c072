// The exam of the simulation: its faults can still be planted, each where it was, and what is built stays as it is.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';

const TOP = fileURLToPath(new URL('../../..', import.meta.url));
const BUILT = path.join(TOP, 'dist/util/backoff.js');

interface Copy {
  readonly dir: string;
  plant(row: { readonly id: string; readonly edits: readonly object[] }): void;
  clear(): void;
  remove(): void;
}

async function makeCopy(): Promise<Copy> {
  const url = pathToFileURL(path.join(TOP, 'scripts/lib/planted.mjs')).href;
  const { PlantedCopy } = (await import(url)) as { PlantedCopy: new () => Copy };
  return new PlantedCopy();
}

describe('planted faults', () => {
  test('those of the exam are edits of code that is there', () => {
    const args = ['scripts/sim-exam.mjs', '--check'];
    const { status, stderr, stdout } = spawnSync(process.execPath, args, { cwd: TOP, encoding: 'utf8' });
    assert.equal(status, 0, stderr);
    assert.match(stdout, /^\d\d can be planted$/m);
  });

  test('an edit is made in the copy alone, and taken back', async () => {
    const before = readFileSync(BUILT, 'utf8');
    const copy = await makeCopy();
    try {
      const planted = path.join(copy.dir, 'dist/util/backoff.js');
      const from = 'export function backoffMs(';
      const to = 'export const PLANTED = "$&";\nexport function backoffMs(';
      copy.plant({ edits: [{ file: 'src/util/backoff.ts', from, to }], id: 'one' });
      assert.match(readFileSync(planted, 'utf8'), /PLANTED = "\$&"/);
      assert.equal(readFileSync(BUILT, 'utf8'), before);
      copy.clear();
      assert.equal(readFileSync(planted, 'utf8'), before);
    } finally {
      copy.remove();
    }
    assert.ok(!existsSync(copy.dir));
  });

  test('an edit of what is not there, or there twice, is an error that says so', async () => {
    const copy = await makeCopy();
    try {
      for (const [from, count] of [
        ['no such text', 0],
        ['return', 2],
      ] as const) {
        const edits = [{ file: 'src/util/key-space.ts', from, to: '' }];
        assert.throws(() => copy.plant({ edits, id: 'lost' }), {
          message: new RegExp(
            `^lost: src/util/key-space.ts has ${count === 0 ? '0' : '\\d+'} times, not once`,
          ),
        });
      }
    } finally {
      copy.remove();
    }
  });
});
