// Names, keys, sessions, jobs and clients that were used once leave nothing in memory. `npm run soak:memory` uses 20,000 of each.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { startEtcd } from 'conclave/testing';

const USES = 250;
/** What one kind left once, a line for each name, was 2 KB a name: twice that, since what the first uses leave is freed later. */
const MOST_BYTES = USES * 256;

test('some hundreds of each, used once, leave nothing in memory', async (t) => {
  await using etcd = await startEtcd();
  const child = fileURLToPath(new URL('memory-child.js', import.meta.url));
  const args = ['--expose-gc', '--no-opt', '--no-sparkplug', child, etcd.endpoint, String(USES), 'together'];
  const { stdout } = await promisify(execFile)(process.execPath, args);
  const { bytes, uses } = JSON.parse(stdout) as { readonly bytes: number; readonly uses: number };
  t.diagnostic(`${String(bytes)} bytes are left of ${String(uses)} uses`);
  assert.ok(uses > 15 * USES);
  assert.ok(bytes < MOST_BYTES, `${String(bytes)} bytes are left of ${String(uses)} uses`);
});
