import assert from 'node:assert/strict';
import { it } from 'node:test';

import { Mutex, Session } from 'conclave';
import { onEachBackend } from '../support/backends.js';
import { conclave } from './run.js';

onEachBackend('conclave history', (backend) => {
  it('prints each term, and with --at who held it then', async () => {
    const env = { COLUMNS: '80', CONCLAVE_ENDPOINTS: backend.endpoints.join(',') };
    await using session = await Session.open(backend.client(), { label: 'one' });
    const mutex = new Mutex(session, 'told');
    const first = await mutex.lock();
    await first.unlock();
    const second = await mutex.lock();

    const { code, stderr, stdout } = await conclave(['history', 'told'], { env: { ...env, COLUMNS: '' } });
    assert.equal(code, 0, stderr);
    const [heading = '', head = '', ...rows] = stdout.trimEnd().split('\n');
    assert.match(
      heading,
      /^told {2}lock, from when the store began, to .*no two overlap; nothing is missing$/,
    );
    assert.match(head, /^TOKEN +HELD BY +FROM +UNTIL +REVISION +ENDED$/);
    assert.match(rows[0] ?? '', new RegExp(`^${first.fencingToken} .* \\(one\\) .* released, then free$`));
    assert.match(rows[1] ?? '', new RegExp(`^${second.fencingToken} .* \\(one\\) .* holds it$`));

    const at = async (when: string): Promise<string> => {
      const told = await conclave(['history', '--at', when, 'told'], { env });
      return `${String(told.code)} ${told.stdout.split('\n').slice(1).join(' ').replaceAll(/\s+/g, ' ')}`;
    };
    assert.match(
      await at(String(first.fencingToken)),
      /^0 .*it was held by .* \(one\) from revision \d+, until/,
    );
    assert.match(await at('99999999'), /^1 .*it is not known who held it at revision 99999999/);
    const soon = new Date(Date.now() + 60_000).toISOString();
    assert.match(await at(soon), /^0 .* held by .* \(one\) from revision \d+, which holds it still/);
    assert.match(await at('1999-01-01'), /^1 .*nobody is known to have held it/);
    await second.unlock();
  });
});
