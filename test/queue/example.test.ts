import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

test('examples/queue.ts ends with its counts: nothing lost, nothing done twice', async () => {
  const example = fileURLToPath(new URL('../../examples/queue.js', import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, [example, '--jobs', '300']);
  const last = stdout.trim().split('\n').at(-1) ?? '';
  const { killed, ...rest } = JSON.parse(last) as Record<string, number>;
  assert.ok((killed ?? -1) >= 0);
  assert.deepEqual(rest, {
    jobs: 300,
    done: 300,
    lost: 0,
    twice: 0,
    waiting: 0,
    delayed: 0,
    active: 0,
    dead: 0,
  });
});
