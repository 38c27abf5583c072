/** Who of a command's processes is asked to end: each once, by us or by the one that passes it on. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { CommandProcesses, MARKS, marksWith } from '#conclave/cli/command/command-processes.js';
import { until } from '../support/until.js';
import { Running } from './run.js';

const MARK = 'a-mark-of-this-test';
/** Prints its process id, and each signal that it gets. */
const TELLS = `for (const name of ['SIGTERM', 'SIGUSR1', 'SIGUSR2']) process.on(name, () => console.log(name));
  console.log(process.pid); setInterval(() => {}, 1000);`;

function marked(marks: string, script = TELLS): Running {
  return new Running(process.execPath, ['-e', script], { env: { [MARKS]: marks } });
}

/**
 * How often a process has been asked to end by now. Signals that wait together are delivered in any order, so two more are
 * sent after one another: with the second one, all that came before the first has been told.
 */
async function asked(running: Running, pid = running.pid): Promise<number> {
  for (const name of ['SIGUSR1', 'SIGUSR2'] as const) {
    process.kill(pid, name);
    while (!running.stdout.includes(name)) await running.lines(running.stdout.split('\n').length);
  }
  return running.stdout.split('\n').filter((line) => line === 'SIGTERM').length;
}

describe('the processes of a command', () => {
  it('are found by their mark and asked to end, but not those of an inner conclave', async () => {
    await using own = marked(MARK);
    await using nested = marked(`outer,${MARK}`);
    await using below = marked(marksWith('inner', { [MARKS]: MARK }));
    await using stranger = marked('another');
    for (const each of [own, nested, below, stranger]) await each.lines(1);
    const processes = new CommandProcesses(MARK);
    const found = processes.look().map(({ pid }) => pid);
    assert.deepEqual(found.sort(), [own.pid, nested.pid, below.pid].sort());
    processes.ask();
    assert.equal(await asked(own), 1);
    assert.equal(await asked(nested), 1);
    assert.equal(await asked(below), 0, 'its conclave tells it');
    assert.equal(await asked(stranger), 0);
    assert.deepEqual(
      processes.kill().map(({ refusal }) => refusal),
      [undefined, undefined, undefined],
    );
    for (const each of [own, nested, below]) assert.equal(await each.ended, 'SIGKILL');
    assert.equal(stranger.running, true);
  });

  it('in a group of their own are asked through its leader, if there is one', async () => {
    // The leader is silent, so that all that is printed is the member's.
    const leads = `process.on('SIGTERM', () => {}); setInterval(() => {}, 1000);
      require('node:child_process').spawn(process.execPath, ['-e', process.env.MEMBER], { stdio: 'inherit' });`;
    const setsid = ['-w', process.execPath, '-e', leads];
    await using group = new Running('setsid', setsid, { env: { [MARKS]: MARK, MEMBER: TELLS } });
    const [member = ''] = await group.lines(1);
    const processes = new CommandProcesses(MARK);
    try {
      processes.ask();
      assert.equal(await asked(group, Number(member)), 0);
      group.kill('SIGKILL');
      // As a process it may be gone before the last of its threads is.
      await until(() => !processes.look().some(({ pid }) => pid === group.pid));
      processes.ask();
      await until(() => group.stdout.includes('SIGTERM'), { what: 'nobody else would tell it now' });
    } finally {
      processes.kill();
    }
    await group.ended;
  });
});
