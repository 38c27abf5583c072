import assert from 'node:assert/strict';
import { it } from 'node:test';

import { FaultProxy } from 'conclave/testing';
import { onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';
import { exists, type Running, start, stateOf } from './run.js';

/** Ignores SIGTERM, and prints its own process id. */
const STUBBORN = ['sh', '-c', 'trap "" TERM; echo $$; while :; do sleep 0.02; done'];
const TTL_SECONDS = '2';

onEachBackend('the command of conclave lock', (backend) => {
  async function hold(
    name: string,
    endpoint: string,
  ): Promise<AsyncDisposable & { readonly holder: Running; readonly child: number }> {
    const holder = start(['lock', name, '--ttl', TTL_SECONDS, '--endpoints', endpoint, '--', ...STUBBORN]);
    const [line = ''] = await holder.lines(1);
    return { child: Number(line), holder, [Symbol.asyncDispose]: () => holder[Symbol.asyncDispose]() };
  }

  /** Resolves once the lease has taken the key with it; fails if the command is still there at that moment. */
  async function goneBeforeKey(name: string, child: number): Promise<void> {
    const client = backend.client();
    const watch = client.watch({ prefix: `${name}/` });
    const { kvs } = await client.kv.range({ prefix: `${name}/` });
    assert.equal(kvs.length, 1, 'the key is there to begin with');
    for await (const batch of watch) {
      if (batch.events.some((event) => event.type === 'delete')) break;
    }
    assert.equal(exists(child), false, 'the command outlived the lock');
  }

  it('is killed before the lock can be had by others when the server does not answer', async () => {
    const [endpoint = ''] = backend.endpoints;
    await using proxy = await FaultProxy.start(endpoint);
    await using holding = await hold('silence', proxy.endpoint);
    const { holder, child } = holding;
    proxy.pause();
    await goneBeforeKey('silence', child);
    assert.equal(await holder.ended, 79);
    assert.match(holder.stderr, /"silence" was lost, the command was stopped/);
  });

  it('is killed in time when conclave itself is stopped, and conclave says so when it goes on', async () => {
    await using holding = await hold('stopped', backend.endpoints[0] ?? '');
    const { holder, child } = holding;
    holder.kill('SIGSTOP');
    await goneBeforeKey('stopped', child);
    holder.kill('SIGCONT');
    assert.equal(await holder.ended, 79);
  });

  it('is killed in time when conclave itself is killed', async () => {
    await using holding = await hold('killed', backend.endpoints[0] ?? '');
    const { holder, child } = holding;
    holder.kill('SIGKILL');
    await goneBeforeKey('killed', child);
    assert.equal(await holder.ended, 'SIGKILL');
  });

  it('stands still with conclave at Ctrl-Z, and goes on with it while the lock is held', async () => {
    const counts = ['sh', '-c', 'i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done'];
    await using holder = start([
      'lock',
      'paused',
      '--endpoints',
      backend.endpoints[0] ?? '',
      '--',
      ...counts,
    ]);
    await holder.lines(3);
    holder.kill('SIGTSTP');
    await until(() => stateOf(holder.pid) === 'T');
    const before = holder.stdout.length;
    holder.kill('SIGCONT');
    await until(() => holder.stdout.length > before);
    holder.kill('SIGTERM');
    assert.equal(await holder.ended, 143);
  });
});
