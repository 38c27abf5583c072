import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { Client } from 'conclave';
import { EmbeddedServer } from 'conclave/embedded';

const top = fileURLToPath(new URL('../../..', import.meta.url));

/** The first TypeScript block of the README. It has no types, so that it runs as it stands. */
async function firstBlock(): Promise<string> {
  const readme = await readFile(path.join(top, 'README.md'), 'utf8');
  const block = /```ts\n([\s\S]*?)```/.exec(readme)?.[1];
  assert.ok(block);
  return block;
}

it("the README's first lock is the example of that name", async () => {
  assert.equal(await firstBlock(), await readFile(path.join(top, 'examples/first-lock.ts'), 'utf8'));
});

it("the README's first lock runs, writes what it says, and leaves nothing held", async () => {
  await using server = await EmbeddedServer.start({ port: 0 });
  const text = (await firstBlock()).replace('http://127.0.0.1:2379', server.endpoint);
  const file = path.join(top, 'build/readme/first-lock.mjs');
  await mkdir(path.dirname(file), { recursive: true });
  await writeFile(file, text);
  await promisify(execFile)(process.execPath, [file], { cwd: top });
  await using client = new Client({ endpoints: [server.endpoint] });
  const { kvs } = await client.kv.range({ prefix: '' });
  assert.deepEqual(
    kvs.map((kv) => kv.key),
    ['orders/42/state'],
  );
  assert.match(kvs[0]?.string() ?? '', /^done, token \d+$/);
  assert.deepEqual(await client.lease.list(), []);
});
