import assert from 'node:assert/strict';
import { it } from 'node:test';

import { Mutex, Session } from 'conclave';
import { onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';
import { conclave, start } from './run.js';

onEachBackend('conclave release', (backend) => {
  const at = (more: Record<string, string> = {}): { env: Record<string, string> } => ({
    env: { CONCLAVE_ENDPOINTS: backend.endpoints.join(','), ...more },
  });

  it('says what it would do and asks; only a yes does it', async () => {
    await using session = await Session.open(backend.client(), { label: 'one' });
    const held = await new Mutex(session, 'asked').lock();
    await using asking = start(['release', 'asked'], at({ COLUMNS: '80' }));
    await until(() => asking.stderr.includes('[y/N]'));
    assert.match(asking.stdout, /^asked {2}lock, as of revision \d+\n {2}takes it from .* \(one\)/);
    assert.match(
      asking.stdout.replaceAll(/\s+/g, ' '),
      new RegExp(`deletes 1 key: ${held.key} next in line: nobody`),
    );
    asking.process.stdin?.end('n\n');
    assert.equal(await asking.ended, 1);
    // Nobody there to answer.
    assert.equal((await conclave(['release', 'asked'], at())).code, 1);
    assert.ok(held.held);

    await using agreed = start(['release', 'asked'], at());
    agreed.process.stdin?.end('yes\n');
    assert.equal(await agreed.ended, 0, agreed.stderr);
    await until(() => held.signal.aborted);
    const nobody = await conclave(['release', '--yes', 'asked'], at());
    assert.deepEqual([nobody.code, nobody.stderr], [1, 'conclave release: nobody holds "asked"\n']);
  });

  it('ends the session of another client with --lease --yes, and says what it did as JSON', async () => {
    const client = backend.client();
    const { id } = await client.lease.grant(60);
    const key = `go/${id.toString(16)}`;
    await client.kv.put(key, '', { leaseId: id });
    const { code, stderr, stdout } = await conclave(['release', '--lease', '--json', '-y', 'go'], at());
    assert.equal(code, 0, stderr);
    const { from, keys, lease } = JSON.parse(stdout) as {
      from: { foreign: boolean };
      keys: string[];
      lease: string;
    };
    assert.deepEqual([from.foreign, keys, lease], [true, [key], id.toString(16)]);
    assert.equal((await client.lease.timeToLive(id)).ttlSeconds, -1);
  });
});
