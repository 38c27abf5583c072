/** Nothing that a command has started outlives the lock, however far it has gone; what cannot be stopped is said. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, describe, it } from 'node:test';

import { type Backend, onBackends, onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';
import { goneBeforeKey, revoke } from './processes.js';
import { exists, MAIN, Running, type RunOptions, start } from './run.js';

/** Prints its process id, and neither ends by itself nor by SIGTERM. */
const STUBBORN = 'trap "" TERM; echo $$; while :; do sleep 0.05; done';
const conclave = `"${process.execPath}" "${MAIN}"`;

/** Each leaves the process group of the command; the variable IT has the script above. */
const WAYS: Readonly<Record<string, readonly string[]>> = {
  'a daemon of its own session': ['sh', '-c', 'setsid -f sh -c "$IT"; sleep 300'],
  'a job of a shell with job control': ['bash', '-c', 'set -m; sh -c "$IT" & wait'],
  'a session of its own': ['sh', '-c', 'setsid -w sh -c "$IT"; true'],
  'an orphan in its own group': ['bash', '-c', 'set -m; (sh -c "$IT" &) ; sleep 300'],
  'one below another conclave lock': ['sh', '-c', `${conclave} lock --ttl 30 "$INNER" -- sh -c "$IT"; true`],
  'one that timeout(1) runs': ['sh', '-c', 'timeout 300 sh -c "$IT"; true'],
  'one without our environment': ['sh', '-c', 'env -i setsid -w sh -c "$0"; true', STUBBORN],
};

function running(backend: Backend, name: string, command: readonly string[]): Running {
  const CONCLAVE_ENDPOINTS = backend.endpoints.join(',');
  const env = { CONCLAVE_ENDPOINTS, INNER: `${name}-inner`, IT: STUBBORN };
  return start(['lock', '--ttl', '6', name, '--', ...command], { env });
}

// Of processes it makes no difference whose server it is.
onBackends(['etcd'], 'what the command of conclave lock has started', (backend) => {
  /** An inner conclave that was killed leaves its lease to run out, or to us. */
  async function endInner(name: string): Promise<void> {
    const client = backend.client();
    const { kvs } = await client.kv.range({ prefix: `${name}-inner/` });
    for (const { leaseId = 0n } of kvs) await client.lease.revoke(leaseId);
  }

  describe('is stopped', { concurrency: 3 }, () => {
    for (const [what, command] of Object.entries(WAYS)) {
      it(`when the lock is lost: ${what}`, async () => {
        const name = `lost ${what}`;
        await using holder = running(backend, name, command);
        const [pid = ''] = await holder.lines(1);
        await revoke(backend.client(), name);
        await until(() => !holder.running);
        assert.equal(exists(Number(pid)), false, 'it outlived the conclave that says it was stopped');
        assert.equal(await holder.ended, 79, holder.stderr);
        assert.match(holder.stderr, /was lost, the command was stopped/);
        await endInner(name);
      });

      it(`before the lock moves when conclave is killed: ${what}`, async () => {
        const name = `killed ${what}`;
        await using holder = running(backend, name, command);
        const [pid = ''] = await holder.lines(1);
        holder.kill('SIGKILL');
        await goneBeforeKey(backend.client(), name, [Number(pid)]);
        await endInner(name);
      });
    }
  });

  it('hears of SIGTERM once, though it has a group of its own or is below another conclave', async () => {
    const script = 'trap "echo told" TERM; echo $$; while :; do sleep 0.05; done';
    const env = { CONCLAVE_ENDPOINTS: backend.endpoints.join(','), IT: script };
    for (const shell of [
      // (Not timeout: that passes on what it hears itself, so its command may hear of it twice.)
      'setsid -w sh -c "$IT"; true',
      `${conclave} lock --ttl 30 once-inner -- sh -c "$IT"; true`,
    ]) {
      await using holder = start(['lock', '--ttl', '4', 'once', '--', 'sh', '-c', shell], { env });
      await holder.lines(1);
      await revoke(backend.client(), 'once');
      assert.equal(await holder.ended, 79, holder.stderr);
      assert.deepEqual(holder.stdout.split('\n').slice(1), ['told', '']);
      await endInner('once');
    }
  });
});

const NOBODY = ['--reuid=65534', '--regid=65534', '--clear-groups'];
const folder = mkdtempSync(path.join(tmpdir(), 'conclave-user-'));
/** A program that becomes root, whoever starts it: what sudo is, without its questions. */
const becomeRoot = path.join(folder, 'become-root');

/** Whether there are two users here, and the other one can run the command. */
function canBeNobody(): boolean {
  if (process.getuid?.() !== 0) return false;
  chmodSync(folder, 0o755);
  const setpriv = spawnSync('sh', ['-c', 'command -v setpriv'], { encoding: 'utf8' }).stdout.trim();
  if (setpriv === '') return false;
  copyFileSync(setpriv, becomeRoot);
  chmodSync(becomeRoot, 0o4755);
  const asNobody = (...command: string[]): string =>
    spawnSync('setpriv', [...NOBODY, ...command], { cwd: '/', encoding: 'utf8' }).stdout;
  return (
    asNobody(becomeRoot, '--reuid=0', '--', 'id', '-u') === '0\n' &&
    asNobody(process.execPath, MAIN, '--version') !== ''
  );
}

after(() => rmSync(folder, { force: true, recursive: true }));
if (canBeNobody()) {
  onEachBackend('what has become of another user', (backend) => {
    const SCRIPT = '"$0" --reuid=0 -- sh -c "while :; do sleep 0.05; done" >/dev/null 2>&1 & echo $!; wait';

    async function untilRoot(pid: number): Promise<void> {
      const user = (): string =>
        spawnSync('ps', ['-o', 'user=', '-p', String(pid)], { encoding: 'utf8' }).stdout;
      await until(() => user().trim() === 'root');
    }

    function asNobody(name: string): Running {
      const options: RunOptions = { env: { CONCLAVE_ENDPOINTS: backend.endpoints.join(',') } };
      const command = [
        process.execPath,
        MAIN,
        'lock',
        '--ttl',
        '2',
        name,
        '--',
        'sh',
        '-c',
        SCRIPT,
        becomeRoot,
      ];
      return new Running('setpriv', [...NOBODY, ...command], options);
    }

    it('is named as not stopped, with an exit code of its own, and not waited for', async () => {
      await using holder = asNobody('sudo');
      const [pid = ''] = await holder.lines(1);
      await untilRoot(Number(pid));
      await revoke(backend.client(), 'sudo');
      try {
        assert.equal(await holder.ended, 80, holder.stderr);
        assert.match(holder.stderr, new RegExp(`of the command could not be stopped: ${pid} \\(EPERM\\)`));
        assert.equal(exists(Number(pid)), true);
      } finally {
        process.kill(Number(pid), 'SIGKILL');
      }
    });

    it('is named by the guardian when conclave was killed', async () => {
      await using holder = asNobody('sudo');
      const [pid = ''] = await holder.lines(1);
      await untilRoot(Number(pid));
      try {
        holder.kill('SIGKILL');
        assert.equal(await holder.ended, 'SIGKILL');
        assert.match(holder.stderr, new RegExp(`could not be stopped: ${pid} \\(EPERM\\)`));
        const client = backend.client();
        await until(async () => (await client.kv.range({ prefix: 'sudo/' })).count === 0n);
      } finally {
        process.kill(Number(pid), 'SIGKILL');
      }
    });
  });
}
