import assert from 'node:assert/strict';
import { it } from 'node:test';

import { compare, op } from 'conclave';
import { FaultProxy } from 'conclave/testing';
import { type Backend, onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';
import { revoke } from './processes.js';
import { conclave, exists, type RunOptions, type Running, start } from './run.js';

function at(backend: Backend): RunOptions {
  return { env: { CONCLAVE_ENDPOINTS: backend.endpoints.join(',') } };
}

/**
 * Starts a command that holds the lock until its input ends, and waits until it runs. It is no shell: that may lose a
 * SIGINT which comes while it forks.
 */
async function holding(backend: Backend, name: string, ...options: string[]): Promise<Running> {
  const running = start(['lock', name, ...options, '--', 'cat'], at(backend));
  running.process.stdin?.write('started\n');
  assert.deepEqual(await running.lines(1), ['started'], running.stderr);
  return running;
}

onEachBackend('conclave lock', (backend) => {
  it("exits as the command does, and 128 + n after a signal's death", async () => {
    assert.equal((await conclave(['lock', 'exit', '--', 'sh', '-c', 'exit 7'], at(backend))).code, 7);
    assert.equal((await conclave(['lock', 'exit', '--', 'sh', '-c', 'kill -9 $$'], at(backend))).code, 137);
    const missing = await conclave(['lock', 'exit', '--', 'no-such-command'], at(backend));
    assert.equal(missing.code, 127);
    assert.match(missing.stderr, /no-such-command: not found/);
    assert.equal((await conclave(['lock', 'exit', '--', '/etc/passwd'], at(backend))).code, 126);
  });

  it('hands the command its key, revision and fencing token, with which it can guard its writes', async () => {
    const script =
      'echo "$CONCLAVE_NAME $CONCLAVE_KEY $CONCLAVE_REVISION $CONCLAVE_FENCING_TOKEN"; cat >/dev/null';
    await using first = start(['lock', 'env', '--', 'sh', '-c', script], at(backend));
    const [line = ''] = await first.lines(1);
    const [name, key = '', revision = '', token = ''] = line.split(' ');
    assert.equal(name, 'env');
    const client = backend.client();
    const write = {
      if: [compare.createRevision(key, '=', BigInt(revision))],
      then: [op.put('env-state', 'x')],
    };
    assert.equal((await client.kv.txn(write)).succeeded, true);
    first.endInput();
    assert.equal(await first.ended, 0);
    assert.equal((await client.kv.txn(write)).succeeded, false);
    await client.kv.delete('env-state');
    const second = await conclave(
      ['lock', 'env', '--', 'sh', '-c', 'echo $CONCLAVE_FENCING_TOKEN'],
      at(backend),
    );
    assert.ok(BigInt(second.stdout.trim()) > BigInt(token));
  });

  it('with -n fails at once while another holds it, by a code of its own or the one of -E', async () => {
    await using holder = await holding(backend, 'build');
    const refused = await conclave(['lock', 'build', '-n', '--', 'echo', 'ran'], at(backend));
    assert.equal(refused.code, 75);
    assert.equal(refused.stdout, '');
    assert.match(refused.stderr, /"build" is held by somebody else/);
    assert.equal((await conclave(['lock', '-nE', '9', 'build', '--', 'true'], at(backend))).code, 9);
    holder.endInput();
    assert.equal(await holder.ended, 0);
    assert.equal((await conclave(['lock', 'build', '-n', '--', 'true'], at(backend))).code, 0);
  });

  it('with -w 0 has a lock that is free, and fails at once otherwise', async () => {
    assert.equal((await conclave(['lock', 'now', '-w', '0', '--', 'true'], at(backend))).code, 0);
    await using holder = await holding(backend, 'now');
    assert.equal((await conclave(['lock', 'now', '-w', '0', '--', 'true'], at(backend))).code, 75);
    holder.endInput();
    assert.equal(await holder.ended, 0);
  });

  it('with -w gives up after that time and leaves the line', async () => {
    await using holder = await holding(backend, 'wait');
    const { code, stderr } = await conclave(['lock', 'wait', '-w', '0.3', '--', 'echo', 'ran'], at(backend));
    assert.equal(code, 75);
    assert.match(stderr, /after 0.3 s/);
    const { kvs } = await backend.client().kv.range({ prefix: 'wait/' });
    assert.equal(kvs.length, 1);
    holder.endInput();
    assert.equal(await holder.ended, 0);
  });

  it('waits without them, and runs when the lock is given back', async () => {
    await using holder = await holding(backend, 'queue');
    await using waiter = start(['lock', 'queue', '--', 'echo', 'ran'], at(backend));
    const client = backend.client();
    await until(async () => (await client.kv.range({ prefix: 'queue/' })).count === 2n);
    assert.equal(waiter.stdout, '');
    holder.endInput();
    assert.equal(await waiter.ended, 0);
    assert.equal(waiter.stdout, 'ran\n');
  });

  it('passes SIGTERM and SIGINT on to the command, and releases the lock', async () => {
    for (const [signal, code] of [
      ['SIGTERM', 143],
      ['SIGINT', 130],
    ] as const) {
      await using holder = await holding(backend, 'signal');
      holder.kill(signal);
      assert.equal(await holder.ended, code);
      assert.equal((await conclave(['lock', 'signal', '-n', '--', 'true'], at(backend))).code, 0);
    }
  });

  it('passes on every signal that a command may take for news', async () => {
    const names = ['SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2', 'SIGWINCH', 'SIGINT', 'SIGTERM'] as const;
    const script = `for (const name of ${JSON.stringify(names)}) process.on(name, () => console.log(name));
      console.log('started'); setInterval(() => {}, 1000);`;
    await using holder = start(['lock', 'news', '--', process.execPath, '-e', script], at(backend));
    await holder.lines(1);
    for (const [count, name] of names.entries()) {
      holder.kill(name);
      assert.equal((await holder.lines(count + 2)).at(-1), name);
    }
    await revoke(backend.client(), 'news');
    assert.equal(await holder.ended, 79);
  });

  it('is not moved by such news while it waits', async () => {
    await using holder = await holding(backend, 'patient');
    await using waiter = start(['lock', 'patient', '--', 'echo', 'ran'], at(backend));
    const client = backend.client();
    await until(async () => (await client.kv.range({ prefix: 'patient/' })).count === 2n);
    for (const name of ['SIGUSR1', 'SIGUSR2', 'SIGWINCH'] as const) waiter.kill(name);
    holder.endInput();
    assert.equal(await holder.ended, 0);
    assert.equal(await waiter.ended, 0);
    assert.deepEqual([waiter.stdout, waiter.stderr], ['ran\n', '']);
  });

  it('lets a command that handles SIGTERM end in its own way', async () => {
    const script = 'trap "echo bye; exit 3" TERM; echo started; while :; do sleep 0.05; done';
    await using holder = start(['lock', 'handled', '--', 'sh', '-c', script], at(backend));
    await holder.lines(1);
    holder.kill('SIGTERM');
    assert.equal(await holder.ended, 3);
    assert.equal(holder.stdout, 'started\nbye\n');
  });

  it('leaves the line when it is interrupted while it waits', async () => {
    await using holder = await holding(backend, 'impatient');
    await using waiter = start(['lock', 'impatient', '--', 'echo', 'ran'], at(backend));
    const client = backend.client();
    await until(async () => (await client.kv.range({ prefix: 'impatient/' })).count === 2n);
    waiter.kill('SIGTERM');
    assert.equal(await waiter.ended, 143);
    assert.equal((await client.kv.range({ prefix: 'impatient/' })).count, 1n);
    assert.equal(waiter.stdout, '');
    holder.endInput();
    await holder.ended;
  });

  it('without a command prints its key and holds the lock until it is interrupted', async () => {
    await using holder = start(['lock', 'keep', '--json'], at(backend));
    const [line = ''] = await holder.lines(1);
    const facts = JSON.parse(line) as Record<string, string>;
    const [kv] = (await backend.client().kv.range({ prefix: 'keep/' })).kvs;
    assert.equal(facts['key'], kv?.key);
    assert.equal(facts['revision'], String(kv?.createRevision));
    assert.equal((await conclave(['lock', 'keep', '-n'], at(backend))).code, 75);
    holder.kill('SIGINT');
    assert.equal(await holder.ended, 0);
    await using plain = start(['lock', 'keep'], at(backend));
    assert.match((await plain.lines(1))[0] ?? '', /^keep\/[0-9a-f]+$/);
    plain.kill('SIGTERM');
    assert.equal(await plain.ended, 0);
  });
});

onEachBackend('conclave lock, when the server cannot be reached', (backend) => {
  it('goes on waiting, and has the lock when it is back', async () => {
    await using proxy = await FaultProxy.start(backend.endpoints[0] ?? '');
    await using holder = await holding(backend, 'outage');
    await using waiter = start([
      'lock',
      'outage',
      '--ttl',
      '30',
      '--endpoints',
      proxy.endpoint,
      '--',
      'echo',
      'ran',
    ]);
    const client = backend.client();
    await until(async () => (await client.kv.range({ prefix: 'outage/' })).count === 2n);
    await proxy.refuse();
    proxy.cut();
    holder.endInput();
    assert.equal(await holder.ended, 0);
    await until(async () => (await client.kv.range({ prefix: 'outage/' })).count === 1n);
    assert.equal(waiter.stdout, '');
    await proxy.accept();
    assert.equal(await waiter.ended, 0);
    assert.deepEqual([waiter.stdout, waiter.stderr], ['ran\n', '']);
  });

  it('exits as the command did, and says that the release is not confirmed', async () => {
    await using proxy = await FaultProxy.start(backend.endpoints[0] ?? '');
    const named = ['--ttl', '2', '--endpoints', proxy.endpoint];
    await using holder = start(['lock', 'release', ...named, '--', 'sh', '-c', 'echo go; cat; exit 3']);
    await holder.lines(1);
    await proxy.refuse();
    proxy.cut();
    holder.endInput();
    assert.equal(await holder.ended, 3);
    assert.match(holder.stderr, /could not confirm the release \(it ends within 2 s\)/);
    const client = backend.client();
    await until(async () => (await client.kv.range({ prefix: 'release/' })).count === 0n);
  });
});

onEachBackend('conclave lock, when the lock is lost', (backend) => {
  it('stops the command with SIGTERM and exits with a code of its own, whatever the command exits with', async () => {
    const script = 'trap "echo told; exit 0" TERM; echo started; while :; do sleep 0.05; done';
    await using holder = start(['lock', 'revoked', '--ttl', '3', '--', 'sh', '-c', script], at(backend));
    await holder.lines(1);
    await revoke(backend.client(), 'revoked');
    assert.equal(await holder.ended, 79);
    assert.equal(holder.stdout, 'started\ntold\n');
    assert.match(holder.stderr, /"revoked" was lost, the command was stopped/);
  });

  it('kills a command that ignores SIGTERM, and all that it has started', async () => {
    const script = 'trap "" TERM; sleep 300 & echo $!; while :; do sleep 0.05; done';
    await using holder = start(['lock', 'stubborn', '--ttl', '2', '--', 'sh', '-c', script], at(backend));
    const [grandchild = ''] = await holder.lines(1);
    await revoke(backend.client(), 'stubborn');
    assert.equal(await holder.ended, 79);
    await until(() => !exists(Number(grandchild)));
  });

  it('notices that its key was deleted', async () => {
    await using holder = await holding(backend, 'deleted');
    await until(async () => {
      // Followed only after a moment, so the key is deleted once it is.
      await backend.client().kv.delete({ prefix: 'deleted/' });
      return !holder.running;
    });
    assert.equal(await holder.ended, 79);
  });

  it('says so when its lease is revoked while it waits', async () => {
    await using holder = await holding(backend, 'evicted');
    await using waiter = start(['lock', 'evicted', '--', 'echo', 'ran'], at(backend));
    const client = backend.client();
    const waiting = await until(async () => {
      const { kvs } = await client.kv.range({ prefix: 'evicted/' });
      return kvs.length === 2 && kvs.reduce((a, b) => (a.createRevision > b.createRevision ? a : b));
    });
    await client.lease.revoke(waiting.leaseId ?? 0n);
    assert.equal(await waiter.ended, 79, waiter.stderr);
    assert.equal(waiter.stdout, '');
    holder.endInput();
    assert.equal(await holder.ended, 0);
  });

  it('without a command says so and exits with that code, too', async () => {
    await using holder = start(['lock', 'idle', '--ttl', '2'], at(backend));
    await holder.lines(1);
    await revoke(backend.client(), 'idle');
    assert.equal(await holder.ended, 79);
    assert.match(holder.stderr, /"idle" was lost: /);
  });
});
