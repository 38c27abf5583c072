import assert from 'node:assert/strict';
import { hostname } from 'node:os';
import { it } from 'node:test';

import { Election, JobQueue, Mutex, RWLock, Session } from 'conclave';
import { onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';
import { conclave, start } from './run.js';

/** What is read of `--json`. */
interface View {
  readonly names: readonly {
    readonly kind: string;
    readonly holders: readonly { readonly label?: string; readonly value?: string }[];
    readonly waiters: readonly { readonly label?: string; readonly value?: string }[];
  }[];
}

onEachBackend('conclave show', (backend) => {
  const at = (more: Record<string, string> = {}): { env: Record<string, string> } => ({
    env: { CONCLAVE_ENDPOINTS: backend.endpoints.join(','), ...more },
  });
  const place = `${hostname()}:${process.pid}`;

  it('shows the holder and those who wait in order, and with --watch each change', async () => {
    const client = backend.client();
    await using one = await Session.open(client, { label: 'one' });
    await using two = await Session.open(client, { label: 'two' });
    const [first, second] = [new RWLock(one, 'shown'), new RWLock(two, 'shown')];
    const reading = await first.readLock();
    const writing = second.writeLock();
    await until(async () => (await first.inspect()).waiters.length === 1);
    // What is below the name belongs to other names.
    const below = await new Mutex(one, 'shown/below').lock();

    const { code, stderr, stdout } = await conclave(['show', 'shown'], at({ COLUMNS: '80' }));
    assert.equal(code, 0, stderr);
    assert.match(stdout, new RegExp(`^shown  rw-lock\n  held by ${place} \\(one\\) as a reader\n`));
    assert.match(stdout, /\n {4}since {4}20.* ago\n {4}lease {4}[0-9a-f]+, \d+s left\n {4}key {6}shown\//);
    assert.match(stdout, new RegExp(`\n  waiting 1\n +1  ${place} \\(two\\)  as the writer  for `));
    assert.ok(!stdout.includes('below'));

    await using watcher = start(['show', '--watch', '--json', 'shown'], at());
    await watcher.lines(1);
    await reading.unlock();
    const written = await writing;
    await written.unlock();
    await below.unlock();
    await until(() => watcher.stdout.endsWith('"names":[]}\n'));
    const views = (await watcher.lines(2)).map((line) => JSON.parse(line) as View);
    const [seen] = views[0]?.names ?? [];
    assert.deepEqual([seen?.holders[0]?.label, seen?.waiters[0]?.label], ['one', 'two']);
    watcher.kill('SIGINT');
    assert.equal(await watcher.ended, 130);
    const nobody = await conclave(['show', 'shown'], at());
    assert.deepEqual([nobody.code, nobody.stderr], [1, 'conclave show: nobody uses "shown"\n']);
  });

  it("shows what an election's candidates say, and what a queue's workers do", async () => {
    const client = backend.client();
    await using one = await Session.open(client, { label: 'one' });
    await using _leader = await new Election(one, 'both').campaign('http://one:80');
    {
      await using queue = new JobQueue<string>(one, 'both');
      const failing = await queue.push('fails', { maxAttempts: 1 });
      let stop = (): void => undefined;
      const running = new Promise<void>((resolve) => (stop = resolve));
      await using _worker = queue.process(async ({ data }) => {
        if (data === 'fails') throw new Error('no such host');
        await running;
      });
      await until(async () => (await queue.counts()).dead === 1);
      const slow = await queue.push('slow');
      await until(async () => (await queue.counts()).active === 1);

      const { stdout } = await conclave(['show', 'both'], at({ COLUMNS: '80' }));
      assert.match(stdout, /both {2}election\n {2}led by .*\n[^]*\n {4}value {4}http:\/\/one:80\n/);
      assert.match(stdout, /both {2}queue\n {2}0 waiting; 0 delayed, 1 active, 1 dead; 1 worker\n/);
      const text = stdout.replaceAll(/\s+/g, ' ');
      assert.ok(text.includes(` left: runs ${slow.id}`), stdout);
      assert.ok(text.includes(`dead ${failing.id} after 1 attempt: Error: no such host, `), stdout);
      const json = await conclave(['show', '--json', '--kind', 'election', 'both'], at());
      const { names } = JSON.parse(json.stdout) as View;
      assert.deepEqual(
        names.map(({ holders, kind }) => [kind, holders[0]?.value]),
        [['election', 'http://one:80']],
      );
      stop();
      await until(async () => (await queue.counts()).active === 0);
      await queue.removeDead();
    }
  });
});
