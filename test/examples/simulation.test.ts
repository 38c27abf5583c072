// The example of the simulation finds the fault of the careless program, and none in the other.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

it('examples/simulation.ts finds the planted fault, the same each time', async () => {
  const file = fileURLToPath(new URL('../../examples/simulation.js', import.meta.url));
  const run = async (): Promise<string> =>
    (await promisify(execFile)(process.execPath, [file], { timeout: 120_000 })).stdout;
  const [said, again] = await Promise.all([run(), run()]);
  assert.match(
    said,
    /^careless: seed \d+ loses [1-9]\d* of its increments\nguarded: no seed up to 50 loses any\n$/,
  );
  assert.equal(again, said);
});
