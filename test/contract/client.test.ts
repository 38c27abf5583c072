import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { before, test } from 'node:test';
import { Client, ConclaveError, Election, Mutex, Session } from 'conclave';
import { FaultProxy } from 'conclave/testing';
import { faultsOf } from '#conclave/etcd/admin/known-faults.js';
import { onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';
import { withCode } from './support/rejections.js';

const CHILD = fileURLToPath(new URL('support/uses-everything.js', import.meta.url));
const CLOSED = withCode('CLOSED');

onEachBackend('client', (backend) => {
  let client: Client;
  before(() => {
    client = backend.client();
  });

  /** Runs the child, and resolves with its exit code, what it said, and how long it took to end after that. */
  async function runChild(how: string): Promise<{ code: number; said: string; endedMs: number }> {
    const child = spawn(process.execPath, [CHILD, backend.endpoints[0] ?? '', how]);
    let said = '';
    let saidAt = performance.now();
    child.stderr.on('data', (part: Buffer) => (said += String(part)));
    child.stdout.on('data', (part: Buffer) => {
      said += String(part);
      saidAt = performance.now();
    });
    const stuck = setTimeout(() => child.kill('SIGKILL'), 15_000);
    const [code] = (await once(child, 'exit')) as [number | null];
    clearTimeout(stuck);
    return { code: code ?? -1, endedMs: performance.now() - saidAt, said };
  }

  test('a process that has closed it ends by itself', async () => {
    for (const how of ['session', 'client']) {
      const { code, said, endedMs } = await runChild(how);
      assert.equal(code, 0, said);
      assert.match(said, /closed\n$/);
      assert.ok(endedMs < 1500, `${endedMs} ms`);
    }
    // Closing the client alone leaves the lease to run out.
    for (const id of await client.lease.list()) await client.lease.revoke(id);
  });

  test('close ends all that is going on with CLOSED, at once, and refuses what comes later', async () => {
    await using proxy = await FaultProxy.start(backend.endpoints[0] ?? '', { grpc: true });
    const own = new Client({ endpoints: proxy.endpoint });
    const session = await Session.open(own, { ttlSeconds: 60 });
    const mutex = new Mutex(session, 'closing');
    const election = new Election(session, 'closing-too');
    const lock = await mutex.lock();
    const leadership = await election.campaign('me');
    const watch = own.watch('x');
    await watch.created;
    const observe = election.observe();
    await observe.next();
    const keepAlive = own.lease.keepAlive(session.leaseId);
    await keepAlive.next();
    proxy.onCall('*', 'holdReply');
    const attempts = {
      campaign: election.campaign('me again'),
      get: own.kv.get('x'),
      keepAlive: keepAlive.next(),
      keepAliveOnce: own.lease.keepAliveOnce(session.leaseId),
      lock: mutex.lock(),
      observe: observe.next(),
      open: Session.open(own),
      put: own.kv.put('x', ''),
      run: election.run('me', () => 1),
      txn: own.kv.txn({}),
      watch: watch.next(),
    };
    const outcomes = Promise.all(
      Object.entries(attempts).map(async ([name, attempt]) => {
        const outcome = await attempt.then(
          () => 'resolved',
          (error: unknown) => (error instanceof ConclaveError ? error.code : String(error)),
        );
        return [name, outcome];
      }),
    );
    const startedAt = performance.now();
    await own.close();
    await own.close();
    const codes = Object.fromEntries(await outcomes) as Record<string, string>;
    const lost = { campaign: 'SESSION_LOST', lock: 'SESSION_LOST' };
    const closed = Object.fromEntries(Object.keys(attempts).map((name) => [name, 'CLOSED']));
    assert.deepEqual(codes, { ...closed, ...lost });
    assert.ok(performance.now() - startedAt < 1000);
    assert.deepEqual([lock.held, leadership.held, session.state], [false, false, 'lost']);
    CLOSED(own.closed.reason);
    await assert.rejects(own.kv.get('x'), CLOSED);
    await assert.rejects(own.lease.grant(5), CLOSED);
    await assert.rejects(own.lease.keepAliveOnce(5n), CLOSED);
    await assert.rejects(Session.open(own), CLOSED);
    await assert.rejects(own.maintenance.status(), CLOSED);
    assert.throws(() => own.watch('x'), CLOSED);
    assert.throws(() => own.lease.keepAlive(5n), CLOSED);
    await client.kv.delete({ prefix: '' });
    await until(async () => {
      for (const id of await client.lease.list()) await client.lease.revoke(id);
      return (await client.lease.list()).length === 0;
    });
  });

  test('knows its endpoints, and the member that answers', async () => {
    assert.deepEqual(client.endpoints, backend.endpoints);
    const status = await client.maintenance.status();
    assert.match(status.version, /^3\.\d+\.\d+/);
    const [member] = await client.cluster.memberList();
    assert.equal(member?.id, status.memberId);
    assert.equal(status.leader, status.memberId);
  });

  test('knows the faults of its servers by their versions; the embedded server has none of etcd', async () => {
    const { version } = await client.maintenance.status();
    const faults = await client.maintenance.knownFaults();
    if (backend.kind === 'embedded') assert.deepEqual([version, faults], ['3.5.23+conclave', []]);
    const members = backend.endpoints.map((endpoint) => ({ endpoint, version }));
    assert.deepEqual(
      faults.map(({ id, members: who }) => [id, who]),
      faultsOf(version).map(({ id }) => [id, members]),
    );
    // One that does not answer is not passed over; the others can be asked one by one.
    const [endpoint = ''] = backend.endpoints;
    await using own = new Client({ endpoints: ['http://127.0.0.1:1', endpoint] });
    await assert.rejects(own.maintenance.knownFaults({ timeoutMs: 200 }), withCode('UNAVAILABLE'));
    assert.deepEqual(await own.maintenance.knownFaults({ endpoint }), faults);
  });

  test('with one endpoint of two unreachable, every call is answered', async () => {
    await using own = new Client({ endpoints: ['http://127.0.0.1:1', ...backend.endpoints] });
    for (let n = 0; n < 20; n++) await own.kv.put('two', String(n));
    assert.equal((await own.kv.get('two'))?.string(), '19');
    await own.kv.delete('two');
  });

  test('a call whose answer is swallowed: a read is asked again, a write is unknown, a guarded one is sent again', async () => {
    await using proxy = await FaultProxy.start(backend.endpoints[0] ?? '', { grpc: true });
    await using own = new Client({ endpoints: proxy.endpoint });
    await own.kv.put('swallow', '0');
    proxy.swallowNextReply();
    assert.equal((await own.kv.get('swallow'))?.string(), '0');
    proxy.swallowNextReply();
    await assert.rejects(own.kv.put('swallow', '1'), withCode('UNKNOWN_OUTCOME'));
    const after = await own.kv.get('swallow');
    assert.deepEqual([after?.string(), after?.version], ['1', 2n]);
    proxy.swallowNextReply();
    const lease = await own.lease.grant(60);
    proxy.swallowNextReply();
    await own.lease.revoke(lease.id);
    assert.deepEqual(await own.lease.list(), []);
    await own.kv.delete('swallow');
  });
});
