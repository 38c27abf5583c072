import assert from 'node:assert/strict';
import { hostname } from 'node:os';
import { it } from 'node:test';

import { Mutex, RWLock, Session } from 'conclave';
import { readGraph } from '#conclave/look/graph.js';
import { onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';
import { conclave } from './run.js';

onEachBackend('conclave graph', (backend) => {
  const at = (more: Record<string, string> = {}): { env: Record<string, string> } => ({
    env: { CONCLAVE_ENDPOINTS: backend.endpoints.join(','), ...more },
  });

  it('names a deadlock with its parties, and who waits behind it, in a tree and for Graphviz', async () => {
    const client = backend.client();
    await using one = await Session.open(client, { label: 'one' });
    await using two = await Session.open(client, { label: 'two' });
    await using three = await Session.open(client, { label: 'three' });
    const held = [await new Mutex(one, 'dead/x').lock(), await new RWLock(two, 'dead/y').readLock()];
    await new Mutex(three, 'dead/free').lock();
    const over = new AbortController();
    const { signal } = over;
    const waits = [
      new RWLock(one, 'dead/y').writeLock({ signal }),
      new Mutex(two, 'dead/x').lock({ signal }),
      new Mutex(three, 'dead/x').lock({ signal }),
    ];
    for (const wait of waits) wait.catch(() => undefined);
    const waiting = async (): Promise<number> =>
      (await readGraph(client)).names.reduce((sum, { waiters }) => sum + waiters.length, 0);
    await until(async () => (await waiting()) === 3);

    const [x, y] = [one, two].map(({ leaseId }) => leaseId.toString(16));
    const { code, stdout } = await conclave(['graph', '--json', 'dead/'], at());
    assert.equal(code, 1);
    const { cycles, names } = JSON.parse(stdout) as Awaited<ReturnType<typeof readGraph>>;
    const steps = cycles[0]?.map(({ label, waitsFor }) => `${label ?? ''} ${waitsFor}`).sort();
    assert.deepEqual([cycles.length, steps], [1, ['one dead/y', 'two dead/x']]);
    assert.deepEqual(
      names.map(({ holders, name }) => [name, holders]),
      [
        ['dead/x', [x]],
        ['dead/y', [y]],
      ],
    );

    const { stdout: text } = await conclave(['graph'], at({ COLUMNS: '80' }));
    const us = `${hostname()}:${process.pid}`;
    const flat = text.replaceAll(/\s+/g, ' ');
    assert.ok(flat.startsWith('DEADLOCK: 2 sessions wait for one another, unless'), text);
    assert.ok(flat.includes(`${us} (one) holds dead/x and waits for dead/y`), text);
    assert.ok(flat.includes(`${us} (two) holds dead/y and waits for dead/x`), text);
    assert.match(text, /\n {2}dead\/x lock\n( {4}.*\n)* {4}.* \(three\) for \d+s\n?/);
    const { stdout: dot } = await conclave(['graph', '--dot'], at());
    assert.ok(dot.includes(`  "${x}" -> "${y}" [label="dead/y", color=red, fontcolor=red];\n`), dot);

    over.abort();
    await Promise.allSettled(waits);
    await until(async () => (await waiting()) === 0);
    assert.deepEqual(await conclave(['graph'], at()), { code: 0, stderr: '', stdout: '' });
    await Promise.all(held.map((each) => each[Symbol.asyncDispose]()));
  });
});
