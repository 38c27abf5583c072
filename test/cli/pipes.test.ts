/** What goes in and out: the command's input, and output that nobody reads. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { it } from 'node:test';
import { fileURLToPath } from 'node:url';

import { onEachBackend } from '../support/backends.js';
import { Running, type RunOptions, start } from './run.js';

/** Starts `conclave ARGS` with an output whose reader has gone. */
function unread(args: readonly string[], options: RunOptions = {}): Running {
  const running = start(args, options);
  running.process.stdout?.destroy();
  return running;
}

onEachBackend('the pipes of conclave', (backend) => {
  const at = (): RunOptions => ({ env: { CONCLAVE_ENDPOINTS: backend.endpoints.join(',') } });

  it('hand its input on to the command', async () => {
    await using running = start(['lock', 'in', '--', 'cat'], at());
    running.process.stdin?.write('first\n');
    assert.deepEqual(await running.lines(1), ['first']);
    running.process.stdin?.end('second\n');
    assert.equal(await running.ended, 0);
    assert.equal(running.stdout, 'first\nsecond\n');
  });

  it('end a lock whose key nobody reads, and give it back', async () => {
    await using running = unread(['lock', 'unread', '--ttl', '60'], at());
    assert.equal(await running.ended, 141);
    assert.equal(running.stderr, '');
    assert.deepEqual((await backend.client().kv.range({ prefix: 'unread/' })).kvs, []);
  });

  it('end a listener that nobody reads', async () => {
    await using running = unread(['elect', '--listen', 'unread'], at());
    assert.equal(await running.ended, 141);
    assert.equal(running.stderr, '');
  });
});

it('a help page that nobody reads is no error', async () => {
  await using running = unread(['lock', '--help']);
  assert.equal(await running.ended, 0);
  assert.equal(running.stderr, '');
});

it('a guardian finds the command by its mark when it has not been told of it', async (t) => {
  const mark = 'a-mark-of-its-own';
  // As when conclave is killed between the start of the command and the next line.
  const command = spawn('sleep', ['300'], {
    detached: true,
    env: { ...process.env, CONCLAVE_COMMANDS: `outer,${mark}` },
    stdio: 'ignore',
  });
  const gone = once(command, 'exit');
  t.after(() => command.kill('SIGKILL'));
  const entry = fileURLToPath(new URL('../../../dist/cli/command/guardian-process.js', import.meta.url));
  const farAway = String(process.hrtime.bigint() / 1_000_000n + 600_000n);
  await using guardian = new Running(process.execPath, [entry, mark, farAway]);
  guardian.endInput();
  assert.equal(await guardian.ended, 0);
  assert.deepEqual(await gone, [null, 'SIGTERM']);
});

it('a guardian whose conclave is dead already ends the command without a word of its own', async (t) => {
  const command = spawn('sleep', ['300'], { detached: true, stdio: 'ignore' });
  const gone = once(command, 'exit');
  t.after(() => command.kill('SIGKILL'));
  const entry = fileURLToPath(new URL('../../../dist/cli/command/guardian-process.js', import.meta.url));
  const farAway = String(process.hrtime.bigint() / 1_000_000n + 600_000n);
  await using guardian = new Running(process.execPath, [entry, 'a mark', farAway, String(command.pid)]);
  guardian.process.stdout?.destroy();
  guardian.endInput();
  assert.equal(await guardian.ended, 0);
  assert.equal(guardian.stderr, '');
  assert.deepEqual(await gone, [null, 'SIGTERM']);
});
