/** What users log and pass around, and what comes from another realm or another copy of the package. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inspect } from 'node:util';
import { runInNewContext } from 'node:vm';

import { Client, ConclaveError, hasCode, type Job, JobQueue, Mutex, op, Session } from 'conclave';

import { onEachBackend } from '../support/backends.js';

onEachBackend('what users hold', (backend) => {
  test('shows itself in JSON and on the console, with its numbers, without innards or secrets', async () => {
    await using client = new Client({ endpoints: backend.endpoints });
    await using session = await Session.open(client, { label: 'me', ttlSeconds: 60 });
    await using lock = await new Mutex(session, 'shown').lock();
    await using queue = new JobQueue<{ n: number }>(session, 'shown/jobs');
    await queue.push({ n: 1 });
    await using job: Job<{ n: number }> = await queue.dequeue();
    await client.kv.put('shown-key', 'text');
    const kv = await client.kv.get('shown-key');
    const error = await client.kv.get('shown-key', { revision: 10n ** 9n }).catch((each: unknown) => each);
    await using secretive = new Client({
      auth: { password: 'topsecret', username: 'u' },
      endpoints: backend.endpoints,
    });
    const told = new Map<unknown, RegExp>([
      [client, /endpoints/],
      [error, /FUTURE_REVISION/],
      [job, /"data":\{"n":1\}/],
      [kv, /"key":"shown-key","value":"text","createRevision":"\d+"/],
      [lock, new RegExp(`"fencingToken":"${lock.fencingToken}","held":true`)],
      [secretive, /endpoints/],
      [session, new RegExp(`"leaseId":"${session.leaseId}","label":"me","state":"active"`)],
    ]);
    for (const [thing, expected] of told) {
      assert.match(JSON.stringify(thing), expected);
      const text = inspect(thing, { depth: 12 });
      assert.ok(text.length < 4000 && !text.includes('topsecret'), text);
    }
    assert.match(inspect(kv), /^KeyValue \{\s+key: 'shown-key',\s+value: 'text'/);
    assert.match(inspect(lock), /^Lock \{\s+key: 'shown\//);
    await job.ack();
    await client.kv.delete('shown-key');
  });

  test('and every plain result turns into JSON, and stays plain', async () => {
    await using client = new Client({ batch: 'all', endpoints: backend.endpoints });
    const { kv, lease, maintenance } = client;
    await using session = await Session.open(client, { ttlSeconds: 60 });
    const mutex = new Mutex(session, 'plain');
    await using lock = await mutex.lock();
    assert.ok(lock.held);
    const watcher = client.watch('plain-key');
    await watcher.created;
    const steps = [op.put('plain-key', 'a', { prevKv: true }), op.get('plain-key')];
    const { leaseId } = session;
    const results: readonly object[] = [
      await kv.put('plain-key', 'a'),
      ...(await Promise.all([kv.put('plain-1', 'a'), kv.put('plain-2', 'a'), kv.put('plain-3', 'a')])),
      await kv.txn({ then: [...steps, op.txn({ then: steps })].slice(1) }),
      ...(await kv.txn({ then: steps })).responses,
      await kv.range({ prefix: 'plain-' }),
      (await watcher.next()).value ?? {},
      await kv.delete({ prefix: 'plain-' }, { prevKv: true }),
      await lease.timeToLive(leaseId),
      await lease.keepAliveOnce(leaseId),
      await maintenance.status(),
      await maintenance.hashKv(),
      await client.cluster.memberList(),
      await mutex.inspect(),
      (await mutex.inspect()).holders[0] ?? {},
    ];
    for (const result of results) {
      const json = JSON.stringify(result);
      assert.ok(json.length > 2 && !json.includes('toJSON'), json);
      assert.deepEqual(Object.keys(structuredClone(result)), Object.keys(result));
    }
    watcher.close();
  });

  test('is taken from another realm: bytes, signals, options', async () => {
    await using client = new Client({ endpoints: backend.endpoints });
    const bytes = runInNewContext('new Uint8Array([104, 105])') as Uint8Array;
    await client.kv.put(bytes, bytes);
    const { signal } = new AbortController();
    const foreign = {
      addEventListener: signal.addEventListener.bind(signal),
      removeEventListener: signal.removeEventListener.bind(signal),
      throwIfAborted: signal.throwIfAborted.bind(signal),
      aborted: false,
      reason: undefined,
    } as unknown as AbortSignal;
    assert.equal((await client.kv.get('hi', { signal: foreign }))?.string(), 'hi');
    await client.kv.txn({ then: [op.delete(bytes)] });
    assert.equal(await client.kv.get('hi'), undefined);
  });
});

test('hasCode knows the errors of another copy of the package, and nothing else', async () => {
  const copy = new URL('../../../dist/errors/conclave-error.js?copy', import.meta.url).href;
  const other = (await import(copy)) as { ConclaveError: typeof ConclaveError };
  assert.notEqual(other.ConclaveError, ConclaveError);
  const error: unknown = new other.ConclaveError('TIMEOUT', 'late');
  assert.equal(error instanceof ConclaveError, false);
  assert.ok(hasCode(error, 'TIMEOUT') && hasCode(error) && !hasCode(error, 'CLOSED'));
  if (hasCode(error, 'TIMEOUT', 'CLOSED')) {
    const code: 'TIMEOUT' | 'CLOSED' = error.code;
    assert.equal(code, 'TIMEOUT');
  }
  for (const each of [undefined, null, 'TIMEOUT', { code: 'TIMEOUT' }, new Error('x')])
    assert.equal(hasCode(each), false);
});
