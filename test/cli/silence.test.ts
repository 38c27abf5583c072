/** A server that takes connections and says nothing, or stops to: how long it is waited for, and what a second signal does. */
import assert from 'node:assert/strict';
import { it } from 'node:test';

import { FaultProxy } from 'conclave/testing';
import { onBackends } from '../support/backends.js';
import { until } from '../support/until.js';
import { conclave, type Running, start } from './run.js';

/** Sends the signal until the process has heard of it twice, not counting what could be the echo of the first. */
async function insist(running: Running, signal: NodeJS.Signals): Promise<void> {
  await until(async () => {
    if (running.running) running.kill(signal);
    await new Promise((resolve) => setTimeout(resolve, 50));
    return !running.running;
  });
}

onBackends(['etcd'], 'a silent server', (backend) => {
  /** The server behind a proxy, which can be paused. */
  const proxied = async (): Promise<FaultProxy> => FaultProxy.start(backend.endpoints[0] ?? '');

  it('is given up with -n and -w when their time is over, as no server', async () => {
    await using proxy = await proxied();
    proxy.pause();
    for (const option of ['-n', '-w0.2', '-w1']) {
      const { code, stderr } = await conclave([
        'lock',
        option,
        'x',
        '--endpoints',
        proxy.endpoint,
        '--',
        'true',
      ]);
      assert.equal(code, 69);
      // The client itself would go on for longer, and say so in other words.
      assert.match(stderr, /no server has answered in time; check --endpoints/);
    }
  });

  it('does not keep one from ending who is asked to twice, be it that he waits', async () => {
    await using proxy = await proxied();
    await using holder = start(['lock', 'line', '--', 'cat'], {
      env: { CONCLAVE_ENDPOINTS: backend.endpoints.join(',') },
    });
    const client = backend.client();
    const keys = async (): Promise<bigint> => (await client.kv.range({ prefix: 'line/' })).count;
    await until(async () => (await keys()) === 1n);
    await using waiter = start(['lock', 'line', '--ttl', '2', '--endpoints', proxy.endpoint, '--', 'true']);
    await until(async () => (await keys()) === 2n);
    proxy.pause();
    await insist(waiter, 'SIGINT');
    assert.equal(await waiter.ended, 130);
    assert.equal(waiter.stderr, '', 'it does not wait to confirm anything');
    await until(async () => (await keys()) === 1n);
    holder.endInput();
    assert.equal(await holder.ended, 0);
  });

  it('does not keep one from ending who is asked to twice, be it that he holds', async () => {
    await using proxy = await proxied();
    await using holder = start(['lock', 'held', '--ttl', '2', '--endpoints', proxy.endpoint]);
    await holder.lines(1);
    proxy.pause();
    await insist(holder, 'SIGTERM');
    assert.equal(await holder.ended, 143);
    const client = backend.client();
    await until(async () => (await client.kv.range({ prefix: 'held/' })).count === 0n);
  });

  it('is told, once, that one leaves: the second signal of one Ctrl-C is the first again', async () => {
    await using holder = start(['lock', 'npm', '--endpoints', backend.endpoints.join(',')]);
    await holder.lines(1);
    holder.kill('SIGINT');
    holder.kill('SIGTERM'); // Another one, since two of the same at once are one.
    assert.equal(await holder.ended, 0);
    assert.equal((await backend.client().kv.range({ prefix: 'npm/' })).count, 0n);
  });
});
