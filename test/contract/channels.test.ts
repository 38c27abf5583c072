// What the channels of docs/observability.md tell, in which order, and what they never do.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { test } from 'node:test';
import { promisify } from 'node:util';

import { Client, connect, Election, JobQueue, Mutex, op, RWLock, Semaphore, Session } from 'conclave';
import { FaultProxy } from 'conclave/testing';

import { onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';
import { withCode } from './support/rejections.js';

type Told = readonly [channel: string, message: Record<string, unknown>];

const TRACING = ['acquire', 'campaign', 'hold', 'job', 'rpc'];
const PLAIN = ['endpoint', 'loss', 'session', 'stall', 'watch'];

/** Listens to everything until it is disposed of. */
function listen(): Disposable & { readonly told: Told[]; of(...channels: string[]): Told[] } {
  const told: Told[] = [];
  const names = [
    ...TRACING.flatMap((name) =>
      ['start', 'error', 'asyncEnd'].map((part) => [`tracing:conclave:${name}:${part}`, `${name}:${part}`]),
    ),
    ...PLAIN.map((name) => [`conclave:${name}`, name]),
  ] as [string, string][];
  const listeners = names.map(([name, short]) => {
    const listener = (message: unknown): void => {
      told.push([short, { ...(message as Record<string, unknown>) }]);
    };
    subscribe(name, listener);
    return () => unsubscribe(name, listener);
  });
  return {
    of: (...channels) => told.filter(([channel]) => channels.some((each) => channel.startsWith(each))),
    told,
    [Symbol.dispose]: () => {
      for (const stop of listeners) stop();
    },
  };
}

onEachBackend('the channels', (backend) => {
  test('tell of each thing that is asked for and held, in order, without values', async () => {
    const client = backend.client();
    using heard = listen();
    const session = await Session.open(client, { label: 'looked at', ttlSeconds: 5 });
    const lock = await new Mutex(session, 'channels/m').lock();
    await lock.txn({ then: [op.put('channels/value', 'secret')] });
    assert.equal(await new Mutex(session, 'channels/m').tryLock(), undefined);
    await assert.rejects(new Mutex(session, 'channels/m').lock({ timeoutMs: 20 }), withCode('TIMEOUT'));
    await lock.unlock();
    await (await new RWLock(session, 'channels/rw').readLock()).unlock();
    await (await new Semaphore(session, 'channels/s', { limit: 1 }).acquire()).release();
    await (await new Election(session, 'channels/e').campaign('secret')).resign();
    await using queue = new JobQueue<string>(session, 'channels/q');
    await queue.push('secret', { id: 'one' });
    await queue.push('secret', { id: 'two', maxAttempts: 1 });
    await using worker = queue.process((job) => {
      if (job.id === 'two') throw new Error('no');
    });
    await queue.idle({ timeoutMs: 10_000 });
    await worker.stop();
    await queue.removeDead();
    await queue.close();
    await session.close();
    await client.kv.delete('channels/value');

    const told = heard.of('acquire', 'campaign', 'hold', 'session');
    assert.deepEqual(
      told.map(([channel, { kind, state }]) => `${channel} ${String(kind ?? state)}`),
      [
        'session active',
        'acquire:start mutex',
        'hold:start Lock',
        'acquire:asyncEnd mutex',
        'acquire:start mutex',
        'acquire:asyncEnd mutex',
        'acquire:start mutex',
        'acquire:error mutex',
        'acquire:asyncEnd mutex',
        'hold:asyncEnd Lock',
        'acquire:start read',
        'hold:start ReadLock',
        'acquire:asyncEnd read',
        'hold:asyncEnd ReadLock',
        'acquire:start semaphore',
        'hold:start Permit',
        'acquire:asyncEnd semaphore',
        'hold:asyncEnd Permit',
        'campaign:start election',
        'hold:start Leadership',
        'campaign:asyncEnd election',
        'hold:asyncEnd Leadership',
        'session closed',
      ],
    );
    const { leaseId } = session;
    const holding = { fencingToken: lock.fencingToken, key: lock.key, kind: 'Lock', name: 'channels/m' };
    assert.deepEqual(told[2]?.[1], { ...holding, label: 'looked at', leaseId });
    const { waitedMs, ...acquired } = told[3]?.[1] ?? {};
    assert.ok(typeof waitedMs === 'number' && waitedMs >= 0);
    assert.deepEqual(acquired, {
      fencingToken: lock.fencingToken,
      kind: 'mutex',
      name: 'channels/m',
      position: 0,
    });
    assert.equal(told[5]?.[1]['fencingToken'], undefined);
    withCode('TIMEOUT')(told[8]?.[1]['error']);
    assert.equal(told[9]?.[1]['outcome'], 'released');

    const jobs = heard.of('job').map(([channel, { id, queue: of, attempt, error }]) => {
      assert.deepEqual([of, attempt], ['channels/q', 1]);
      return `${channel} ${String(id)}${error instanceof Error ? ` ${error.message}` : ''}`;
    });
    assert.deepEqual(jobs.slice(0, 2), ['job:start one', 'job:asyncEnd one']);
    assert.deepEqual(jobs.slice(2), ['job:start two', 'job:error two no', 'job:asyncEnd two no']);
    const calls = heard.of('rpc:start').map(([, { path }]) => path);
    for (const path of ['/etcdserverpb.KV/Txn', '/etcdserverpb.Lease/LeaseGrant'])
      assert.ok(calls.includes(path));
    assert.equal(heard.of('rpc:start').length, heard.of('rpc:asyncEnd').length);
    const text = heard.told.map(([channel, message]) => channel + Object.values(message).join()).join('\n');
    assert.ok(!text.includes('secret'), 'no value is told');
  });

  test('tell of losses, of watches that go on, and of members that are left', async () => {
    const client = backend.client();
    const target = backend.endpoints[0] ?? '';
    await using one = await FaultProxy.start(target);
    await using other = await FaultProxy.start(target);
    using heard = listen();
    await using conclave = await connect({ endpoints: [one.endpoint, other.endpoint], ttlSeconds: 2 });
    const { session } = conclave;
    const lock = await conclave.mutex('channels/lost').lock();
    const watcher = conclave.client.watch('channels/w');
    await watcher.created;
    await client.kv.put('channels/w', '');
    await watcher.next();
    one.cut();
    other.cut();
    const resumed = (): Told | undefined => heard.of('watch').find(([, { key }]) => key === 'channels/w');
    await until(() => resumed() !== undefined);
    assert.equal(resumed()?.[1]['event'], 'resumed');
    await client.lease.revoke(session.leaseId);
    await until(() => heard.of('loss').length > 0 && heard.of('session').length >= 3);
    const [, loss] = heard.of('loss')[0] ?? assert.fail();
    assert.deepEqual([loss['name'], loss['fencingToken']], ['channels/lost', lock.fencingToken]);
    assert.ok(loss['error'] instanceof Error);
    const end = heard.of('hold:asyncEnd')[0]?.[1];
    assert.deepEqual([end?.['outcome'], end?.['error']], ['lost', loss['error']]);
    assert.deepEqual(
      heard
        .of('session')
        .map(([, { leaseId, state }]) => `${String(leaseId)} ${String(state)}`)
        .filter((state) => /active|lost/.test(state))
        .filter((state, at, all) => state !== all[at - 1]),
      [`${session.leaseId} active`, `${session.leaseId} lost`, `${conclave.session.leaseId} active`],
    );
    assert.ok(Number(resumed()?.[1]['lagMs']) > 0);
    const moves = heard.of('endpoint').length;
    await one.refuse();
    one.cut();
    await conclave.client.kv.get('channels/w');
    await one.accept();
    await other.refuse();
    other.cut();
    await conclave.client.kv.get('channels/w');
    assert.ok(heard.of('endpoint').length > moves);
    const [, moved] = heard.of('endpoint').at(-1) ?? assert.fail();
    assert.equal(moved['to'], one.endpoint);
    watcher.close();
    await client.kv.delete('channels/w');
  });

  test('tell how many were ahead, and of jeopardy', async () => {
    await using proxy = await FaultProxy.start(backend.endpoints[0] ?? '');
    await using client = new Client({ endpoints: [proxy.endpoint] });
    using heard = listen();
    const sessions = await Promise.all([1, 2, 3].map(() => Session.open(client, { ttlSeconds: 5 })));
    const [held, ...others] = sessions.map((session) => new Mutex(session, 'channels/p'));
    const lock = await (held ?? assert.fail()).lock();
    // Once a wait in vain can say who holds, the line is known here, and stays known for a while.
    await until(async () => {
      const waited = others[0]?.lock({ timeoutMs: 30 });
      return (await waited?.then(() => '', String))?.includes('held by') === true;
    });
    heard.told.length = 0;
    const asked = others.map(async (mutex) => (await mutex.lock()).unlock());
    await until(async () => (await held?.inspect())?.waiters.length === 2);
    await lock.unlock();
    await Promise.all(asked);
    const positions = heard.of('acquire:asyncEnd').map(([, { position }]) => position);
    assert.deepEqual(positions, [1, 2]);

    const [session] = sessions;
    const { leaseId } = session ?? assert.fail();
    const states = (): unknown[] =>
      heard.of('session').flatMap(([, told]) => (told['leaseId'] === leaseId ? [told['state']] : []));
    heard.told.length = 0;
    proxy.pause();
    await until(() => states().includes('jeopardy'));
    proxy.resume();
    await until(() => states().includes('active'));
    assert.deepEqual(states(), ['jeopardy', 'active']);
    await Promise.all(sessions.map((each) => each.close()));
  });

  test('tell of an event loop that was kept busy when a keepalive was due', async () => {
    using heard = listen();
    await using _session = await Session.open(backend.client(), { ttlSeconds: 2 });
    await until(() => {
      const from = performance.now();
      while (performance.now() - from < 200);
      return heard.of('stall').length > 0;
    });
    assert.ok(Number(heard.of('stall')[0]?.[1]['lateMs']) > 50);
  });

  test('NODE_DEBUG=conclave prints them', async () => {
    const text =
      "import { connect } from 'conclave'; const conclave = await connect({ endpoints: process.argv[1] }); " +
      "await conclave.mutex('channels/debug').run(() => undefined); await conclave.close();";
    const args = ['--input-type=module', '--eval', text, backend.endpoints[0] ?? ''];
    const env = { ...process.env, NODE_DEBUG: 'conclave' };
    const { stderr, stdout } = await promisify(execFile)(process.execPath, args, { env });
    assert.equal(stdout, '');
    assert.match(stderr, /CONCLAVE \d+: session \{.*state: 'active'/);
    assert.match(stderr, /CONCLAVE \d+: acquire … \{ kind: 'mutex', name: 'channels\/debug' \}/);
    assert.match(stderr, /CONCLAVE \d+: hold \{.*outcome: 'released'/);
  });
});
