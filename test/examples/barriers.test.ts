// The examples of barriers, latch and stm run as they stand, on a server of their own and on one that is given.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { Client } from 'conclave';
import { EmbeddedServer } from 'conclave/embedded';

const PRINTS: Record<string, string[]> = {
  barrier: [
    'migrating',
    'ann works on the new tables',
    'bob works on the new tables',
    'the migration died half-way: nobody goes on',
  ],
  'double-barrier': [
    ...['step 1: ann', 'step 1: bob', 'step 1: cyd'],
    ...['step 2: ann', 'step 2: bob', 'step 2: cyd'],
  ],
  latch: [
    ...['imported north.csv', 'imported south.csv', 'imported west.csv'],
    'all imports are done, 0 remain',
  ],
  stm: [
    'example/accounts/ann has 80',
    'example/accounts/bob has 80',
    'example/accounts/cyd has 140',
    'together 300',
  ],
};

async function run(name: string, env: NodeJS.ProcessEnv): Promise<string[]> {
  const file = fileURLToPath(new URL(`../../examples/${name}.js`, import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, [file], { env, timeout: 30_000 });
  return stdout.trim().split('\n');
}

for (const [name, lines] of Object.entries(PRINTS)) {
  it(`examples/${name}.ts says what it should, alone and on a given server, where it leaves no key`, async () => {
    const alone = { ...process.env };
    delete alone['CONCLAVE_ENDPOINTS'];
    await using server = await EmbeddedServer.start();
    for (const env of [alone, { ...alone, CONCLAVE_ENDPOINTS: server.endpoint }]) {
      const said = await run(name, env);
      // Within a step, or among those who wait, the order is open.
      assert.deepEqual([...said].sort(), [...lines].sort());
      assert.equal(said.at(-1)?.slice(0, 6), lines.at(-1)?.slice(0, 6));
    }
    await using client = new Client({ endpoints: [server.endpoint] });
    const { kvs } = await client.kv.range({ prefix: '' });
    // Records of commits end with their lease when the process does not stay for it.
    assert.deepEqual(
      kvs.filter((kv) => kv.leaseId === undefined).map((kv) => kv.key),
      [],
    );
  });
}
