// Lines whose watch is refused, cut, overtaken or late: who follows a key, waits or observes still hears what happened.
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';

import { type Client, Election, MultiMutex, Mutex, RWLock, Semaphore, type Session } from 'conclave';
import { type FaultProxy } from 'conclave/testing';
import { lineIfUsed, lineOf } from '#conclave/ticket/lines.js';
import { onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';
import { withCode } from '../contract/support/rejections.js';
import { fate, onlyReads, RPC, Scene } from './scene.js';

interface Stage {
  readonly scene: Scene;
  readonly proxy: FaultProxy;
  readonly client: Client;
  readonly session: Session;
}

onEachBackend('lines under faults', (backend) => {
  async function stage(t: TestContext): Promise<Stage> {
    const scene = new Scene(t, backend);
    const proxy = await scene.proxy();
    const client = scene.client(proxy);
    return { client, proxy, scene, session: await scene.session(client, { ttlSeconds: 60 }) };
  }

  test('a name that was held for a moment leaves no line in memory', async (t) => {
    const { client, session } = await stage(t);
    await new Mutex(session, 'x').run(() => undefined);
    await (await new Mutex(session, 'x').tryLock())?.unlock();
    await new RWLock(session, 'x').read(() => undefined);
    await new Semaphore(session, 'x', { limit: 2 }).run(() => undefined);
    await (await new Election(session, 'x').campaign('')).resign();
    await new MultiMutex(session, ['x']).run(() => undefined);
    for (const besideKey of [undefined, 'x.~upgrade', 'x.~limit'])
      assert.equal(lineIfUsed(client, { besideKey, name: 'x' }), undefined);
  });

  test('a hold whose line failed is followed again: it hears that its key is gone', async (t) => {
    const { client, proxy, scene, session } = await stage(t);
    const lock = await new Mutex(session, 'x').lock();
    const line = lineOf(client, 'x');
    await until(() => line.live, { what: 'the hold is followed' });
    const refused = proxy.onCall(RPC.watch, 'fail', {
      status: { code: 7, message: 'etcdserver: permission denied' },
      times: 1000,
    });
    proxy.cut();
    await until(() => line.error !== undefined, { what: 'the line has failed' });
    refused.release();
    assert.ok(lock.held);
    await scene.direct.kv.delete(lock.key);
    await until(() => lock.signal.aborted, { what: 'the hold hears that it is lost' });
    withCode('TICKET_LOST')(lock.signal.reason);
  });

  test('a key that is deleted and made anew while the watch is cut off is another one: the hold is lost', async (t) => {
    const { client, proxy, scene, session } = await stage(t);
    const lock = await new Mutex(session, 'x').lock();
    const line = lineOf(client, 'x');
    await until(() => line.live);
    await proxy.refuse();
    proxy.cut();
    await scene.direct.kv.delete(lock.key);
    await scene.direct.kv.put(lock.key, 'another', { leaseId: session.leaseId });
    // Both events are gone when the watch would resume: the line is read anew.
    const { revision } = await scene.direct.kv.put('y', '');
    await scene.direct.kv.compact(revision);
    await proxy.accept();
    await until(() => lock.signal.aborted, { what: 'the hold hears that it is lost' });
    withCode('TICKET_LOST')(lock.signal.reason);
    await scene.direct.kv.delete('y');
  });

  test('events that come late, of before the read that caught up, let nobody in past who is there', async (t) => {
    const { client, proxy, scene, session } = await stage(t);
    const { leaseId } = await scene.session(scene.direct, { ttlSeconds: 60 });
    const put = (key: string): Promise<unknown> => scene.direct.kv.put(key, '', { leaseId });
    await put('x/first');
    const reading = proxy.onCall(RPC.txn, 'holdRequest', { times: 1, where: onlyReads });
    const line = lineOf(client, 'x');
    const stopUsing = line.use();
    await reading.hit();
    const late = proxy.onCall(RPC.watch, 'holdReply');
    await scene.direct.kv.delete('x/first');
    await put('x/first');
    const waiting = new Mutex(session, 'x').lock();
    const end = fate(waiting);
    await scene.untilKeys('x/', 2);
    reading.release();
    await until(() => line.live);
    late.release();
    // When an event of now is here, the late ones have come.
    await put('x/last');
    await until(() => [...line.keys].length === 3);
    assert.deepEqual(
      [...line.keys].map(({ key }) => key),
      ['x/first', `x/${session.leaseId.toString(16)}`, 'x/last'],
    );
    assert.equal(end.state, 'pending');
    await scene.direct.kv.delete('x/first');
    await (await waiting).unlock();
    stopUsing();
  });

  test('an observer whose watch is cut sees every value that was written meanwhile', async (t) => {
    const { proxy, scene, session } = await stage(t);
    const leader = await scene.session(scene.direct, { ttlSeconds: 60 });
    const leadership = await new Election(leader, 'x').campaign('0');
    const seen: (string | undefined)[] = [];
    const stop = new AbortController();
    const watching = (async (): Promise<void> => {
      for await (const info of new Election(session, 'x').observe({ signal: stop.signal })) {
        seen.push(info?.string());
      }
    })();
    watching.catch(() => undefined); // It may reject before it is waited for.
    await until(() => seen.length === 1);
    await proxy.refuse();
    proxy.cut();
    for (let n = 1; n <= 20; n++) await leadership.proclaim(String(n));
    await proxy.accept();
    await until(() => seen.at(-1) === '20');
    stop.abort(new Error('enough'));
    await assert.rejects(watching, /enough/);
    assert.deepEqual(
      seen,
      Array.from({ length: 21 }, (_, n) => String(n)),
    );
    await leadership.resign();
  });

  test('keys that are not UTF-8 are told from one another: nobody is let in past one of them', async (t) => {
    const { scene, session } = await stage(t);
    const { leaseId } = await scene.session(scene.direct, { ttlSeconds: 60 });
    const [first, second] = [0xff, 0xfe].map((byte) => Buffer.from([...Buffer.from('x/'), byte]));
    assert.ok(first !== undefined && second !== undefined);
    await scene.direct.kv.put(first, '', { leaseId });
    await scene.direct.kv.put(second, '', { leaseId });
    const waiting = new Mutex(session, 'x').lock();
    const end = fate(waiting);
    const { client } = session;
    await until(() => [...lineOf(client, 'x').keys].length === 3, { what: 'the line has all three' });
    await scene.direct.kv.delete(second);
    await until(() => [...lineOf(client, 'x').keys].length === 2, { what: 'the line has two' });
    assert.equal((await new Mutex(session, 'x').inspect()).holders.length, 1);
    assert.equal(end.state, 'pending');
    await scene.direct.kv.delete(first);
    await (await waiting).unlock();
  });

  test('an event of a line tells those whom it is about, and not every hold of it', async (t) => {
    const scene = new Scene(t, backend);
    const session = await scene.session(scene.direct, { ttlSeconds: 60 });
    const line = lineOf(session.client, 'x');
    const lock = await new Mutex(session, 'x').lock();
    let told = 0;
    const stop = line.follow({
      changed: () => {
        told++;
      },
      createRevision: lock.createRevision,
      gone: () => assert.fail('it is there'),
      key: lock.key,
    });
    await until(() => line.live);
    const before = told;
    const other = await scene.session(scene.direct, { ttlSeconds: 60 });
    await scene.direct.kv.put('x/other', '', { leaseId: other.leaseId });
    await until(() => line.keyAfter(lock.key)?.key === 'x/other');
    assert.equal(told, before);
    await scene.direct.kv.put(lock.key, 'touched', { leaseId: session.leaseId });
    await until(() => told === before + 1);
    stop();
    await lock.unlock();
  });
});
