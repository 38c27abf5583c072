import assert from 'node:assert/strict';
import { it } from 'node:test';

import { Election, Session } from 'conclave';
import { onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';
import { conclave, start } from './run.js';

onEachBackend('conclave elect', (backend) => {
  const at = (): { env: Record<string, string> } => ({
    env: { CONCLAVE_ENDPOINTS: backend.endpoints.join(',') },
  });

  it('runs the command while leading, with a value that observers see, and resigns when it ends', async () => {
    const script = 'echo $CONCLAVE_FENCING_TOKEN; cat >/dev/null; exit 4';
    await using leader = start(['elect', 'boss', '--value', 'ann', '--', 'sh', '-c', script], at());
    const [token = ''] = await leader.lines(1);
    assert.match(token, /^\d+$/);
    await using session = await Session.open(backend.client());
    const election = new Election(session, 'boss');
    assert.equal((await election.leader())?.string(), 'ann');
    assert.equal((await conclave(['elect', '-n', 'boss', '--', 'echo', 'ran'], at())).code, 75);
    assert.equal((await conclave(['elect', '-w', '0.2', 'boss', '--', 'echo', 'ran'], at())).code, 75);
    leader.endInput();
    assert.equal(await leader.ended, 4);
    assert.equal(await election.leader(), undefined);
  });

  it('with -n leads at once when nobody does, by its own candidate value', async () => {
    await using leader = start(['elect', '-n', 'vacant', '--value', 'bob'], at());
    assert.match((await leader.lines(1))[0] ?? '', /^vacant\/[0-9a-f]+$/);
    const [kv] = (await backend.client().kv.range({ prefix: 'vacant/' })).kvs;
    assert.equal(kv?.string(), 'bob');
    leader.kill('SIGINT');
    assert.equal(await leader.ended, 0);
  });

  it('with --listen prints each leader, and nothing when nobody leads', async () => {
    await using listener = start(['elect', '--listen', '--json', 'heard'], at());
    assert.deepEqual(await listener.lines(1), ['null']);
    await using leader = start(['elect', 'heard', '--value', 'cid'], at());
    await until(() => listener.stdout.includes('"value":"cid"'));
    leader.kill('SIGTERM');
    assert.equal(await leader.ended, 0);
    assert.equal((await listener.lines(3))[2], 'null');
    listener.kill('SIGINT');
    assert.equal(await listener.ended, 0);
  });
});
