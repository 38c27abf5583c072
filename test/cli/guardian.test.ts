import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { it } from 'node:test';

import { FaultProxy } from 'conclave/testing';
import { onBackends } from '../support/backends.js';
import { until } from '../support/until.js';
import { Preload } from './preload.js';
import { goneBeforeKey, guardianOf, revoke } from './processes.js';
import { exists, MAIN, Running, start, stateOf } from './run.js';

/** Ignores SIGTERM, and prints its own process id. */
const STUBBORN = ['sh', '-c', 'trap "" TERM; echo $$; while :; do sleep 0.02; done'];
const TTL_SECONDS = '2';

// Of processes it makes no difference whose server it is.
onBackends(['etcd'], 'the command of conclave lock', (backend) => {
  const at = (): string[] => ['--endpoints', backend.endpoints.join(',')];

  async function hold(
    name: string,
    endpoint: string,
    ttl = TTL_SECONDS,
  ): Promise<AsyncDisposable & { readonly holder: Running; readonly child: number }> {
    const holder = start(['lock', name, '--ttl', ttl, '--endpoints', endpoint, '--', ...STUBBORN]);
    const [line = ''] = await holder.lines(1);
    return { child: Number(line), holder, [Symbol.asyncDispose]: () => holder[Symbol.asyncDispose]() };
  }

  /** Resolves once the lease has taken the key with it; fails if the command is still there at that moment. */
  async function commandGoneBeforeKey(name: string, child: number): Promise<void> {
    await goneBeforeKey(backend.client(), name, [child]);
  }

  it('is killed before the lock can be had by others when the server does not answer', async () => {
    const [endpoint = ''] = backend.endpoints;
    await using proxy = await FaultProxy.start(endpoint);
    await using holding = await hold('silence', proxy.endpoint);
    const { holder, child } = holding;
    proxy.pause();
    await commandGoneBeforeKey('silence', child);
    assert.equal(await holder.ended, 79);
    assert.match(holder.stderr, /"silence" was lost, the command was stopped/);
  });

  it('is killed in time when conclave itself is stopped, and conclave says so when it goes on', async () => {
    await using holding = await hold('stopped', backend.endpoints[0] ?? '');
    const { holder, child } = holding;
    holder.kill('SIGSTOP');
    await commandGoneBeforeKey('stopped', child);
    holder.kill('SIGCONT');
    assert.equal(await holder.ended, 79);
  });

  it('is killed in time when conclave itself is killed', async () => {
    await using holding = await hold('killed', backend.endpoints[0] ?? '');
    const { holder, child } = holding;
    holder.kill('SIGKILL');
    await commandGoneBeforeKey('killed', child);
    assert.equal(await holder.ended, 'SIGKILL');
  });

  it('stands still with conclave at Ctrl-Z, and goes on with it while the lock is held', async () => {
    const script = 'echo $$; i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done';
    await using holder = start(['lock', 'paused', ...at(), '--', 'sh', '-c', script]);
    const [pid = ''] = await holder.lines(3);
    holder.kill('SIGTSTP');
    await until(() => stateOf(holder.pid) === 'T');
    // D: a shell that has just made a process waits for it to begin, and that stands still.
    await until(() => /[TD]/.test(stateOf(Number(pid))), { what: 'the command stands still, too' });
    holder.kill('SIGCONT');
    await until(() => stateOf(holder.pid) !== 'T' && stateOf(Number(pid)) !== 'T');
    const before = (await holder.lines(1)).length;
    await holder.lines(before + 3);
    holder.kill('SIGTERM');
    assert.equal(await holder.ended, 143);
  });

  it('does not go on with conclave once the lock is lost', async () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'conclave-still-'));
    using _ = { [Symbol.dispose]: () => rmSync(folder, { recursive: true }) };
    const beats = path.join(folder, 'beats');
    const script = 'trap "echo told" TERM; echo $$; while :; do echo beat >&3; sleep 0.02; done';
    // The TTL gives it 2.5 s between SIGTERM and SIGKILL.
    const command = ['sh', '-c', `exec 3>>"${beats}"; ${script}`];
    await using holder = start(['lock', 'woken', '--ttl', '60', ...at(), '--', ...command]);
    const [pid = ''] = await holder.lines(1);
    await revoke(backend.client(), 'woken');
    await holder.lines(2);
    holder.kill('SIGTSTP');
    // The guardian may have killed it before it was seen to stand still.
    await until(() => stateOf(holder.pid) === 'T' && /^[TXZ]?$/.test(stateOf(Number(pid))));
    const { size } = statSync(beats);
    assert.ok(size > 0);
    holder.kill('SIGCONT');
    assert.equal(await holder.ended, 79);
    // Not by its state: what is killed while it stands still runs for a moment, to its end.
    assert.equal(statSync(beats).size, size, 'it has done nothing more');
  });

  it('is killed soon when conclave is killed after the lock was lost, however long the TTL', async () => {
    const script = 'trap "echo told" TERM; echo $$; while :; do sleep 0.02; done';
    await using holder = start(['lock', 'twice', '--ttl', '600', ...at(), '--', 'sh', '-c', script]);
    const [pid = ''] = await holder.lines(1);
    await revoke(backend.client(), 'twice');
    await holder.lines(2);
    holder.kill('SIGKILL');
    await until(() => !exists(Number(pid)));
  });

  it('goes on for longer than the TTL', async () => {
    await using holder = start(['lock', 'long', '--ttl', '1', ...at(), '--', 'sh', '-c', 'sleep 3; exit 5']);
    assert.equal(await holder.ended, 5, holder.stderr);
  });

  it('is killed by conclave itself when its guardian stands still', async () => {
    await using holding = await hold('alone', backend.endpoints[0] ?? '');
    const { holder, child } = holding;
    const guardian = await guardianOf(holder.pid);
    process.kill(guardian, 'SIGSTOP');
    await revoke(backend.client(), 'alone');
    assert.equal(await holder.ended, 79, holder.stderr);
    assert.deepEqual([child, guardian].filter(exists), []);
  });

  it('gets another guardian at once when its own is killed', async () => {
    await using holding = await hold('replaced', backend.endpoints[0] ?? '');
    const { holder, child } = holding;
    const first = await guardianOf(holder.pid);
    process.kill(first, 'SIGKILL');
    const second = await guardianOf(holder.pid, first);
    process.kill(second, 'SIGKILL');
    await guardianOf(holder.pid, second);
    holder.kill('SIGKILL');
    await commandGoneBeforeKey('replaced', child);
  });

  it('keeps its guardian when that gets the signals which end all others', async () => {
    await using holding = await hold('signalled', backend.endpoints[0] ?? '');
    const { holder, child } = holding;
    const guardian = await guardianOf(holder.pid);
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.kill(guardian, signal);
    holder.kill('SIGKILL');
    await commandGoneBeforeKey('signalled', child);
    await until(() => !exists(guardian));
  });

  it('is stopped when it cannot have another guardian', async () => {
    using preload = new Preload(
      `if (/guardian-process/.test(process.argv[1]) && require('node:fs').existsSync(process.env.FLAG)) process.exit(3);`,
    );
    const env = { FLAG: path.join(preload.folder, 'flag'), NODE_OPTIONS: preload.option };
    await using holder = start(['lock', 'unguarded', '--ttl', TTL_SECONDS, ...at(), '--', ...STUBBORN], {
      env,
    });
    const [pid = ''] = await holder.lines(1);
    writeFileSync(env.FLAG, '');
    process.kill(await guardianOf(holder.pid), 'SIGKILL');
    assert.equal(await holder.ended, 126);
    assert.match(holder.stderr, /no guardian process can be started.*ended with 3/);
    assert.equal(exists(Number(pid)), false);
  });

  it('does not run, and the lock is given back, when no descriptor is left to start it or its guardian with', async () => {
    for (const [nth, message] of [
      [1, /no guardian process can be started.*EMFILE/],
      [2, /cat: cannot be run: EMFILE/],
    ] as const) {
      using preload = new Preload(exhausted(nth));
      const env = { NODE_OPTIONS: preload.option };
      const command = [process.execPath, MAIN, 'lock', 'full', '--ttl', '60', ...at(), '--', 'cat'];
      await using holder = new Running('sh', ['-c', 'ulimit -n 100; exec "$@"', 'sh', ...command], { env });
      assert.equal(await holder.ended, 126, holder.stderr);
      assert.match(holder.stderr, message);
      assert.equal((await backend.client().kv.range({ prefix: 'full/' })).count, 0n);
    }
  });
});

/** Lets the nth process that is started find no free descriptor. */
function exhausted(nth: number): string {
  return `
const { openSync, closeSync } = require('node:fs');
const processes = require('node:child_process');
const { spawn } = processes;
let count = 0;
processes.spawn = (...args) => {
  if (++count !== ${nth}) return spawn(...args);
  const taken = [];
  try { for (;;) taken.push(openSync('/dev/null')); } catch {}
  try { return spawn(...args); } finally { taken.forEach((fd) => closeSync(fd)); }
};`;
}
