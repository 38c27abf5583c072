/** What the command finds where it runs: our environment, the descriptors of our caller, and a terminal or none. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';

import { EmbeddedServer } from 'conclave/embedded';
import { Preload } from './preload.js';
import { conclave, MAIN, Running, type RunOptions } from './run.js';

describe('the place of the command of conclave lock', () => {
  let server: EmbeddedServer;
  let folder = '';

  before(async () => {
    server = await EmbeddedServer.start();
    folder = mkdtempSync(path.join(tmpdir(), 'conclave-place-'));
  });
  after(async () => {
    await server.close();
    rmSync(folder, { force: true, recursive: true });
  });

  const at = (env: Readonly<Record<string, string>> = {}): RunOptions => ({
    env: { CONCLAVE_ENDPOINTS: server.endpoint, ...env },
  });
  /** Runs a script of bash's in which "$@" is `conclave lock NAME --`. */
  const inBash = (script: string, name: string): Running =>
    new Running('bash', ['-c', script, 'bash', process.execPath, MAIN, 'lock', name, '--'], at());

  it('has every variable, whatever its name, and the functions that a shell exports', async () => {
    const odd = { 'MY-VAR': '1', 'npm_config_//reg/:_authToken': 't', 'spring.datasource.url': 'x=y' };
    const { code, stdout } = await conclave(['lock', 'names', '--', 'env'], at(odd));
    assert.equal(code, 0);
    for (const [name, value] of Object.entries(odd)) assert.ok(stdout.includes(`${name}=${value}\n`), name);
    await using shell = inBash('f() { echo hi; }; export -f f; exec "$@" bash -c f', 'function');
    assert.equal(await shell.ended, 0, shell.stderr);
    assert.equal(shell.stdout, 'hi\n');
  });

  it('is the working folder, though that has been removed', async () => {
    const script = `mkdir "${folder}/gone"; cd "${folder}/gone"; rmdir "${folder}/gone"; exec "$@" echo ran`;
    await using shell = inBash(script, 'folder');
    assert.equal(await shell.ended, 0, shell.stderr);
    assert.equal(shell.stdout, 'ran\n');
  });

  it('says 126 of what is too large to be handed on, to the command or its guardian', async () => {
    for (const [nth, message] of [
      [1, /no guardian process can be started.*E2BIG/],
      [2, /true: cannot be run: .*E2BIG/],
    ] as const) {
      using preload = new Preload(`
        const processes = require('node:child_process');
        const { spawn } = processes;
        let count = 0;
        processes.spawn = (file, args, options) => {
          const env = { ...process.env, ...options.env, ...(++count === ${nth} ? { LARGE: 'x'.repeat(200000) } : {}) };
          return spawn(file, args, { ...options, env });
        };`);
      const { code, stderr } = await conclave(
        ['lock', 'large', '--', 'true'],
        at({ NODE_OPTIONS: preload.option }),
      );
      assert.equal(code, 126, stderr);
      assert.match(stderr, message);
      assert.equal(stderr.trimEnd().split('\n').length, 1, stderr);
    }
  });

  if (process.platform === 'linux') {
    it('has the descriptors that our caller opened', async () => {
      const file = (fd: number): string => path.join(folder, String(fd));
      const fds = [3, 5, 9, 20, 63];
      const redirections = fds.map((fd) => `${fd}>"${file(fd)}"`).join(' ');
      const writes = fds.map((fd) => `echo ${fd} >&${fd}`).join('; ');
      await using shell = inBash(`exec "$@" bash -c '${writes}' ${redirections}`, 'files');
      assert.equal(await shell.ended, 0, shell.stderr);
      for (const fd of fds) assert.equal(readFileSync(file(fd), 'utf8'), `${fd}\n`);
    });

    it("has make's jobserver, both ends of a pipe", async () => {
      const script = `exec "$@" bash -c 'echo token >&4; read -r token <&3; echo "$token"'`;
      const jobserver = 'mkfifo "$0.fifo"; exec 3<>"$0.fifo" 4>&3;';
      await using shell = new Running(
        'bash',
        ['-c', jobserver + script, path.join(folder, 'j'), process.execPath, MAIN, 'lock', 'make', '--'],
        at(),
      );
      assert.equal(await shell.ended, 0, shell.stderr);
      assert.equal(shell.stdout, 'token\n');
    });

    it('gets none of our own files', async () => {
      const { code, stdout } = await conclave(['lock', 'clean', '--', 'ls', '/proc/self/fd'], at());
      assert.equal(code, 0);
      await using direct = new Running('ls', ['/proc/self/fd']);
      await direct.ended;
      assert.equal(stdout, direct.stdout);
    });
  }

  if (spawnSync('script', ['-qec', 'true', '/dev/null']).status === 0) {
    /** Runs a script of bash's in a terminal of its own; what is written to it is typed there. */
    const inTerminal = (script: string, name: string): Running => {
      const lock = `"${process.execPath}" "${MAIN}" lock ${name} -- cat`;
      return new Running('script', ['-qec', `bash -c '${script.replace('LOCK', lock)}'`, '/dev/null'], at());
    };

    it('has no terminal to read from in its background', async () => {
      await using terminal = inTerminal('set -m; LOCK & wait $!; echo "ended with $?"', 'background');
      // Reading the terminal it would wait, and take what is typed.
      assert.equal(await terminal.ended, 0);
      assert.match(terminal.stdout, /ended with 0/);
    });

    it('has the terminal in its foreground', async () => {
      await using terminal = inTerminal('LOCK', 'foreground');
      terminal.process.stdin?.write('typed\n\x04');
      assert.equal(await terminal.ended, 0);
      assert.equal(terminal.stdout.match(/typed/g)?.length, 2, 'the terminal shows it, and so does cat');
    });
  }
});
