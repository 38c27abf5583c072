// The examples of locks and elections run as they stand, on a server of their own and on one that is given.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { Client } from 'conclave';
import { EmbeddedServer } from 'conclave/embedded';

const PRINTS: Record<string, string[]> = {
  election: ['ann leads', 'bob leads', 'cyd leads', 'seen to lead: ann, bob, cyd'],
  'lock-manager': [
    'report is held shared by example',
    'an exclusive lock is not available',
    'the report says 42',
  ],
  'multi-mutex': ['moved 30 from ann to bob', 'moved 50 from bob to ann', 'ann has 120, bob has 80'],
  mutex: ['ann added 10', 'ann added 10', 'bob added 10', 'bob added 10', 'the sum is 40'],
  'rw-lock': ['ann reads 10', 'bob reads 10', 'the price is 12'],
  semaphore: [
    ...['light 1 is done', 'heavy is done', 'light 2 is done', 'light 3 is done'],
    ...['never more than 3 at a time: true', 'now there are 8'],
  ],
};

for (const [name, lines] of Object.entries(PRINTS)) {
  it(`examples/${name}.ts says what it should, alone and on a given server, where it leaves nothing`, async () => {
    const file = fileURLToPath(new URL(`../../examples/${name}.js`, import.meta.url));
    const alone = { ...process.env };
    delete alone['CONCLAVE_ENDPOINTS'];
    await using server = await EmbeddedServer.start({ port: 0 });
    for (const env of [alone, { ...alone, CONCLAVE_ENDPOINTS: server.endpoint }]) {
      const { stdout } = await promisify(execFile)(process.execPath, [file], { env, timeout: 30_000 });
      const said = stdout.trim().split('\n');
      // Who of several comes first is open.
      assert.deepEqual([...said].sort(), [...lines].sort());
      assert.equal(said.at(-1), lines.at(-1));
    }
    await using client = new Client({ endpoints: [server.endpoint] });
    assert.deepEqual((await client.kv.range({ prefix: '' })).kvs, []);
    assert.deepEqual(await client.lease.list(), []);
  });
}
