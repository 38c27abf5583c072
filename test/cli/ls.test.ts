import assert from 'node:assert/strict';
import { hostname } from 'node:os';
import { it } from 'node:test';

import { Mutex, Session } from 'conclave';
import { onEachBackend } from '../support/backends.js';
import { conclave, start } from './run.js';

/** No line is longer than the screen but by one word, and no word is cut. */
export function assertFits(text: string, width: number): void {
  for (const line of text.split('\n')) {
    assert.ok(line.length <= width || !line.trim().includes(' '), `${String(line.length)}: ${line}`);
  }
}

onEachBackend('conclave ls', (backend) => {
  const at = (more: Record<string, string> = {}): { env: Record<string, string> } => ({
    env: { CONCLAVE_ENDPOINTS: backend.endpoints.join(','), ...more },
  });

  it('prints who holds what, as a table, as paragraphs where it is narrow, and as JSON', async () => {
    await using session = await Session.open(backend.client(), { label: 'a label of several words' });
    await using held = await new Mutex(session, 'deploy/a-rather-long-name').lock();
    await using holder = start(['lock', 'deploy/web'], at());
    await holder.lines(1);
    await using odd = await new Mutex(session, 'deploy/\u{1b}[31mred').lock();

    const wide = await conclave(['ls', 'deploy/'], at());
    assert.equal(wide.code, 0, wide.stderr);
    const [head = '', ...rows] = wide.stdout.trimEnd().split('\n');
    assert.match(head, /^NAME +KIND +HELD BY +FOR +WAITING +LONGEST +LEASE$/);
    const mine = `${hostname()}:${process.pid} (a label of several words)`;
    assert.ok(
      rows[1]?.startsWith('deploy/a-rather-long-name  lock  ') && rows[1].includes(mine),
      wide.stdout,
    );
    assert.ok(rows[2]?.includes(`${hostname()}:${holder.pid}`), wide.stdout);
    assert.ok(rows[0]?.startsWith('deploy/\\u{1b}[31mred '), wide.stdout);
    assert.ok(!wide.stdout.includes('\u{1b}'));

    const narrow = await conclave(['ls', 'deploy/'], at({ COLUMNS: '40' }));
    assertFits(narrow.stdout, 40);
    assert.ok(narrow.stdout.replaceAll(/\s+/g, ' ').includes(`held by ${mine} for `), narrow.stdout);

    const json = await conclave(['ls', '--json', '--held-by', `${hostname()}:${holder.pid}`], at());
    const { names } = JSON.parse(json.stdout) as { names: { name: string; holders: { pid: number }[] }[] };
    assert.deepEqual(
      names.map(({ holders, name }) => [name, holders[0]?.pid]),
      [['deploy/web', holder.pid]],
    );
    const none = await conclave(['ls'], at({ CONCLAVE_LS_KIND: 'queue' }));
    assert.deepEqual([none.code, none.stdout], [0, '']);
    await Promise.all([held.unlock(), odd.unlock()]);
    holder.kill('SIGTERM');
    await holder.ended;
  });
});
